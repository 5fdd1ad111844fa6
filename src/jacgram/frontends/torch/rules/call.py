"""What a rule is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch

from jacgram.frontends.torch.tape import Reading


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A call that reads at least one weight: a tensor computed from parameters alone.

    Attributes:
        func: the function, as a `TorchFunctionMode` sees it.
        args, kwargs: its arguments.
        is_weight: whether an argument is a weight.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_weight: Callable[[Any], bool]

    def bind(self, *names: str, **defaults: Any) -> list[Any]:
        """Arguments by position or name. Those without a default are required.

        Raises:
            UnreadableCallError: an argument is missing, or unknown (``out=``, say).
        """
        known = [*names, *defaults]
        given = dict(zip(known, self.args, strict=False))
        if len(self.args) > len(known) or not self.kwargs.keys() <= set(known):
            raise UnreadableCallError
        values = defaults | given | self.kwargs
        if missing := [name for name in names if name not in values]:
            raise UnreadableCallError(missing)
        return [values[name] for name in known]


class UnreadableCallError(Exception):
    """A rule cannot read the call; its weights are then read whole."""


@final
@dataclass(frozen=True, slots=True)
class Used:
    """What a rule gives back.

    Attributes:
        output: what the readings' cotangents belong to: the call's result, unless there is more to it.
        readings: how it reads each of its weights; readings of anything else are ignored.
        after: makes the call's result of the output, where it is something else.
    """

    output: torch.Tensor
    readings: Sequence[Reading] = field(default_factory=tuple[Reading, ...])
    after: Callable[[torch.Tensor], torch.Tensor] | None = None


Rule = Callable[[Call], Used | None]
"""Runs a call and says how it reads its weights; None where it cannot say, having run nothing in place."""


def axes(prefix: str, count: int) -> tuple[str, ...]:
    """Labels ``prefix0, prefix1, …``."""
    return tuple(f"{prefix}{axis}" for axis in range(count))

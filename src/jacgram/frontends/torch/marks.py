"""What a tensor under ``vmap`` is made of: its values for all examples at once, example axis first.

`torch.func` hides the example axis, and where it lies. A custom `torch.autograd.Function` is told: its ``vmap`` rule
gets the underlying tensor and the position of the axis. `Mark` hands them on and changes nothing. Where f runs ``vmap``
itself, the rule is called once per level, innermost first, so the example axis ends up in front. Under a single level
the tensor is opened at once instead, for a custom function costs more there than most of the calls that are recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch

from jacgram.frontends.torch.compat import batched, is_view, unbatched

Seen = Callable[[torch.Tensor], torch.Tensor]
"""Gets the tensor ``(n, *inner, *shape)``, and gives the one that the program goes on with."""


def is_batched(tensor: torch.Tensor) -> bool:
    """Whether the tensor differs between examples of some ``vmap``."""
    return torch.func.debug_unwrap(tensor) is not tensor


@final
class Mark(torch.autograd.Function):
    """The identity, telling ``seen`` of the tensor under all levels of ``vmap``."""

    @staticmethod
    def forward(x: torch.Tensor, seen: Seen) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Without ``vmap`` there is nothing to tell: see `mark`."""
        del seen
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""
        del ctx, inputs, output

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradient as it is."""
        del ctx
        return grad, None

    @staticmethod
    def jvp(ctx: Any, tangent: torch.Tensor, _: None) -> torch.Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The tangent as it is."""
        del ctx
        return tangent.view_as(tangent)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: torch.Tensor, seen: Seen) -> tuple[torch.Tensor, int]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One level further down, with that level's axis in front."""
        del info
        return mark(x if in_dims[0] == 0 else x.movedim(in_dims[0], 0), seen), 0


def mark(tensor: torch.Tensor, seen: Seen) -> torch.Tensor:
    """The tensor that the program goes on with, after ``seen`` was told what it is made of."""
    if torch.func.debug_unwrap(tensor) is tensor:
        return seen(tensor)
    if (found := unbatched(tensor)) is not None:
        inside, axis, level = found
        kept = seen(inside if axis == 0 else inside.movedim(axis, 0))
        return tensor if kept is inside else batched(kept, level)
    result: Any = Mark.apply(tensor, seen)
    return result


def own_memory(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy where it is a view: a later write to a view would replace the gradient edge just noted."""
    return tensor.clone() if is_view(tensor) else tensor

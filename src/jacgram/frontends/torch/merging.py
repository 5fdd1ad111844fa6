"""Uses of examples that were recorded one at a time, laid side by side.

Examples may take different paths (experts, branches), and use a weight at different numbers of positions. Uses that
agree in leaf, view and kind are matched in order of appearance, their positions filled up with zeros; an example that
lacks a use has zeros throughout. Zeros add nothing to rows, so this is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from jacgram.core.uses import Use

Key = tuple[Any, ...]


@dataclass(slots=True)
class Slot:
    """Sizes that hold the operands of a use in every example: those of one example, the seeds' axis included."""

    use: Use
    activation: list[int] | None
    cotangent: list[int]

    def widen(self, use: Use) -> None:
        """Make room for another example's."""
        self.cotangent = [max(pair) for pair in zip(self.cotangent, use.cotangent.shape[1:], strict=True)]
        if self.activation is not None:
            self.activation = [max(pair) for pair in zip(self.activation, use.activation.shape[1:], strict=True)]


@dataclass(slots=True)
class Layout:
    """The uses that some example has, in order of first appearance."""

    slots: dict[Key, Slot] = field(default_factory=dict[Key, Slot])

    def include(self, uses: Sequence[Use]) -> None:
        """Make room for one example's uses ``(1, …)``."""
        for key, use in _keyed(uses).items():
            if key in self.slots:
                self.slots[key].widen(use)
            else:
                activation = None if use.activation is None else list(use.activation.shape[1:])
                self.slots[key] = Slot(use, activation, list(use.cotangent.shape[1:]))


def merged(layout: Layout, examples: Sequence[Sequence[Use]], device: torch.device | str, n_seeds: int) -> list[Use]:
    """Uses of all examples ``(n, …)`` for so many seeds, one per slot; cotangents shared in every example are shared.

    The number of seeds is that of the call, not of the one that made the layout.
    """
    keyed = [_keyed(uses) for uses in examples]
    stacks: dict[Any, torch.Tensor] = {}
    result: list[Use] = []
    for key, slot in layout.slots.items():
        found = [uses.get(key) for uses in keyed]
        cotangents = [None if use is None else use.cotangent for use in found]
        activation = None
        if slot.activation is not None:
            activations = [None if use is None else use.activation for use in found]
            activation = _stacked(stacks, activations, slot.activation, slot.use.activation.dtype, device)
        sizes = [n_seeds, *slot.cotangent[1:]]
        cotangent = _stacked(stacks, cotangents, sizes, slot.use.cotangent.dtype, device)
        result.append(Use(slot.use.leaf, slot.use.view, slot.use.kind, activation, cotangent))
    return result


def _keyed(uses: Sequence[Use]) -> dict[Key, Use]:
    """Uses by what they must agree in, and by how many such came before."""
    counts: dict[Key, int] = {}
    keyed: dict[Key, Use] = {}
    for use in uses:
        alike = use.leaf, use.view, use.kind
        counts[alike] = counts.get(alike, 0) + 1
        keyed[*alike, counts[alike]] = use
    return keyed


def _stacked(
    stacks: dict[Any, torch.Tensor],
    parts: Sequence[torch.Tensor | None],
    sizes: Sequence[int],
    dtype: torch.dtype,
    device: torch.device | str,
) -> torch.Tensor:
    key = tuple(None if part is None else id(part) for part in parts), tuple(sizes), dtype
    if key not in stacks:
        stacks[key] = torch.cat([_filled(part, sizes, dtype, device) for part in parts])
    return stacks[key]


def _filled(
    part: torch.Tensor | None, sizes: Sequence[int], dtype: torch.dtype, device: torch.device | str
) -> torch.Tensor:
    if part is None:
        return torch.zeros((1, *sizes), dtype=dtype, device=device)
    if list(part.shape[1:]) == list(sizes):
        return part
    missing = [size - have for size, have in zip(sizes, part.shape[1:], strict=True)]
    return torch.nn.functional.pad(part, [pad for size in reversed(missing) for pad in (0, size)])

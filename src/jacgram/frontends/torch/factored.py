"""Cotangents as a small core times a scale.

Behind a mean over positions, say, a cotangent is the same at every position, or the same up to factors that no seed has
a part in. Both are tensors that are expanded along axes where they are repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

FOLDED = (torch.float32, torch.float64)
"""Real numbers whose sums over positions keep their digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A cotangent ``core · scale · number``, with strides of zero along axes where core or scale is repeated.

    Attributes:
        core: with an axis of seeds, ahead of the others on the way back, ``(n, s, …)`` at its end.
        scale: the same without it; None for one.
        number: what is the same for all examples, which the shape of a scale of one example would not tell.
    """

    core: torch.Tensor
    scale: torch.Tensor | None = None
    number: float = 1.0

    def whole(self, seeds: int = 0) -> torch.Tensor:
        """The cotangent as one tensor, with its seeds at this axis."""
        if self.scale is None and self.number == 1:
            return self.core
        if self.core.is_meta:  # whose products are computed in Python, and load half of PyTorch first
            return torch.empty(self.core.shape, dtype=self.core.dtype, device="meta")
        small = compact(self.core) * self.number
        return (small if self.scale is None else small * compact(self.scale).unsqueeze(seeds)).expand(self.core.shape)

    def times(self, factor: torch.Tensor | float) -> Factored:
        """Times a number, or a tensor of the axes that follow the seeds."""
        if not isinstance(factor, torch.Tensor):
            return Factored(self.core, self.scale, self.number * factor)
        scale = factor if self.scale is None else _expanded(torch.mul, self.scale, factor)
        return Factored(self.core, scale, self.number)

    def both(self, function: Callable[[torch.Tensor, int], torch.Tensor]) -> Factored:
        """A function of core and scale alike, and of the number of axes that are ahead of the node's own."""
        scale = None if self.scale is None else function(self.scale, 0)
        return Factored(function(self.core, 1), scale, self.number)

    def plus(self, other: Factored) -> Factored | None:
        """The sum of two of one core, or of two without scales."""
        if self.scale is None and other.scale is None:
            cores = (_expanded(torch.mul, part.core, part.core.new_tensor(part.number)) for part in (self, other))
            return Factored(_expanded(torch.add, *cores))
        if self.core is not other.core:
            return None
        shape = self.core.shape[1:]
        scales = (
            part.number * (self.core.new_ones(()) if part.scale is None else compact(part.scale))
            for part in (self, other)
        )
        return Factored(self.core, torch.add(*scales).expand(shape))


def compact(tensor: torch.Tensor) -> torch.Tensor:
    """One entry along axes where a tensor is repeated."""
    return tensor[tuple(slice(0, 1) if repeated else slice(None) for repeated in repeats(tensor))]


def repeats(tensor: torch.Tensor) -> list[bool]:
    """Which axes a tensor is repeated along."""
    return [size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]


def _expanded(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], left: torch.Tensor, right: torch.Tensor
) -> torch.Tensor:
    return function(compact(left), compact(right)).expand(left.shape)

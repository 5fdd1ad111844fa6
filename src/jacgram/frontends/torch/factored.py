"""Cotangents as a small core times a scale.

Behind a mean over positions, say, a cotangent is the same at every position, or the same up to factors that no seed has
a part in. Both are tensors that are expanded along axes where they are repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

FOLDED = (torch.float32, torch.float64)
"""Real numbers whose sums over positions keep their digits."""


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A cotangent ``core · scale``, with strides of zero along axes where either is repeated.

    Attributes:
        core: with an axis of seeds, ahead of the others on the way back, ``(n, s, …)`` at its end.
        scale: the same without it; None for one.
    """

    core: torch.Tensor
    scale: torch.Tensor | None = None

    def whole(self, seeds: int = 0) -> torch.Tensor:
        """The cotangent as one tensor, with its seeds at this axis."""
        if self.scale is None:
            return self.core
        if self.core.is_meta:  # whose products are computed in Python, and load half of PyTorch first
            return torch.empty(self.core.shape, dtype=self.core.dtype, device="meta")
        return (compact(self.core) * compact(self.scale).unsqueeze(seeds)).expand(self.core.shape)

    def times(self, factor: torch.Tensor) -> Factored:
        """Times a tensor of the axes that follow the seeds."""
        return Factored(self.core, factor if self.scale is None else _expanded(torch.mul, self.scale, factor))

    def both(self, function: Callable[[torch.Tensor, int], torch.Tensor]) -> Factored:
        """A function of core and scale alike, and of the number of axes that are ahead of the node's own."""
        return Factored(function(self.core, 1), None if self.scale is None else function(self.scale, 0))

    def plus(self, other: Factored) -> Factored | None:
        """The sum of two of one core, or of two whose scales are numbers."""
        if self.core is other.core:
            scales = [self.core.new_ones(()) if part.scale is None else part.scale for part in (self, other)]
            return Factored(self.core, _expanded(torch.add, *scales, shape=self.core.shape[1:]))
        cores = self._core_alone(), other._core_alone()
        return None if cores[0] is None or cores[1] is None else Factored(_expanded(torch.add, cores[0], cores[1]))

    def _core_alone(self) -> torch.Tensor | None:
        """The core times its scale where that is a number."""
        if self.scale is None:
            return self.core
        number = compact(self.scale)
        return _expanded(torch.mul, self.core, number) if number.numel() == 1 else None


def compact(tensor: torch.Tensor) -> torch.Tensor:
    """One entry along axes where a tensor is repeated."""
    return tensor[tuple(slice(0, 1) if repeated else slice(None) for repeated in repeats(tensor))]


def repeats(tensor: torch.Tensor) -> list[bool]:
    """Which axes a tensor is repeated along."""
    return [size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]


def _expanded(
    function: Callable[..., torch.Tensor], left: torch.Tensor, right: torch.Tensor, shape: Sequence[int] | None = None
) -> torch.Tensor:
    return function(compact(left), compact(right)).expand(left.shape if shape is None else tuple(shape))

"""Cotangents as a small core times a scale.

Behind a mean over positions, say, a cotangent is the same at every position, or the same up to factors that no seed has
a part in. Both are tensors that are expanded along axes where they are repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

FOLDED = (torch.float32, torch.float64)
"""Dtypes of cotangents that are taken apart: of real numbers, and of no less precision than sums are to have."""


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A cotangent ``core · scale · number``, with strides of zero along axes where core or scale is repeated.

    Attributes:
        core: ``(n, s, …)``.
        scale: ``(n, …)``; None for one.
        number: what is the same for all.
    """

    core: torch.Tensor
    scale: torch.Tensor | None = None
    number: float = 1.0

    @property
    def whole(self) -> torch.Tensor:
        """The cotangent as one tensor."""
        if self.scale is None and self.number == 1:
            return self.core
        if self.core.is_meta:  # whose products are computed in Python, and load half of PyTorch first
            return torch.empty(self.core.shape, dtype=self.core.dtype, device="meta")
        small = compact(self.core) * self.number
        return (small if self.scale is None else small * compact(self.scale).unsqueeze(1)).expand(self.core.shape)


def compact(tensor: torch.Tensor) -> torch.Tensor:
    """One entry along axes where a tensor is repeated."""
    return tensor[tuple(slice(0, 1) if repeated else slice(None) for repeated in repeats(tensor))]


def repeats(tensor: torch.Tensor) -> list[bool]:
    """Which axes a tensor is repeated along."""
    return [size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)]

"""What was found is compared with autograd's own gradient: one ordinary backward pass of the batch, on first use.

For random weights c of examples and seeds, ``Σ c[n, s] rows[n, s]`` must be the gradient of ``Σ c[n, s] seed[s] y[n]``.
Examples with a value that is not finite are left out, for nothing can be compared there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from jacgram.frontends.torch.checks import Seen, key_of, tolerance
from jacgram.frontends.torch.products import fresh, pullback

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_rows_seen = Seen()


def rows_add_up(side: TorchSide, seeds: Sequence[torch.Tensor], rows: Sequence[torch.Tensor]) -> bool:
    """Whether rows ``(n, s, *leaf)`` are those of an ordinary backward pass; known from the last time, or computed."""
    key = key_of(side), len(seeds[0])
    known = _rows_seen.get(side.program.f, key)
    if known is None:
        weights = random_weights(side, len(seeds[0]), [row.detach() for row in rows])
        sums = [torch.einsum("ns,ns...->...", weights.to(row.dtype), _masked(row.detach(), weights)) for row in rows]
        known = agree(side, sums, reference(side, seeds, weights))
        _rows_seen.put(side.program.f, key, known)
    return known


def _masked(row: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Rows with zeros where the weight is zero, so that what is not finite there does not spread."""
    used = (weights != 0).reshape(*weights.shape, *(1,) * (row.ndim - 2))
    return torch.where(used, row, torch.zeros((), dtype=row.dtype, device=row.device))


def random_weights(side: TorchSide, n_seeds: int, finite: Sequence[torch.Tensor]) -> torch.Tensor:
    """Random c ``(n, s)``, zero for examples where a tensor ``(n, ...)`` of ``finite`` is not finite."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((side.n, n_seeds), generator=generator, dtype=torch.float64).to(side.device)
    for tensor in finite:
        keep = tensor.isfinite().reshape(side.n, -1).all(1)
        weights = torch.where(keep[:, None], weights, torch.zeros_like(weights))
    return weights


def reference(side: TorchSide, seeds: Sequence[torch.Tensor], weights: torch.Tensor) -> list[torch.Tensor]:
    """``Jᵀ`` of the weighted seeds, by one ordinary backward pass of the examples that have a weight."""
    kept = (weights != 0).any(1)
    if not bool(kept.any()):
        return [torch.zeros_like(leaf) for leaf in side.leaves]
    with side.calling():
        leaves = fresh(side.leaves, create_graph=False)
        outputs = side.flat(leaves, [leaf[kept.to(leaf.device)] for leaf in side.inputs()])
        cotangents = [torch.einsum("ns,s...->n...", weights[kept].to(seed.dtype), seed) for seed in seeds]
        if not side.has_examples:
            cotangents = [v[0] for v in cotangents]
        return pullback(outputs, leaves, cotangents)


def agree(side: TorchSide, sums: Sequence[torch.Tensor], expected: Sequence[torch.Tensor]) -> bool:
    """Whether two gradients are equal up to rounding, on the scale of each leaf."""
    for a, b in zip(sums, expected, strict=True):
        gap, scale = (a - b).abs(), torch.maximum(a.abs(), b.abs())
        if gap.numel() and not bool(gap.max() <= tolerance(side) * scale.max()):
            return False
    return True

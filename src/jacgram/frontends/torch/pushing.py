"""J applied to a tangent, in forward mode where that agrees with backward mode.

PyTorch's two modes are written separately, and have disagreed (padding rows of embeddings). On first use of a function
``<v, J u>`` is compared with ``<Jᵀ v, u>`` for random u and v; where they differ the pushforward is taken as a backward
pass of the backward pass, which cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from jacgram.frontends.torch.calling import Precisions
from jacgram.frontends.torch.checks import Seen, state_of, tolerance
from jacgram.frontends.torch.products import Tensors, constants, detached, fresh, pullback, pushforward, twice_backward
from jacgram.frontends.torch.recorder import OpenCalls
from jacgram.frontends.torch.recording import random_seeds

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_agrees = Seen()


def pushed(side: TorchSide, tangents: Sequence[torch.Tensor]) -> Tensors:
    """J applied to tangents shaped as the variable, for at least one example.

    Raises:
        UnsupportedError: an operation has neither a forward derivative nor a second backward one.
    """
    key = state_of(side)
    known = _agrees.get(side.program.f, key)
    with side.calling(), OpenCalls(higher_orders=side.create_graph):
        leaves = constants(side.leaves, side.create_graph)
        if side.create_graph:
            return twice_backward(side.flat, leaves, tangents)
        if known is None:
            known = _agree(side)
            _agrees.put(side.program.f, key, known)
        if known:
            return detached(pushforward(side.flat, leaves, tangents), create_graph=False)
        side.note("J @ u is a backward pass of the backward pass, for forward mode differs from backward mode")
        return detached(twice_backward(side.flat, leaves, tangents), create_graph=False)


def _agree(side: TorchSide) -> bool:
    """Whether ``<v, J u> = <Jᵀ v, u>`` for one random pair; true where the sums are not finite."""
    generator = torch.Generator().manual_seed(2)
    tangents = [torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator).to(leaf.device) for leaf in side.leaves]
    found = pushforward(side.flat, constants(side.leaves), tangents)
    per_example = random_seeds(side, side.n if side.has_examples else 1)
    v = per_example if side.has_examples else [seed[0] for seed in per_example]
    leaves = fresh(side.leaves, create_graph=False)
    with Precisions() as seen:
        outputs = side.flat(leaves)
    pulled = pullback(outputs, leaves, v)
    left = [(a.detach() * b).flatten() for a, b in zip(found, v, strict=True)]
    right = [(a * b.detach()).flatten() for a, b in zip(pulled, tangents, strict=True)]
    gap = _total(left) - _total(right)
    gap = gap.real if side.real_part else gap
    scale = sum(float(part.abs().sum()) for part in (*left, *right))
    return not bool(gap.isfinite()) or float(gap.abs()) <= tolerance(side, seen.coarsest) * scale


def _total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The sum of all entries, in double precision."""
    is_complex = any(part.is_complex() for part in parts)
    wide = torch.complex128 if is_complex else torch.float64
    return torch.stack([part.to(wide).sum() for part in parts]).sum()

"""Backward passes of matrix products for all seeds by the faster of two libraries (`jacgram.arrays.torch_onednn`).

Under ``vmap`` over seeds the node of a product multiplies every seed's cotangent by the right factor with the library
that PyTorch has multiply matrices. Here it is given zeros, without seeds, which cost it one seed's time, and what it
makes of them is replaced. A node that leads to its right factor too is left as it is. Hooks that f itself puts behind
such a node see zeros, and nothing is made of what they return.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch.autograd.graph import Node

from jacgram.arrays.torch_onednn import is_faster, multiplied
from jacgram.frontends.torch.compat import batched, saved, unbatched
from jacgram.frontends.torch.nodes import repeated

PRODUCT = "MmBackward0"
"""Name of the nodes."""

_LEAST_SEEDS = 4  # of which one is multiplied for nothing
_LEAST_FLOPS = 1 << 27  # for all seeds, from which hooks and the copy of what is found are made up for


def wants_products(node: Node, leading: Collection[int]) -> bool:
    """Whether a node is a product of which only the left factor leads to what is asked for, and oneDNN is faster."""
    if node.name() != PRODUCT:
        return False
    (left, _), (right, _) = node.next_functions
    return id(left) in leading and id(right) not in leading and is_faster()


def watch(node: Node) -> list[Any]:
    """Hooks ahead of and behind a node that `wants_products`."""
    factor = saved(node, "mat2").T
    found: list[torch.Tensor] = []

    def given_zeros(given: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor] | None:
        (cotangent,) = given
        product = None if cotangent is None else _product(cotangent, factor)
        if cotangent is None or product is None:
            return None
        found.append(product)
        return (repeated(0, cotangent, cotangent.shape),)

    def replaced(made: Sequence[torch.Tensor | None], _: Any) -> tuple[torch.Tensor | None, ...] | None:
        return (found.pop(), *made[1:]) if found else None

    return [node.register_prehook(given_zeros), node.register_hook(replaced)]


def _product(cotangent: torch.Tensor, factor: torch.Tensor) -> torch.Tensor | None:
    """The cotangent times a matrix, seed by seed; None where nothing is gained, or more than seeds are mapped over."""
    apart = unbatched(cotangent) if cotangent.dtype == factor.dtype == torch.float32 else None
    if apart is None or torch.func.debug_unwrap(factor) is not factor:
        return None
    held, axis, level = apart
    rows = held.movedim(axis, 0)
    seeds, count, summed = rows.shape
    if seeds < _LEAST_SEEDS or 2 * rows.numel() * factor.shape[1] < _LEAST_FLOPS:
        return None
    out = held.new_empty((seeds, count, factor.shape[1]))
    with torch.no_grad():
        if not multiplied(rows.reshape(1, seeds * count, summed), factor[None], out.view(1, seeds * count, -1)):
            return None
    return batched(out, level)

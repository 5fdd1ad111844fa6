"""Uses read off autograd's own graph, which holds what recorded calls do not show: weights in derivatives within f.

f runs once on the whole batch, without ``vmap``. From each parameter's node the graph is followed through views to the
nodes that mix it with data (`graph_nodes`), which hold the activation. Their outputs have no example axis that could be
told by shape, so it is found by value: beside the backward passes for the seeds, one is made for a mixture of them
times a known number per example, and the ratio of every row to the mixture of its cotangents says whose it is. A leaf
with a row of several examples is not read here. Rows to which no seed leads may be anyone's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.core.uses import Einsum, Use
from jacgram.frontends.torch.compat import known_loops
from jacgram.frontends.torch.graph_nodes import GraphReading, UnreadableGraphError, read_nodes
from jacgram.frontends.torch.products import fresh

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide


def graph_uses(
    side: TorchSide, seeds: Sequence[torch.Tensor], skipped: frozenset[int]
) -> tuple[list[Use], tuple[Any, ...], dict[int, str]]:
    """Uses of every leaf not in ``skipped``, what tells one sequence of them from another, and leaves not read here.

    A leaf is not read where an operation that it is used in is not known here, or has rows of several examples.

    Args:
        side: f at a point, with at least one example. Call it within `TorchSide.calling`.
        seeds: per output leaf ``(s, *output)`` in its dtype.
        skipped: leaves to leave out.
    """
    leaves = [leaf if leaf.is_contiguous() else leaf.contiguous() for leaf in fresh(side.leaves, create_graph=False)]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    outputs = side.flat(leaves)
    side.require_shapes(outputs)
    if any(t.is_complex() for t in (*leaves, *outputs)):
        return [], (), dict.fromkeys(range(len(leaves)), "complex numbers")
    readings, unread = read_nodes(outputs, leaves, skipped)
    rows: list[torch.Tensor] = []
    if readings:
        passes = _Passes(outputs, readings)
        found = passes.of_seeds(seeds)
        mixture = 1 + torch.rand(len(seeds[0]), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        scaled = passes.of_mixture(seeds, mixture)
        for reading in readings:
            try:
                rows.append(_owners(reading, mixture, found[id(reading.node)], scaled[id(reading.node)], side.n))
            except UnreadableGraphError as error:
                unread.setdefault(reading.leaf, str(error))
                rows.append(torch.zeros(0))
        kept = [(reading, row) for reading, row in zip(readings, rows, strict=True) if reading.leaf not in unread]
        uses = [_use(reading, row, found[id(reading.node)]) for reading, row in kept]
    else:
        uses = []
    signature = tuple(("graph", u.leaf, u.view, u.kind, tuple(u.cotangent.shape[2:])) for u in uses)
    return uses, (signature, ()), unread


class _Passes:
    """Backward passes from the outputs to the nodes read."""

    def __init__(self, outputs: Sequence[torch.Tensor], readings: Sequence[GraphReading]) -> None:
        self._outputs = [y for y in outputs if y.requires_grad]
        self._kept = [k for k, y in enumerate(outputs) if y.requires_grad]
        self._edges = {id(r.node): GradientEdge(r.node, 0) for r in readings}

    def of_seeds(self, seeds: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        """By node, the cotangents ``(s, *shape)`` of all seeds, the same for every example."""
        expanded = [
            seeds[k][:, None].expand(len(seeds[k]), *y.shape) for k, y in zip(self._kept, self._outputs, strict=True)
        ]
        if len(expanded[0]) == 1:
            return {node: found[None] for node, found in self._pulled([seed[0] for seed in expanded]).items()}
        with known_loops():
            return torch.func.vmap(self._pulled)(expanded)

    def of_mixture(self, seeds: Sequence[torch.Tensor], mixture: torch.Tensor) -> dict[int, torch.Tensor]:
        """By node, the cotangent ``(*shape)`` of the seeds times a factor each, times k + 1 for example k."""
        vectors: list[torch.Tensor] = []
        for k, y in zip(self._kept, self._outputs, strict=True):
            mixed = torch.tensordot(mixture.to(seeds[k]), seeds[k], 1)
            number = torch.arange(1, len(y) + 1, device=y.device).reshape(-1, *(1,) * (y.ndim - 1))
            vectors.append((number * mixed).to(y))
        return self._pulled(vectors)

    def _pulled(self, vectors: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
        found: Any = torch.autograd.grad(self._outputs, list(self._edges.values()), vectors, retain_graph=True)
        return dict(zip(self._edges, found, strict=True))


def _owners(
    reading: GraphReading, mixture: torch.Tensor, cotangents: torch.Tensor, scaled: torch.Tensor, n: int
) -> torch.Tensor:
    """Rows of each example, ``(n, t)``. Rows without any cotangent are dealt out so that all have equally many."""
    mixed = torch.tensordot(mixture.to(cotangents.device), cotangents.double(), 1)
    one, two = (
        rows.reshape(len(rows), -1)
        for rows in (reading.cotangent_rows(mixed[None])[0], reading.cotangent_rows(scaled.double()[None])[0])
    )
    if one.shape[0] % n:
        raise UnreadableGraphError(f"{reading.name}, whose rows are not equally many for each example")
    largest = one.abs().max(1)
    at = largest.indices[:, None]
    ratio = (two.gather(1, at) / one.gather(1, at))[:, 0]
    owner = torch.where(largest.values > 0, ratio.round() - 1, -1).long()
    gap = (two - (owner[:, None] + 1) * one).abs().max(1).values
    tolerance = torch.finfo(cotangents.dtype).eps ** 0.5 * two.abs().max(1).values
    if bool(((gap > tolerance) | (owner >= n) | (owner < -1)).any()):
        raise UnreadableGraphError(f"{reading.name}, whose rows belong to several examples")
    return _dealt(reading, owner, n)


def _dealt(reading: GraphReading, owner: torch.Tensor, n: int) -> torch.Tensor:
    share = len(owner) // n
    free, *held = torch.bincount(owner + 1, minlength=n + 1).tolist()
    if any(count > share for count in held):
        raise UnreadableGraphError(f"{reading.name}, whose rows are not equally many for each example")
    if free:
        owed = torch.tensor([share - count for count in held], device=owner.device)
        dealt = torch.repeat_interleave(torch.arange(n, device=owner.device), owed)
        owner = owner.masked_scatter(owner == -1, dealt)
    return owner.argsort(stable=True).reshape(n, share)


def _use(reading: GraphReading, rows: torch.Tensor, cotangent: torch.Tensor) -> Use:
    """The use with its rows sorted by example."""
    n, t = rows.shape
    g = reading.cotangent_rows(cotangent)
    g = g.index_select(1, rows.reshape(-1)).unflatten(1, (n, t)).transpose(0, 1)
    a = reading.activation_rows(tuple(cotangent.shape[1:]))
    if a is not None:
        a = a.index_select(0, rows.reshape(-1)).unflatten(0, (n, t)).detach()
    kind = Einsum(
        None if a is None else ("t", *reading.activation_axes),
        ("t", *reading.cotangent_axes(tuple(cotangent.shape[1:]))),
        reading.weight_axes,
    )
    if reading.scale != 1:
        g, a = (g * reading.scale, None) if a is None else (g, a * reading.scale)
    return Use(reading.leaf, reading.view, kind, a, g)

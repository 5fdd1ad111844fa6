"""Cotangents of a tape's outputs for all seeds: a backward pass under ``vmap`` over them, or, where large, one each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.frontends.torch.assemble import Cotangents
from jacgram.frontends.torch.compat import known_loops, no_hidden_loops
from jacgram.frontends.torch.tape import Tape, edge_key

_LARGE_BYTES = 1 << 20  # of a cotangent, by and large, from which a call for each seed costs less than it saves


def cotangents_of(
    tape: Tape, seeds: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], *, create_graph: bool, looped: bool
) -> tuple[Cotangents, str | None]:
    """By edge, cotangents ``(n, s, *shape)`` in the sense of `products`: rows not conjugated, complex where J is.

    Args:
        tape: what was recorded, its graph alive.
        seeds: per output leaf ``(s, *output)`` in its dtype.
        leaves: the variable's leaves; where they are real and y is complex, two backward passes are made.
        create_graph: whether cotangents can be differentiated.
        looped: whether seeds are taken one by one, without ``vmap``.

    Returns:
        The cotangents, and what is to be said of how they were found.
    """
    edges = {edge_key(entry.edge): entry.edge for entry in tape.entries}
    shapes = {edge_key(entry.edge): entry.output for entry in tape.entries}
    if not edges:
        return {}, None
    pull = _Pull(tape, list(edges.values()), list(shapes.values()), create_graph=create_graph)
    found, note = pull.all(seeds, looped=looped)
    if any(y.is_complex() for y in tape.outputs) and not all(leaf.is_complex() for leaf in leaves):
        turned = [1j * seed if seed.is_complex() else torch.zeros_like(seed) for seed in seeds]
        second, _ = pull.all(turned, looped=looped)
        found = [
            a.conj().resolve_conj() if a.is_complex() else torch.complex(a, b)
            for a, b in zip(found, second, strict=True)
        ]
    elif any(g.is_complex() for g in found):
        found = [g.conj().resolve_conj() for g in found]
    return dict(zip(edges, found, strict=True)), note


class _Pull:
    """Backward passes from the outputs of one tape to its edges."""

    def __init__(
        self, tape: Tape, edges: list[GradientEdge], shapes: list[torch.Tensor], *, create_graph: bool
    ) -> None:
        self._live = [k for k, y in enumerate(tape.outputs) if y.requires_grad]
        self._outputs = [tape.outputs[k] for k in self._live]
        self._edges = edges
        self._shapes = shapes
        self._n = tape.n
        self._create_graph = create_graph

    def one(self, *seeds: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The cotangents ``(n, *shape)`` for one seed of every example; zeros where no output depends on them."""
        found: Any = torch.autograd.grad(
            self._outputs, self._edges, [seed.expand(y.shape) for seed, y in zip(seeds, self._outputs, strict=True)],
            retain_graph=True, create_graph=self._create_graph, allow_unused=True,
        )  # fmt: skip
        like = seeds[0]
        return tuple(
            torch.zeros(shape.shape, dtype=shape.dtype, device=like.device) if grad is None else grad
            for grad, shape in zip(found, self._shapes, strict=True)
        )

    def all(self, seeds: Sequence[torch.Tensor], *, looped: bool) -> tuple[list[torch.Tensor], str | None]:
        """The cotangents ``(n, s, *shape)`` for all seeds ``(s, *output)``."""
        n_seeds = len(seeds[0])
        if not self._live or not n_seeds:
            like = seeds[0]
            return [
                torch.zeros((self._n, n_seeds, *shape.shape[1:]), dtype=shape.dtype, device=like.device)
                for shape in self._shapes
            ], None
        lived = [seeds[k] for k in self._live]
        if not looped and n_seeds > 1 and self._is_large():
            return self._side_by_side(lived), None
        found, note = self._looped(lived) if looped else self._at_once(lived)
        return [
            g.reshape(n_seeds, *shape.shape).movedim(0, 1) for g, shape in zip(found, self._shapes, strict=True)
        ], note

    def _is_large(self) -> bool:
        """Whether one seed's cotangents keep the processor busy for longer than the calls that make them take.

        Seeds are then best taken in turn: what is between two calls stays in cache, and no batching rule lays inputs
        out once for every seed, as that of a convolution does.
        """
        if self._create_graph or any(y.device.type != "cpu" for y in self._outputs):
            return False
        return sum(shape.nbytes for shape in self._shapes) >= _LARGE_BYTES * len(self._shapes)

    def _side_by_side(self, seeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The cotangents ``(n, s, *shape)``, seed by seed, each put in its place."""
        n_seeds = len(seeds[0])
        found = [
            torch.empty((self._n, n_seeds, *shape.shape[1:]), dtype=shape.dtype, device=seeds[0].device)
            for shape in self._shapes
        ]
        for s in range(n_seeds):
            for every, one in zip(found, self.one(*(seed[s] for seed in seeds)), strict=True):
                every[:, s] = one.reshape(every[:, s].shape)
        return found

    def _looped(self, seeds: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], str]:
        each = [self.one(*(seed[s] for seed in seeds)) for s in range(len(seeds[0]))]
        if len(each) == 1:
            return [part[None] for part in each[0]], "output by output"
        return [torch.stack(parts) for parts in zip(*each, strict=True)], "output by output"

    def _at_once(self, seeds: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], str | None]:
        if len(seeds[0]) == 1:  # an ordinary backward pass, which needs no batching rule
            try:
                return self._looped(seeds)[0], None
            except RuntimeError:  # what f computes anew on the way back (a checkpoint) was recorded under ``vmap``
                pass
        try:
            with no_hidden_loops():
                return list(torch.func.vmap(self.one)(*seeds)), None
        except RuntimeError as error:
            if "atching rule" not in str(error) and "fallback" not in str(error):
                raise
        with known_loops():
            return list(torch.func.vmap(self.one)(*seeds)), "an operation without a batching rule ran in a loop"

"""Cotangents of a tape's outputs for all seeds: a backward pass under ``vmap`` over them, or, where large, one each.

Near the outputs they are kept as a core times a scale (`tail`), as far as that goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, get_gradient_edge

from jacgram.frontends.torch.assemble import Cotangents
from jacgram.frontends.torch.atoms import InAtoms
from jacgram.frontends.torch.compat import known_loops, no_hidden_loops
from jacgram.frontends.torch.factored import FOLDED, Factored, compact
from jacgram.frontends.torch.shortcuts import Shortcuts
from jacgram.frontends.torch.tail import Tail, tail_of
from jacgram.frontends.torch.tape import Tape, edge_key

_LARGE_BYTES = 1 << 20  # of a cotangent, by and large, from which a call for each seed costs less than it saves


def cotangents_of(
    tape: Tape,
    seeds: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    *,
    create_graph: bool,
    looped: bool,
    near: bool,
) -> tuple[Cotangents, str | None]:
    """By edge, cotangents ``(n, s, *shape)`` in the sense of `products`: rows not conjugated, complex where J is.

    Args:
        tape: what was recorded, its graph alive.
        seeds: per output leaf ``(s, *output)`` in its dtype.
        leaves: the variable's leaves; where they are real and y is complex, two backward passes are made.
        create_graph: whether cotangents can be differentiated.
        looped: whether seeds are taken one by one, without ``vmap``.
        near: whether those near the outputs are factored.

    Returns:
        The cotangents, and what is to be said of how they were found.
    """
    edges = {edge_key(entry.edge): entry.edge for entry in tape.entries}
    shapes = {edge_key(entry.edge): entry.output for entry in tape.entries}
    if not edges:
        return {}, None
    tail = _near_outputs(tape, seeds) if near and not create_graph else Tail({}, _outputs(tape, seeds))
    found: Cotangents = {key: _laid_out(value, shapes[key]) for key, value in tail.found.items()}
    rest = [key for key in edges if key not in found]
    if not rest:
        return found, None

    def pull(starts: Sequence[tuple[GradientEdge, InAtoms]]) -> tuple[list[torch.Tensor], str | None]:
        wanted = [edges[key] for key in rest], [shapes[key] for key in rest]
        return _Pull(starts, seeds, *wanted, create_graph=create_graph, packed=tape.packs_saved).all(looped=looped)

    pulled, note = pull(tail.starts)
    if any(y.is_complex() for y in tape.outputs) and not all(leaf.is_complex() for leaf in leaves):
        turned = [1j * seed if seed.is_complex() else torch.zeros_like(seed) for seed in seeds]
        second, _ = pull(_outputs(tape, turned))
        pulled = [
            a.conj().resolve_conj() if a.is_complex() else torch.complex(a, b)
            for a, b in zip(pulled, second, strict=True)
        ]
    elif any(g.is_complex() for g in pulled):
        pulled = [g.conj().resolve_conj() for g in pulled]
    return found | dict(zip(rest, pulled, strict=True)), note


def shapes_of(tape: Tape, n_seeds: int, *, near: bool) -> Cotangents:
    """The cotangents of a tape of one example as meta tensors, repeated where those of `cotangents_of` are."""
    tail = _near_outputs(tape, [y.new_ones((1, *y.shape[1:])) for y in tape.outputs]) if near else Tail({}, [])
    is_complex = any(y.is_complex() for y in tape.outputs)
    found: Cotangents = {}
    for entry in tape.entries:
        key, like = edge_key(entry.edge), entry.output
        if key in tail.found:
            value = _laid_out(tail.found[key], like)
            scale = None if value.scale is None else _meta(value.scale)
            found[key] = Factored(_meta(value.core, n_seeds), scale, value.number)
        else:
            dtype = like.dtype.to_complex() if is_complex else like.dtype
            found[key] = torch.empty((1, n_seeds, *like.shape[1:]), dtype=dtype, device="meta")
    return found


def _meta(tensor: torch.Tensor, *n_seeds: int) -> torch.Tensor:
    """A meta tensor that is repeated where this one is, with so many seeds along its second axis."""
    small, first = compact(tensor), 1 + len(n_seeds)
    meta = torch.empty((1, *n_seeds, *small.shape[first:]), dtype=tensor.dtype, device="meta")
    return meta.expand(1, *n_seeds, *tensor.shape[first:])


def _near_outputs(tape: Tape, seeds: Sequence[torch.Tensor]) -> Tail:
    """As far as cotangents stay small, in real numbers, and without hooks, which would not see them."""
    starts = _outputs(tape, seeds)
    dtypes = {tensor.dtype for tensor in (*tape.outputs, *(entry.output for entry in tape.entries))}
    is_hooked = any(name == "register_hook" for name, _ in tape.calls)
    if is_hooked or not dtypes.issubset(FOLDED) or not len(seeds[0]) or not tape.n:
        return Tail({}, starts)
    return tail_of(starts, [entry.edge for entry in tape.entries])


def _outputs(tape: Tape, seeds: Sequence[torch.Tensor]) -> list[tuple[GradientEdge, InAtoms]]:
    """The seeds of every example at each output that depends on anything."""
    return [
        (get_gradient_edge(y), InAtoms.of(seed.contiguous()[:, None].expand(len(seed), *y.shape)))
        for y, seed in zip(tape.outputs, seeds, strict=True)
        if y.requires_grad
    ]


def _laid_out(value: InAtoms, like: torch.Tensor) -> Factored:
    """``(n, s, …)`` of an output's own axes."""
    core = value.core.reshape(len(value.core), *like.shape).movedim(0, 1)
    return Factored(core, None if value.scale is None else value.scale.reshape(like.shape), value.number)


class _Pull:
    """Backward passes from some edges of a graph to others, for all seeds.

    Args:
        starts: whence, and with which cotangents ``(s, *shape)``.
        seeds: as in `cotangents_of`.
        edges: where to.
        shapes: a meta tensor like what each is the edge of, ``(n, …)``.
        create_graph: whether what is found can be differentiated.
        packed: whether what f's operations saved may have been packed.
    """

    def __init__(
        self,
        starts: Sequence[tuple[GradientEdge, InAtoms]],
        seeds: Sequence[torch.Tensor],
        edges: Sequence[GradientEdge],
        shapes: Sequence[torch.Tensor],
        *,
        create_graph: bool,
        packed: bool,
    ) -> None:
        self._starts = [edge for edge, _ in starts]
        self._from = [(value.atoms, value.shape) for _, value in starts]
        self._cores = [compact(value.core) * value.number for _, value in starts]
        self._scales = [None if value.scale is None else compact(value.scale) for _, value in starts]
        self._n_seeds, self._device = len(seeds[0]), seeds[0].device
        self._edges, self._shapes = edges, shapes
        self._create_graph, self._packed = create_graph, packed
        self._shortcuts: Shortcuts | None = None

    def one(self, *cores: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The cotangents ``(n, *shape)`` for one seed of every example; zeros where nothing depends on them."""
        vectors = [
            (core if scale is None else core * scale).expand(atoms).reshape(shape)
            for core, scale, (atoms, shape) in zip(cores, self._scales, self._from, strict=True)
        ]

        def backward() -> Any:
            return torch.autograd.grad(
                self._starts, self._edges, vectors, retain_graph=True, create_graph=self._create_graph,
                allow_unused=True,
            )  # fmt: skip

        found = backward() if self._shortcuts is None else self._shortcuts.pulled(backward)
        return tuple(
            torch.zeros(shape.shape, dtype=shape.dtype, device=self._device) if grad is None else grad
            for grad, shape in zip(found, self._shapes, strict=True)
        )

    def all(self, *, looped: bool) -> tuple[list[torch.Tensor], str | None]:
        """The cotangents ``(n, s, *shape)`` for all seeds."""
        if not self._starts or not self._n_seeds:
            return self._each(torch.zeros), None
        many = self._n_seeds > 1 and not looped  # looped is autograd by itself
        in_turn = many and self._is_large()
        if many and not self._create_graph and self._device.type == "cpu":
            self._shortcuts = Shortcuts(self._starts, self._edges, at_once=not in_turn, packed=self._packed)
        if in_turn:
            return self._side_by_side(), None
        found, note = self._looped() if looped else self._at_once()
        return [
            g.reshape(self._n_seeds, *shape.shape).movedim(0, 1) for g, shape in zip(found, self._shapes, strict=True)
        ], note

    def _each(self, make: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
        return [
            make((shape.shape[0], self._n_seeds, *shape.shape[1:]), dtype=shape.dtype, device=self._device)
            for shape in self._shapes
        ]

    def _is_large(self) -> bool:
        """Whether one seed's cotangents keep the processor busy for longer than the calls that make them take.

        Seeds are then best taken in turn: what is between two calls stays in cache, and no batching rule lays inputs
        out once for every seed, as that of a convolution does.
        """
        if self._create_graph or any(core.device.type != "cpu" for core in self._cores):
            return False
        return sum(shape.nbytes for shape in self._shapes) >= _LARGE_BYTES * len(self._shapes)

    def _side_by_side(self) -> list[torch.Tensor]:
        """The cotangents ``(n, s, *shape)``, seed by seed, each put in its place."""
        found = self._each(torch.empty)
        for s in range(self._n_seeds):
            for every, one in zip(found, self.one(*(core[s] for core in self._cores)), strict=True):
                every[:, s] = one.reshape(every[:, s].shape)
        return found

    def _looped(self) -> tuple[list[torch.Tensor], str]:
        each = [self.one(*(core[s] for core in self._cores)) for s in range(self._n_seeds)]
        if len(each) == 1:
            return [part[None] for part in each[0]], "output by output"
        return [torch.stack(parts) for parts in zip(*each, strict=True)], "output by output"

    def _at_once(self) -> tuple[list[torch.Tensor], str | None]:
        if self._n_seeds == 1:  # an ordinary backward pass, which needs no batching rule
            try:
                return self._looped()[0], None
            except RuntimeError:  # what f computes anew on the way back (a checkpoint) was recorded under ``vmap``
                pass
        try:
            with no_hidden_loops():
                return list(torch.func.vmap(self.one)(*self._cores)), None
        except RuntimeError as error:
            if "atching rule" not in str(error) and "fallback" not in str(error):
                raise
        with known_loops():
            return list(torch.func.vmap(self.one)(*self._cores)), "an operation without a batching rule ran in a loop"

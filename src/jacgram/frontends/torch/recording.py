"""Runs f under a `Recorder`, all examples at once under ``vmap`` or one at a time, and makes uses of what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.core.uses import Use
from jacgram.frontends.torch.assemble import Magnitudes, Pull, uses_of
from jacgram.frontends.torch.compat import known_loops
from jacgram.frontends.torch.cotangents import cotangents_of, shapes_of
from jacgram.frontends.torch.graph import graph_uses
from jacgram.frontends.torch.merging import merged
from jacgram.frontends.torch.outputs import held_to_outputs
from jacgram.frontends.torch.products import fresh, pullback_by
from jacgram.frontends.torch.recorder import Recorder
from jacgram.frontends.torch.tape import Entry, Tape, edge_key
from jacgram.frontends.torch.values import dtype_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide


@dataclass(frozen=True, slots=True)
class Level:
    """How uses of a function are found.

    Attributes:
        at_once: whether examples run together under ``vmap``.
        graph: whether uses are read off autograd's graph instead of being recorded.
        copies: whether recorded outputs that are views are copied.
        steady: whether f has run under ``vmap``, so that which uses it has cannot depend on data.
        rows: leaves whose rows come from plain backward passes, and why.
    """

    at_once: bool
    graph: bool = False
    copies: bool = False
    steady: bool = False
    rows: tuple[tuple[int, str], ...] = ()

    @property
    def blind(self) -> bool:
        """Whether no values of examples decide which uses there are."""
        return self.steady and (self.at_once or self.graph)

    @property
    def skipped(self) -> frozenset[int]:
        """Leaves of which nothing recorded is used."""
        return frozenset(leaf for leaf, _ in self.rows)


@dataclass(frozen=True, slots=True)
class Found:
    """Uses of a batch, and what is to be known of how they were found.

    Attributes:
        uses: ``(n, …)``.
        signature: the recorded call sequences.
        unread: leaves of which this way cannot tell all uses, and why.
        note: what a plan should say, or None.
        magnitudes: of folded uses; see `assemble`.
    """

    uses: list[Use]
    signature: Any
    unread: dict[int, str]
    note: str | None
    magnitudes: Magnitudes = field(default_factory=dict)


def found_uses(side: TorchSide, seeds: Sequence[torch.Tensor], level: Level, *, looped: bool = False) -> Found:
    """Uses of all leaves but those that the level skips, with cotangents for seeds ``(s, *output)`` per output leaf.

    Raises:
        Exception: whatever f raises where it cannot run at this level.
    """
    with side.calling():
        if level.graph:
            uses, signature, unread = graph_uses(side, seeds, level.skipped)
            return Found(uses, signature, unread, None)
        if level.at_once:
            return _pulled(side, seeds, level, None, looped=looped)
        each = [_pulled(side, seeds, level, k, looped=looped) for k in range(side.n)]
    layout = side.shared.layout
    for found in each:
        layout.include(found.uses)
    unread = {leaf: why for found in each for leaf, why in found.unread.items()}
    signature = frozenset(found.signature for found in each)
    return Found(
        merged(layout, [found.uses for found in each], side.device, len(seeds[0])), signature, unread, each[0].note
    )


def shaped_uses(side: TorchSide, n_seeds: int, level: Level) -> list[Use]:
    """The uses with meta tensors in place of values: f is run, and nothing is pulled back."""
    if level.graph:
        return _read_shapes(side, n_seeds, level)
    with side.calling():
        if level.at_once:
            return _shaped(side.one_example(), n_seeds, level, None)
        one = side if side.n else side.one_example()
        each = [_shaped(one, n_seeds, level, k) for k in range(one.n)]
    for uses in each:
        side.shared.layout.include(uses)
    return merged(side.shared.layout, each, "meta", n_seeds)


def random_seeds(side: TorchSide, count: int) -> list[torch.Tensor]:
    """Per output leaf, real random seeds ``(count, *output)`` in its dtype."""
    generator = torch.Generator().manual_seed(1)
    shapes = [struct.shape[1:] if side.has_examples else struct.shape for struct in side.outputs]
    return [
        torch.randn((count, *shape), generator=generator, dtype=torch.float64).to(side.device, dtype_of(struct))
        for shape, struct in zip(shapes, side.outputs, strict=True)
    ]


def _read_shapes(side: TorchSide, n_seeds: int, level: Level) -> list[Use]:
    """The uses that the graph of a few examples tells, for one seed, as meta tensors for one example and all seeds."""
    few = side.examples(0, min(side.n, 2)) if side.n else side.one_example()
    seeds = random_seeds(few, 1)  # which no sum of outputs cancels, as ones do behind a softmax
    shapes: dict[int, torch.Tensor] = {}

    def shape(array: torch.Tensor | None, *lead: int) -> torch.Tensor | None:
        if array is None:
            return None
        meta = torch.empty((*lead, *array.shape[len(lead) :]), dtype=array.dtype, device="meta")
        return shapes.setdefault(id(array), meta)

    found = found_uses(few, seeds, level).uses
    return [replace(u, activation=shape(u.activation, 1), cotangent=shape(u.cotangent, 1, n_seeds)) for u in found]


def _pulled(
    side: TorchSide, seeds: Sequence[torch.Tensor], level: Level, example: int | None, *, looped: bool
) -> Found:
    leaves = fresh(side.leaves, create_graph=side.create_graph)
    recorder = _recorded(side, leaves, level, example)
    tape = recorder.tape
    cotangents, note = cotangents_of(
        tape, seeds, leaves, create_graph=side.create_graph, looped=looped, near=level.at_once
    )
    pull = _puller(tape, leaves, create_graph=side.create_graph)
    made = uses_of(tape, cotangents, pull, level.skipped)
    return Found(made.uses, tape.signature, recorder.mixed, note, made.magnitudes)


def _shaped(side: TorchSide, n_seeds: int, level: Level, example: int | None) -> list[Use]:
    leaves = fresh(side.leaves, create_graph=False)
    tape = _recorded(side, leaves, level, example).tape
    cotangents = shapes_of(tape, n_seeds, near=level.at_once and not side.create_graph)
    shapes = Tape(tape.n, [_without_values(entry) for entry in tape.entries], tape.outputs)

    def pull(_: list[GradientEdge], rows: list[torch.Tensor], wanted: list[int]) -> list[torch.Tensor]:
        return [torch.empty((1, n_seeds, *leaves[k].shape), dtype=rows[0].dtype, device="meta") for k in wanted]

    made = uses_of(shapes, cotangents, pull, level.skipped)
    side.shared.folded_bytes = max(side.shared.folded_bytes, made.folded_bytes)
    return made.uses


def _without_values(entry: Entry) -> Entry:
    if entry.activation is None:
        return entry
    return replace(entry, activation=torch.empty_like(entry.activation, device="meta"))


def _recorded(side: TorchSide, leaves: list[torch.Tensor], level: Level, example: int | None) -> Recorder:
    if example is None:
        recorder = _record_at_once(side, leaves, copies=level.copies)
    else:
        recorder = _record_one(side, leaves, example, copies=level.copies)
    side.require_shapes(recorder.tape.outputs)
    side.shared.largest_bytes = max(side.shared.largest_bytes, recorder.tape.largest_bytes)
    return recorder


def _record_at_once(side: TorchSide, leaves: list[torch.Tensor], *, copies: bool) -> Recorder:
    found: list[Recorder] = []

    def one(zero: torch.Tensor, *x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        recorder = Recorder(leaves, side.n, zero, copies=copies, keep_graph=side.create_graph)
        found.append(recorder)
        with recorder:
            y = side.program(leaves, [leaf[None] for leaf in x])
        return tuple(leaf[0] for leaf in held_to_outputs(side, y, 1))

    zeros = torch.zeros(side.n, device=side.device, dtype=torch.bool)
    with known_loops():
        outputs = torch.func.vmap(one, randomness="different")(zeros, *side.inputs())
    found[-1].tape.outputs = list(outputs)
    return found[-1]


def _record_one(side: TorchSide, leaves: list[torch.Tensor], example: int, *, copies: bool) -> Recorder:
    recorder = Recorder(leaves, 1, None, copies=copies, keep_graph=side.create_graph)
    x = [leaf[example : example + 1] for leaf in side.inputs()]
    with recorder:
        y = side.program(leaves, x)
    outputs = held_to_outputs(side, y, 1)
    recorder.tape.outputs = outputs if side.has_examples else [leaf[None] for leaf in outputs]
    return recorder


def _puller(tape: Tape, leaves: list[torch.Tensor], *, create_graph: bool) -> Pull:
    """Rows with respect to weights to rows with respect to leaves, all at once under ``vmap``."""
    reads = {edge_key(entry.source): entry.read for entry in tape.entries if entry.source is not None}

    def pull(edges: list[GradientEdge], rows: list[torch.Tensor], wanted: list[int]) -> list[torch.Tensor]:
        lead = rows[0].shape[:2]
        inputs = [leaves[k] for k in wanted]

        def one(*vectors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found: Any = torch.autograd.grad(
                edges, inputs, vectors, retain_graph=True, create_graph=create_graph, allow_unused=True,
                materialize_grads=True,
            )  # fmt: skip
            return found

        def every(vectors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
            with known_loops():
                return list(torch.func.vmap(one)(*vectors))

        outputs = [reads[edge_key(edge)] for edge in edges]
        flat = [row.flatten(0, 1) for row in rows]
        return [found.unflatten(0, lead) for found in pullback_by(every, outputs, inputs, flat)]

    return pull

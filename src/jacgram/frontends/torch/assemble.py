"""From a tape and the cotangents of its outputs to uses.

Parts of weights that are views of leaves become uses as they are. For parts that depend on leaves in other ways the
rows with respect to the weight are formed, and pulled back to the leaves: exact, and an identity use of each such leaf.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.arrays.folding import Folding, folding
from jacgram.arrays.torch import TorchArrays
from jacgram.core.uses import Conv, Einsum, Gather, Identity, Kind, Use
from jacgram.core.views import View
from jacgram.frontends.torch.factored import FOLDED, Factored, compact, repeats
from jacgram.frontends.torch.labels import arranged, fitted
from jacgram.frontends.torch.tape import Entry, Tape, edge_key
from jacgram.frontends.torch.weights import Term

Cotangents = dict[tuple[int, int], "torch.Tensor | Factored"]
"""By gradient edge of an output, its cotangent ``(n, s, *inner, *shape)``."""

Pull = Callable[[list[GradientEdge], list[torch.Tensor], list[int]], list[torch.Tensor]]
"""Rows ``(n, s, *weight)`` with respect to weights, to rows ``(n, s, *leaf)`` with respect to leaves."""

Magnitudes = dict[int, Callable[[], torch.Tensor]]
"""By leaf of a folded use, what its activation would be if nothing cancelled in its sums."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """Uses, and what is to be known of those that are folded.

    Attributes:
        uses: every one.
        magnitudes: see `Magnitudes`.
        folded_bytes: of what folding one example of one of them takes, at most.
    """

    uses: list[Use]
    magnitudes: Magnitudes
    folded_bytes: int


def uses_of(tape: Tape, cotangents: Cotangents, pull: Pull, skipped: frozenset[int]) -> Assembled:
    """Every use of every leaf that is not in ``skipped``, in the order of the calls; pulled-back rows come last.

    Uses of one call share their cotangent, the same object.
    """
    shared = _Shared(cotangents, sum(math.prod(y.shape[1:]) for y in tape.outputs))
    readers = Counter(leaf for entry in tape.entries for leaf in entry.weight.leaves)
    uses: list[Use] = []
    rows: dict[tuple[int, int], tuple[GradientEdge, torch.Tensor]] = {}
    reasons: dict[int, str] = {}
    for entry in tape.entries:
        terms = [term for term in entry.weight.terms if term.leaf not in skipped]
        uses += [_use(entry, term, shared, alone=readers[term.leaf] == 1) for term in terms]
        opaque = entry.weight.opaque - skipped
        if opaque and entry.source is not None:
            key = edge_key(entry.source)
            found = _rows(entry, shared.cotangent(entry))
            rows[key] = (entry.source, found if key not in rows else rows[key][1] + found)
            reasons |= dict.fromkeys(opaque, f"{entry.name} of a weight computed from parameters")
    if reasons:
        leaves = sorted(reasons)
        pulled = pull([edge for edge, _ in rows.values()], [found for _, found in rows.values()], leaves)
        for leaf, found in zip(leaves, pulled, strict=True):
            uses.append(Use(leaf, View.of(found.shape[2:]), Identity(reasons[leaf]), None, found))
    return Assembled(uses, shared.magnitudes, shared.folded_bytes)


class _Shared:
    """Cotangents in the axes that readings speak of, each made once."""

    def __init__(self, cotangents: Cotangents, outputs: int) -> None:
        self._cotangents = cotangents
        self._made: dict[Any, torch.Tensor] = {}
        self.outputs = outputs
        self.magnitudes: Magnitudes = {}
        self.folded_bytes = 0

    def cotangent(self, entry: Entry, scale: Any = 1) -> torch.Tensor:
        """``(n, s, …)``, times a number."""

        def make() -> torch.Tensor:
            if scale != 1:
                return self.cotangent(entry) * scale
            found = self._cotangents[edge_key(entry.edge)]
            return arranged(entry, found.whole if isinstance(found, Factored) else found)

        return self._once((edge_key(entry.edge), entry.reading.cotangent, scale), make)

    def core(self, entry: Entry, kept: tuple[int, ...]) -> torch.Tensor:
        """``(n, s, …)``, the core alone, along these axes."""

        def make() -> torch.Tensor:
            value = self.factored(entry)
            assert value is not None, "there is a core"
            core = value.core
            at = tuple(slice(None) if axis in kept else 0 for axis in range(core.ndim - 2))
            return core[(slice(None), slice(None), *at)]

        return self._once((edge_key(entry.edge), entry.reading.cotangent, "core", kept), make)

    def factored(self, entry: Entry) -> Factored | None:
        """Core ``(n, s, …)`` and scale ``(n, …)``, where the cotangent is factored."""
        value = self._cotangents[edge_key(entry.edge)]
        if not isinstance(value, Factored):
            return None
        scale = None if value.scale is None else arranged(entry, value.scale.unsqueeze(1)).squeeze(1)
        return Factored(arranged(entry, value.core), scale, value.number)

    def _once(self, key: Any, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def _use(entry: Entry, term: Term, shared: _Shared, *, alone: bool) -> Use:
    scale = term.scale * entry.reading.scale
    activation = entry.activation
    kind: Kind = entry.reading.kind
    if isinstance(kind, Conv | Gather):
        view = term.view() if entry.reading.view is None else entry.reading.view(term.view())
        assert view is not None, "checked when it was recorded"
    else:
        labels = fitted(entry)
        assert labels is not None, "checked when it was recorded"
        view = term.view(labels.dropped)
        activation = _squeezed(activation, labels.kind, labels.squeezed)
        kind = kind if isinstance(kind, Identity) else labels.kind
    if alone and (folded := _folded(entry, view, kind, activation, shared)) is not None:
        after, fold = folded
        made = fold(activation, lambda tensor: tensor)
        shared.folded_bytes = max(shared.folded_bytes, after.bytes_of_one)
        shared.magnitudes[term.leaf] = lambda: fold(activation, torch.abs) * abs(scale)
        return Use(term.leaf, view, after.after, made if scale == 1 else made * scale, shared.core(entry, after.kept))
    if activation is None or isinstance(kind, Gather | Identity):
        activation = None if isinstance(kind, Identity) else activation
        return Use(term.leaf, view, kind, activation, shared.cotangent(entry, scale))
    return Use(term.leaf, view, kind, activation if scale == 1 else activation * scale, shared.cotangent(entry))


Fold = Callable[[torch.Tensor | None, Callable[[torch.Tensor], torch.Tensor]], torch.Tensor]
"""An activation to that of the folded use, after a function of both its factors."""


def _folded(
    entry: Entry, view: View, kind: Kind, activation: torch.Tensor | None, shared: _Shared
) -> tuple[Folding, Fold] | None:
    """How all of a cotangent that has no seeds goes into the activation, where that makes the use smaller."""
    value = shared.factored(entry)
    if value is None or (activation is not None and activation.dtype not in FOLDED):
        return None
    n, _, *out_shape = value.core.shape
    scale = None if value.scale is None else compact(value.scale)
    found = folding(
        kind,
        view.shape,
        None if activation is None else activation.shape[1:],
        out_shape,
        repeated=[axis for axis, is_repeated in enumerate(repeats(value.core)[2:]) if is_repeated],
        scaled=[] if scale is None else [axis for axis, size in enumerate(scale.shape[1:]) if size != 1],
        outputs=shared.outputs,
    )
    if found is None:
        return None

    def fold(activation: torch.Tensor | None, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        if value.core.is_meta:
            return value.core.new_empty((n, *found.shape))
        factor = value.core.new_ones((1,) * (1 + len(out_shape))) if scale is None else scale
        factor = function(factor * value.number).expand(n, *factor.shape[1:])
        return found.fold(TorchArrays(factor.device), None if activation is None else function(activation), factor)

    return found, fold


def _squeezed(activation: torch.Tensor | None, kind: Einsum, axes: Sequence[int]) -> torch.Tensor | None:
    """Without the axes along which it is broadcast."""
    if activation is None or not axes:
        return activation
    lead = activation.ndim - len(kind.activation or ()) - len(axes)
    inner = sum(label.startswith("v") for label in kind.activation or ())
    for axis in sorted(axes, reverse=True):
        activation = activation.select(lead + inner + axis, 0)
    return activation


def _rows(entry: Entry, cotangent: torch.Tensor) -> torch.Tensor:
    """Rows ``(n, s, *weight)`` of an einsum use, written out."""
    labels = fitted(entry)
    assert labels is not None, "checked when it was recorded"
    kind = labels.kind
    activation = _squeezed(entry.activation, kind, labels.squeezed)
    letters: dict[str, int] = {}
    for label in (*(kind.activation or ()), *kind.cotangent):
        letters.setdefault(label, 2 + len(letters))
    operands: list[Any] = []
    dtype = cotangent.dtype
    if activation is not None:
        operands += [activation.to(dtype), [0, *(letters[x] for x in kind.activation or ())]]
    operands += [cotangent, [0, 1, *(letters[x] for x in kind.cotangent)], [0, 1, *(letters[x] for x in kind.weight)]]
    rows = torch.einsum(*operands) * entry.reading.scale
    for axis in labels.dropped:
        rows = rows.unsqueeze(2 + axis)
    return rows

"""From a tape and the cotangents of its outputs to uses.

Parts of weights that are views of leaves become uses as they are. For parts that depend on leaves in other ways the
rows with respect to the weight are formed, and pulled back to the leaves: exact, and an identity use of each such leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.core.uses import Conv, Einsum, Gather, Identity, Kind, Use
from jacgram.core.views import View
from jacgram.frontends.torch.labels import arranged, fitted
from jacgram.frontends.torch.tape import Entry, Tape, edge_key
from jacgram.frontends.torch.weights import Term

Cotangents = dict[tuple[int, int], torch.Tensor]
"""By gradient edge of an output, its cotangent ``(n, s, *inner, *shape)``."""

Pull = Callable[[list[GradientEdge], list[torch.Tensor], list[int]], list[torch.Tensor]]
"""Rows ``(n, s, *weight)`` with respect to weights, to rows ``(n, s, *leaf)`` with respect to leaves."""


def uses_of(tape: Tape, cotangents: Cotangents, pull: Pull, skipped: frozenset[int]) -> list[Use]:
    """Every use of every leaf that is not in ``skipped``, in the order of the calls; pulled-back rows come last.

    Uses of one call share their cotangent, the same object.
    """
    shared: dict[Any, torch.Tensor] = {}
    uses: list[Use] = []
    rows: dict[tuple[int, int], tuple[GradientEdge, torch.Tensor]] = {}
    reasons: dict[int, str] = {}
    for entry in tape.entries:
        cotangent = _arranged_once(shared, entry, cotangents[edge_key(entry.edge)])
        terms = [term for term in entry.weight.terms if term.leaf not in skipped]
        uses += [_use(entry, term, cotangent, shared) for term in terms]
        opaque = entry.weight.opaque - skipped
        if opaque and entry.source is not None:
            key = edge_key(entry.source)
            found = _rows(entry, cotangent)
            rows[key] = (entry.source, found if key not in rows else rows[key][1] + found)
            reasons |= dict.fromkeys(opaque, f"{entry.name} of a weight computed from parameters")
    if reasons:
        leaves = sorted(reasons)
        pulled = pull([edge for edge, _ in rows.values()], [found for _, found in rows.values()], leaves)
        for leaf, found in zip(leaves, pulled, strict=True):
            uses.append(Use(leaf, View.of(found.shape[2:]), Identity(reasons[leaf]), None, found))
    return uses


def _arranged_once(shared: dict[Any, torch.Tensor], entry: Entry, cotangent: torch.Tensor) -> torch.Tensor:
    key = edge_key(entry.edge), entry.reading.cotangent
    if key not in shared:
        shared[key] = arranged(entry, cotangent)
    return shared[key]


def _use(entry: Entry, term: Term, cotangent: torch.Tensor, shared: dict[Any, torch.Tensor]) -> Use:
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
        if isinstance(kind, Identity):
            return Use(term.leaf, view, kind, None, _scaled(cotangent, scale, shared))
        kind = labels.kind
    if activation is None or isinstance(kind, Gather):
        return Use(term.leaf, view, kind, activation, _scaled(cotangent, scale, shared))
    return Use(term.leaf, view, kind, activation if scale == 1 else activation * scale, cotangent)


def _scaled(cotangent: torch.Tensor, scale: Any, shared: dict[Any, torch.Tensor]) -> torch.Tensor:
    if scale == 1:
        return cotangent
    key = id(cotangent), scale
    if key not in shared:
        shared[key] = cotangent * scale
    return shared[key]


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

"""Cotangents of the pieces of a tensor, put together once.

A piece is what one index or one range along an axis takes: ``q, k, v = x[0], x[1], x[2]``, or each step of a loop over
time. Autograd lays out its cotangent among zeros, as large as the whole, and adds up as many as there are pieces, which
for a loop grows with the square of its length. Here the nodes of the pieces keep what they are given, and the last one
that is come to passes on the whole, laid out as the tensor lies that was permuted before it was taken apart. Hooks that
f itself puts on such a node see nothing of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.autograd.graph import Node

from jacgram.frontends.torch.compat import gradient_like
from jacgram.frontends.torch.nodes import INDEX, RANGE, order_before, repeated, taken


class PieceMissingError(Exception):
    """A piece has no cotangent: what is kept of the others cannot be passed on."""


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """A node that takes the entries from ``start`` to ``stop`` of an axis."""

    node: Node
    start: int
    stop: int

    @property
    def span(self) -> tuple[int, int]:
        """What it takes; pieces of one span are the same entries."""
        return self.start, self.stop


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """The pieces of one tensor along one of its axes, in order, each apart from the others or the same as one.

    Attributes:
        shape: the tensor's.
        axis: the axis.
        pieces: at least two.
        order: its axes as they lie, where it was permuted from what it was before.
    """

    shape: tuple[int, ...]
    axis: int
    pieces: tuple[_Piece, ...]
    order: tuple[int, ...]

    def of(self, cotangents: Sequence[torch.Tensor]) -> torch.Tensor:
        """The cotangent of the tensor, zero between the pieces; those of the pieces are given in their order."""
        parts: list[torch.Tensor] = []
        at = 0
        for piece, found in zip(self.pieces, cotangents, strict=True):
            part = found.unsqueeze(self.axis) if piece.node.name() == INDEX else found
            if piece.start < at:  # the same entries once more
                parts[-1] = parts[-1] + part
                continue
            parts += [*self._zeros(piece.start - at, found), part]
            at = piece.stop
        parts += self._zeros(self.shape[self.axis] - at, parts[-1])
        laid = torch.cat([part.permute(self.order) for part in parts], self.order.index(self.axis))
        return laid.permute([self.order.index(axis) for axis in range(len(self.order))])

    def _zeros(self, size: int, like: torch.Tensor) -> list[torch.Tensor]:
        shape = [size if axis == self.axis else n for axis, n in enumerate(self.shape)]
        return [repeated(0, like, shape)] if size else []


class _Meeting:
    """What the pieces of a tensor are given in one backward pass."""

    def __init__(self, whole: Whole) -> None:
        self._whole = whole
        self._given: dict[_Piece, torch.Tensor] = {}

    def keep(self, piece: _Piece, given: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor | None]:
        """Of all but the last piece, nothing goes on; of the last, what costs nothing, and is then replaced."""
        (cotangent,) = given
        if cotangent is None:
            raise PieceMissingError
        self._given[piece] = cotangent
        if not self._is_complete:
            return (None,)
        return (repeated(0, cotangent, cotangent.shape),)

    def pass_on(self) -> tuple[torch.Tensor] | None:
        """The cotangent of the whole in place of what the last node has made; before it, nothing to replace."""
        if not self._is_complete:
            return None
        found = self._whole.of([self._given[piece] for piece in self._whole.pieces])
        self._given.clear()  # they are as large as what goes on in their place
        return (found,)

    @property
    def _is_complete(self) -> bool:
        return len(self._given) == len(self._whole.pieces)


def watch(whole: Whole) -> list[Any]:
    """Hooks for one backward pass, ahead of and behind each piece's node."""
    meeting, handles = _Meeting(whole), []
    for piece in whole.pieces:
        handles.append(piece.node.register_prehook(lambda given, piece=piece: meeting.keep(piece, given)))
        handles.append(piece.node.register_hook(lambda *_: meeting.pass_on()))
    return handles


def wholes(nodes: Sequence[Node]) -> list[Whole]:
    """Every tensor that has several pieces along one axis among these nodes, which are apart or the same."""
    found: dict[tuple[Node, int, int], list[_Piece]] = {}
    for node in nodes:
        if node.name() in (INDEX, RANGE):
            source, place = node.next_functions[0]
            if source is not None:
                axis, start, stop, step = taken(node, gradient_like(source, place)[0])
                if start < stop and step == 1:
                    found.setdefault((source, place, axis), []).append(_Piece(node, start, stop))
    every = ((key, sorted(some, key=lambda piece: piece.span)) for key, some in found.items())
    return [_whole(*key, some) for key, some in every if len(some) > 1 and _are_apart(some)]


def _are_apart(pieces: Sequence[_Piece]) -> bool:
    return all(one.stop <= other.start or one.span == other.span for one, other in pairwise(pieces))


def _whole(source: Node, place: int, axis: int, pieces: Sequence[_Piece]) -> Whole:
    shape = gradient_like(source, place)[0]
    return Whole(shape, axis, tuple(pieces), order_before(source, len(shape)))

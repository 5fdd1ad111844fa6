"""Cotangents of the pieces of a tensor, put together once.

A piece is what one index or one range along an axis takes: ``q, k, v = x[0], x[1], x[2]``, or each step of a loop over
time. Autograd lays out its cotangent among zeros, as large as the whole, and adds up as many as there are pieces, which
for a loop grows with the square of its length. Here the nodes of the pieces keep what they are given, and the last one
that is come to passes on the whole, laid out as the tensor lies that was permuted before it was taken apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.autograd.graph import Node

from jacgram.frontends.torch.compat import gradient_like, saved, signed

_INDEX, _RANGE = "SelectBackward0", "SliceBackward0"


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
        """Both."""
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
            part = found.unsqueeze(self.axis) if piece.node.name() == _INDEX else found
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
        return [torch.zeros((), dtype=like.dtype, device=like.device).expand(shape)] if size else []


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
        return (torch.zeros((), dtype=cotangent.dtype, device=cotangent.device).expand(cotangent.shape),)

    def pass_on(self) -> tuple[torch.Tensor] | None:
        if not self._is_complete:
            return None
        found = self._whole.of([self._given[piece] for piece in self._whole.pieces])
        self._given.clear()
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
        if node.name() in (_INDEX, _RANGE):
            (source, place), *_ = node.next_functions
            if source is not None and (taken := _piece(node, gradient_like(source, place)[0])) is not None:
                axis, piece = taken
                found.setdefault((source, place, axis), []).append(piece)
    made = [_whole(*key, sorted(pieces, key=lambda piece: piece.span)) for key, pieces in found.items()]
    return [whole for whole in made if whole is not None]


def _piece(node: Node, shape: Sequence[int]) -> tuple[int, _Piece] | None:
    """The axis, and what is taken of it; None where that is nothing, or not one range."""
    axis = signed(saved(node, "dim")) % len(shape)
    size = shape[axis]

    def at(name: str) -> int:
        value = signed(saved(node, name))
        return min(max(value + size if value < 0 else value, 0), size)

    if node.name() == _INDEX:
        return axis, _Piece(node, at("index"), at("index") + 1)
    start, stop = at("start"), at("end")
    return (axis, _Piece(node, start, stop)) if start < stop and saved(node, "step") == 1 else None


def _whole(source: Node, place: int, axis: int, pieces: Sequence[_Piece]) -> Whole | None:
    if len(pieces) < 2:
        return None
    if any(one.stop > other.start and one.span != other.span for one, other in pairwise(pieces)):
        return None
    shape = gradient_like(source, place)[0]
    return Whole(shape, axis, tuple(pieces), _order(source, len(shape)))


def _order(source: Node, rank: int) -> tuple[int, ...]:
    """Axes of what a node makes, as they lie in what it is made of."""
    axes = list(range(rank))
    if source.name() == "PermuteBackward0":
        dims = [signed(axis) % rank for axis in saved(source, "dims")]
        return tuple(dims.index(axis) for axis in axes)
    if source.name() == "TransposeBackward0":
        one, two = (signed(saved(source, name)) % rank for name in ("dim0", "dim1"))
        axes[one], axes[two] = two, one
    return tuple(axes)

"""Takes the steps of an order, in memory that is used again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.base import Buffer
from jacgram.arrays.labelled import Labelled, Shared, einsum
from jacgram.plan.network import Step


class Buffers:
    """Memory of each step of an order but the last, from one slice, panel, example or window offset to the next.

    None where something is differentiated with respect to any of these arrays: results are then needed again. None as
    well where a program lays out its memory, and so wherever steps are taken for several parts or blocks; and where
    ``arrays`` is None, for steps that are taken once.
    """

    def __init__(self, xp: Arrays, arrays: Sequence[Any] | None) -> None:
        self._xp = xp
        self._arrays = arrays
        self._of: dict[int, Buffer | None] = {}

    def at(self, position: int, count: int) -> Buffer | None:
        """Memory of one of ``count`` steps."""
        if self._arrays is None or position == count - 1:
            return None
        if position not in self._of:
            self._of[position] = self._xp.buffer(self._arrays)
        return self._of[position]


def take_steps(
    xp: Arrays,
    todo: Sequence[Step],
    positions: Sequence[int],
    arrays: list[Labelled | None],
    shared: Shared | None,
    buffers: Buffers,
) -> None:
    """Takes these steps, each result in its place; operands are dropped as they are used up."""
    given = len(arrays) - len(todo)
    multiply = einsum if shared is None else shared.einsum
    for position in positions:
        step = todo[position]
        left, right = arrays[step.left], arrays[step.right]
        assert left is not None and right is not None
        arrays[step.left] = arrays[step.right] = None
        arrays[given + position] = multiply(xp, step.out, left, right, buffer=buffers.at(position, len(todo)))

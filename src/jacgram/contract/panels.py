"""The triangle of a block, panel by panel: see `jacgram.plan.triangle`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, Shared
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted

Cut = Callable[[Labelled], Labelled]
"""An operand to its part for one panel."""


def in_panels(xp: Arrays, triangle: Triangle, wanted: Wanted, panel: Callable[[Cut], Any]) -> Any:
    """The block of ``wanted`` from its panels, zero below them; with a single panel, that panel.

    Args:
        panel: from how operands are cut, a panel with axes ``wanted.block``.
    """
    if triangle.panels == 1:
        return panel(lambda operand: operand)
    n = _examples(triangle, wanted)
    return _below_each_other(
        xp, triangle, wanted, [panel(_cut(xp, triangle, start, size, n)) for start, size in triangle.ranges(n)]
    )


def in_blocks(xp: Arrays, triangle: Triangle, wanted: Wanted, pair: Callable[[int, int], Any]) -> Any:
    """The same from ``pair(i, j)``, block i of side 1 with block j of side 2, for each j from i on."""
    count = len(triangle.ranges(_examples(triangle, wanted)))
    column = wanted.block.index(triangle.columns or "")
    rows = [xp.concatenate([pair(i, j) for j in range(i, count)], column) for i in range(count)]
    return _below_each_other(xp, triangle, wanted, rows)


def block_of(xp: Arrays, triangle: Triangle, operand: Labelled, start: int, size: int, cuts: Shared) -> Labelled:
    """The examples of one block, of whichever side the operand is; equal arrays have equal parts."""
    for label in (triangle.rows, triangle.columns):
        operand = operand if label is None else cuts.slice(xp, operand, label, start, size)
    return operand


def _examples(triangle: Triangle, wanted: Wanted) -> int:
    assert triangle.rows is not None and triangle.columns is not None
    return dict(wanted.sizes)[triangle.rows]


def _below_each_other(xp: Arrays, triangle: Triangle, wanted: Wanted, panels: Sequence[Any]) -> Any:
    """Panels, each of which begins at its diagonal, with zeros before that."""
    n = _examples(triangle, wanted)
    row, column = wanted.block.index(triangle.rows or ""), wanted.block.index(triangle.columns or "")
    found: list[Any] = []
    for (start, _), array in zip(triangle.ranges(n), panels, strict=True):
        starts = [-start if axis == column else 0 for axis in range(len(wanted.block))]
        whole = [n if axis == column else length for axis, length in enumerate(array.shape)]
        found.append(xp.window(array, starts, whole, [1] * len(whole)))
    return xp.concatenate(found, row)


def _cut(xp: Arrays, triangle: Triangle, start: int, size: int, n: int) -> Cut:
    """Examples of side 1 in a panel, and those of side 2 from the first of them on."""
    assert triangle.rows is not None and triangle.columns is not None
    rows, columns = triangle.rows, triangle.columns
    return lambda operand: operand.slice(xp, rows, start, size).slice(xp, columns, start, n - start)

"""The triangle of a block, panel by panel: see `jacgram.plan.triangle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jacgram.arrays import Arrays
from jacgram.contract.labelled import Labelled
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
    assert triangle.rows is not None and triangle.columns is not None
    n = dict(wanted.sizes)[triangle.rows]
    row, column = wanted.block.index(triangle.rows), wanted.block.index(triangle.columns)
    found: list[Any] = []
    for start, size in triangle.ranges(n):
        array = panel(_cut(xp, triangle, start, size, n))
        starts = [-start if axis == column else 0 for axis in range(len(wanted.block))]
        whole = [n if axis == column else length for axis, length in enumerate(array.shape)]
        found.append(xp.window(array, starts, whole, [1] * len(whole)))
    return xp.concatenate(found, row)


def _cut(xp: Arrays, triangle: Triangle, start: int, size: int, n: int) -> Cut:
    """Examples of side 1 in a panel, and those of side 2 from the first of them on."""
    assert triangle.rows is not None and triangle.columns is not None
    rows, columns = triangle.rows, triangle.columns
    return lambda operand: operand.slice(xp, rows, start, size).slice(xp, columns, start, n - start)

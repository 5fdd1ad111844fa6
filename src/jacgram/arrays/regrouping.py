"""Reshapes of arrays that are repeated along some axes, and held with one entry there."""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]


def regrouped(held: Sequence[int], old: Sequence[int], new: Sequence[int]) -> tuple[Shape, Shape] | None:
    """How to reshape an array from ``old`` to ``new`` that is held with one entry along some of its axes.

    Axes are merged and split in groups. A group that is held with one entry throughout stays so; of any other all
    entries are needed.

    Args:
        held: its sizes as it is held, as in ``old`` or one.
        old: its sizes.
        new: sizes of the result.

    Returns:
        The sizes to repeat it to, and those to reshape that to, with one entry where the result is repeated. None where
        an axis is empty.

    Example:
        >>> regrouped((4, 1, 1, 8), (4, 2, 3, 8), (4, 6, 2, 4))
        ((4, 1, 1, 8), (4, 1, 2, 4))
    """
    if 0 in (*old, *new):
        return None
    repeated, sizes = list(held), list(new)
    first = second = 0
    while first < len(old) or second < len(new):
        i, j = min(first + 1, len(old)), min(second + 1, len(new))
        while (left := math.prod(old[first:i])) != (right := math.prod(new[second:j])):
            i, j = (i + 1, j) if left < right else (i, j + 1)
        if all(size == 1 for size in held[first:i]):
            sizes[second:j] = [1] * (j - second)
        else:
            repeated[first:i] = old[first:i]
        first, second = i, j
    return tuple(repeated), tuple(sizes)

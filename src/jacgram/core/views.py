"""Strided views: which entries of a leaf a use reads, and in which axis order.

A view is ``(offset, shape, strides)`` into the leaf's entries in row-major order, as in ``numpy.as_strided`` but in
units of entries. Transposes, slices, flips and most reshapes of a leaf stay such a view, so a use of ``W[:, :k].T``
is known to be a use of one part of ``W``, with nothing copied. A view never repeats an entry: as a linear map it
selects, and inner products of rows may be taken in the view's own coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class View:
    """Entries ``offset + Σ index·stride`` of a leaf, arranged in ``shape``.

    Attributes:
        offset: position of the view's first entry in the row-major leaf.
        shape: sizes of the view's axes.
        strides: distance in entries between neighbours along each axis; negative along a flipped axis.

    Example:
        >>> View.of((2, 3)).transpose((1, 0))
        View(offset=0, shape=(3, 2), strides=(1, 3))
    """

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @staticmethod
    def of(shape: Sequence[int]) -> View:
        """The view of a whole leaf of this shape."""
        return View(0, tuple(shape), _row_major(tuple(shape)))

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    def transpose(self, order: Sequence[int]) -> View:
        """Axes in a new order."""
        return View(self.offset, tuple(self.shape[a] for a in order), tuple(self.strides[a] for a in order))

    def slice(self, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int] | None = None) -> View:
        """``sizes[a]`` entries along each axis ``a``, from ``starts[a]`` in steps of ``steps[a]`` (default 1)."""
        steps = steps or (1,) * len(self.shape)
        offset = self.offset + sum(start * stride for start, stride in zip(starts, self.strides, strict=True))
        return View(offset, tuple(sizes), tuple(s * k for s, k in zip(self.strides, steps, strict=True)))

    def flip(self, axes: Sequence[int]) -> View:
        """Axes reversed."""
        offset = self.offset + sum(max(self.shape[a] - 1, 0) * self.strides[a] for a in axes)
        return View(offset, self.shape, tuple(-s if a in axes else s for a, s in enumerate(self.strides)))

    def expand(self, axis: int) -> View:
        """A new axis of size one before ``axis``."""
        shape = (*self.shape[:axis], 1, *self.shape[axis:])
        return View(self.offset, shape, (*self.strides[:axis], 1, *self.strides[axis:]))

    def reshape(self, shape: Sequence[int]) -> View | None:
        """The same entries in a new shape, or None where that is no strided view of the leaf."""
        strides = _reshaped_strides(self.shape, self.strides, tuple(shape))
        return None if strides is None else View(self.offset, tuple(shape), strides)

    def leaf_order(self) -> tuple[int, ...]:
        """Order of axes in which strides descend, as they do in the leaf: the canonical form of a transposed view."""
        return tuple(sorted(range(len(self.shape)), key=lambda a: (-abs(self.strides[a]), a)))

    def indices(self) -> NDArray[np.int64]:
        """Row-major position in the leaf of each entry, in the view's shape."""
        return _indices(self)

    def same_entries(self, other: View) -> bool:
        """Whether both views read the same set of entries."""
        if self.size != other.size:
            return False
        return bool(np.array_equal(np.sort(self.indices(), axis=None), np.sort(other.indices(), axis=None)))

    def overlaps(self, other: View) -> bool:
        """Whether some entry of the leaf is read by both views."""
        if self.size == 0 or other.size == 0:
            return False
        (low1, high1), (low2, high2) = self._range(), other._range()
        if high1 < low2 or high2 < low1:
            return False
        return bool(np.intersect1d(self.indices(), other.indices()).size)

    def _range(self) -> tuple[int, int]:
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + sum(min(r, 0) for r in reach), self.offset + sum(max(r, 0) for r in reach)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[a + 1 :]) for a in range(len(shape)))


@lru_cache(maxsize=64)
def _indices(view: View) -> NDArray[np.int64]:
    index = np.full(view.shape, view.offset, dtype=np.int64)
    for axis, (size, stride) in enumerate(zip(view.shape, view.strides, strict=True)):
        along = [1] * len(view.shape)
        along[axis] = size
        index += (stride * np.arange(size)).reshape(along)
    index.setflags(write=False)
    return index


def _reshaped_strides(
    shape: tuple[int, ...], strides: tuple[int, ...], new_shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides of a reshape that copies nothing, or None: old and new axes are matched in groups of equal size."""
    if math.prod(shape) == 0:
        return _row_major(new_shape)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    result: list[int] = []
    group: list[tuple[int, int]] = []
    left = 1  # entries of the current group not yet given to a new axis
    for target in new_shape:
        if target == 1:
            result.append(1)
            continue
        if left == 1:
            group = []
        while left % target:
            if not old:
                return None
            group.append(old.pop(0))
            left *= group[-1][0]
            if not _mergeable(group):
                return None
        left //= target
        result.append(group[-1][1] * left)
    return tuple(result)


def _mergeable(group: Sequence[tuple[int, int]]) -> bool:
    return all(outer[1] == inner[0] * inner[1] for outer, inner in pairwise(group))

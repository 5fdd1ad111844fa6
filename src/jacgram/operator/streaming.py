"""A stored kernel as a matrix that is read one chunk at a time.

Each chunk is brought to the form (shared, left, right): output axes that the pattern keeps once for both sides, the
other axes of side 1, those of side 2. Its product with a block of vectors is then a batched matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacgram.store.grid import Tile, opposite
from jacgram.store.header import Header


@dataclass(frozen=True, slots=True)
class Axes:
    """Names of a stored kernel's axes by what they are of.

    Attributes:
        rows: axes of side 1 that the array has, in the order in which rows of the matrix run.
        columns: those of side 2.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]

    @staticmethod
    def of(header: Header) -> Axes:
        """The axes that a pattern keeps."""
        rows, columns = (tuple(x for x in side if x in header.out) for side in (header.left, header.right))
        return Axes(rows, columns)

    @property
    def shared(self) -> tuple[str, ...]:
        """Axes of both sides, in which the matrix is block-diagonal."""
        return tuple(x for x in self.rows if x in self.columns)

    @property
    def left(self) -> tuple[str, ...]:
        """Axes of side 1 alone."""
        return tuple(x for x in self.rows if x not in self.columns)

    @property
    def right(self) -> tuple[str, ...]:
        """Axes of side 2 alone."""
        return tuple(x for x in self.columns if x not in self.rows)


def matrix_shape(header: Header) -> tuple[int, int]:
    """Rows and columns of a stored kernel as a matrix."""
    sizes = dict(zip(header.out, header.shape, strict=True))
    axes = Axes.of(header)
    return math.prod(sizes[x] for x in axes.rows), math.prod(sizes[x] for x in axes.columns)


def product(stored: Any, vectors: NDArray[Any], *, adjoint: bool) -> NDArray[Any]:
    """K V, or Kᴴ V: each chunk is read once; of a symmetric kernel, chunks on and above the diagonal.

    Args:
        stored: a `jacgram.store.kernel_store.KernelStore`.
        vectors: ``(columns, k)``, or ``(rows, k)`` for the adjoint.
        adjoint: which of the two.

    Cost:
        Holds two copies of one chunk beside the vectors.
    """
    header: Header = stored.header
    axes = Axes.of(header)
    sizes = dict(zip(header.out, header.shape, strict=True))
    into, out_of = (axes.columns, axes.rows) if adjoint else (axes.rows, axes.columns)
    count = vectors.shape[1]
    source = vectors.reshape(*(sizes[x] for x in out_of), count).astype(header.dtype, copy=False)
    result = np.zeros((*(sizes[x] for x in into), count), header.dtype)
    for tile in header.grid.tiles():
        block = _matrix(stored.read(tile), header, axes)
        _add(result, source, header, axes, tile, block, adjoint=adjoint)
        if header.grid.is_mirrored(tile):
            turned = np.swapaxes(block.conj() if header.conjugate else block, 1, 2)
            _add(result, source, header, axes, opposite(tile), turned, adjoint=adjoint)
    return result.reshape(-1, count)


def _matrix(block: NDArray[Any], header: Header, axes: Axes) -> NDArray[Any]:
    """A chunk as ``(shared, left, right)``."""
    groups = (axes.shared, axes.left, axes.right)
    sizes = dict(zip(header.out, block.shape, strict=True))
    ordered = block.transpose([header.out.index(x) for group in groups for x in group])
    return ordered.reshape([math.prod(sizes[x] for x in group) for group in groups])


def _add(
    result: NDArray[Any],
    source: NDArray[Any],
    header: Header,
    axes: Axes,
    tile: Tile,
    block: NDArray[Any],
    *,
    adjoint: bool,
) -> None:
    """Adds one chunk's product to the rows it belongs to."""
    (start1, size1), (start2, size2) = (header.grid.block(side, tile[side - 1]) for side in (1, 2))
    cuts = {header.right[0]: slice(start2, start2 + size2), header.left[0]: slice(start1, start1 + size1)}
    into, out_of = (axes.columns, axes.rows) if adjoint else (axes.rows, axes.columns)
    mine, other = (axes.right, axes.left) if adjoint else (axes.left, axes.right)
    place = tuple(cuts.get(x, slice(None)) for x in into)
    taken = source[tuple(cuts.get(x, slice(None)) for x in out_of)]
    order = [out_of.index(x) for x in (*axes.shared, *other)]
    grouped = taken.transpose([*order, len(out_of)]).reshape(block.shape[0], -1, taken.shape[-1])
    matrix = np.swapaxes(block.conj(), 1, 2) if adjoint else block
    part = np.matmul(matrix, grouped)
    target = result[place]
    names = (*axes.shared, *mine)
    sizes = dict(zip(into, target.shape, strict=False))
    shaped = part.reshape([*(sizes[x] for x in names), part.shape[-1]])
    target += shaped.transpose([*(names.index(x) for x in into), len(names)])

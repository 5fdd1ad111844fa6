"""Which tiles a stored kernel has, and in which order they are best computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

Tile = tuple[int, int]
"""Block of side 1 and block of side 2, counted from zero."""


def opposite(tile: Tile) -> Tile:
    """The tile with its sides exchanged: where a mirror image goes."""
    return tile[1], tile[0]


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The tiles of a kernel.

    Attributes:
        examples: number of examples of side 1 and of side 2.
        tile: examples of side 1 and of side 2 in one tile; the last ones may hold fewer.
        symmetric: whether tiles below the diagonal are mirror images, not computed.
        paired: whether example n of side 1 meets example n of side 2 alone, so that only diagonal tiles exist.

    Example:
        >>> TileGrid((5, 5), (2, 2), symmetric=True, paired=False).tiles()
        [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (2, 2)]
    """

    examples: tuple[int, int]
    tile: tuple[int, int]
    symmetric: bool
    paired: bool

    @property
    def counts(self) -> tuple[int, int]:
        """Number of blocks of each side."""
        blocks = [math.ceil(n / t) for n, t in zip(self.examples, self.tile, strict=True)]
        return blocks[0], blocks[1]

    def __len__(self) -> int:
        rows, columns = self.counts
        if self.paired:
            return rows
        return rows * (rows + 1) // 2 if self.symmetric else rows * columns

    def __contains__(self, tile: object) -> bool:
        if not isinstance(tile, tuple) or len(tile) != 2:
            return False
        row, column = tile
        if not (0 <= row < self.counts[0] and 0 <= column < self.counts[1]):
            return False
        return row == column if self.paired else (not self.symmetric or column >= row)

    def row(self, row: int) -> list[Tile]:
        """Tiles of one block row, from left to right."""
        if self.paired:
            return [(row, row)]
        return [(row, column) for column in range(row if self.symmetric else 0, self.counts[1])]

    def tiles(self) -> list[Tile]:
        """Every tile, row by row, back and forth: a row begins with the columns whose factors were used last."""
        return [tile for row in range(self.counts[0]) for tile in self.row(row)[:: -1 if row % 2 else 1]]

    def block(self, side: int, index: int) -> tuple[int, int]:
        """First example of a block of side 1 or 2, and how many it holds."""
        start = index * self.tile[side - 1]
        return start, min(self.tile[side - 1], self.examples[side - 1] - start)

    def is_mirrored(self, tile: Tile) -> bool:
        """Whether a tile is written a second time, below the diagonal."""
        return self.symmetric and tile[0] != tile[1]

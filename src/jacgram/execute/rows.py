"""Which tile next: each lane stays on a block row, whose factors it holds, until nothing is left of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable

from jacgram.execute.events import Tile


class RowQueue:
    """Tiles still to be begun, handed out so that lanes stay on their rows.

    A lane whose row is done takes a row that nobody has begun; when there is none, the end of the row with most left,
    so that at the end all lanes have work.

    Args:
        tiles: the tiles, row by row.

    Example:
        >>> queue = RowQueue([(0, 0), (0, 1), (1, 0), (1, 1)])
        >>> [queue.take("a"), queue.take("b"), queue.take("a"), queue.take("a")]
        [(0, 0), (1, 0), (0, 1), (1, 1)]
    """

    def __init__(self, tiles: Iterable[Tile]) -> None:
        self._rows: dict[int, deque[Tile]] = {}
        for tile in tiles:
            self._rows.setdefault(tile[0], deque()).append(tile)
        self._unclaimed = deque(self._rows)
        self._row_of: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return sum(len(row) for row in self._rows.values())

    def take(self, lane: Hashable) -> Tile | None:
        """The next tile of a lane; None when no tile is left."""
        row = self._row_of.get(lane)
        if row is not None and self._rows[row]:
            return self._rows[row].popleft()
        while self._unclaimed:
            row = self._unclaimed.popleft()
            if self._rows[row]:
                self._row_of[lane] = row
                return self._rows[row].popleft()
        longest = max(self._rows.values(), key=len, default=None)
        return longest.pop() if longest else None

    def put_back(self, tile: Tile) -> None:
        """A tile that is to be tried again, last of its row."""
        self._rows.setdefault(tile[0], deque()).append(tile)

    def release(self, lane: Hashable) -> None:
        """A lane is gone: others may claim its row."""
        row = self._row_of.pop(lane, None)
        if row is not None and self._rows[row]:
            self._unclaimed.appendleft(row)

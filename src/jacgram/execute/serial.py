"""One tile after the other, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from jacgram.errors import ArgumentError, StoreError
from jacgram.execute.events import Listener, Tile, TileFailed, TileRetried
from jacgram.execute.work import Failure, Work, Worker, describe


@final
@dataclass(frozen=True, slots=True)
class Serial:
    """One tile after the other, in this process: at a kill, the one tile in flight is lost.

    Attributes:
        retries: how often a tile that raises is tried again before it is reported and the others go on.

    Example:
        >>> import jacgram
        >>> jacgram.Serial()
        Serial(retries=1)
    """

    retries: int = 1

    def run(self, work: Work, tiles: Sequence[Tile], emit: Listener) -> list[Failure]:
        """See `jacgram.execute.work.Executor`."""
        worker = work.open()
        failures: list[Failure] = []
        try:
            for tile in tiles:
                failure = self._tile(worker, tile, emit)
                if failure is not None:
                    failures.append(failure)
                    emit(TileFailed(tile, describe(failure.cause)))
                elif (outcome := work.outcome(tile)) is not None:
                    emit(outcome)
        finally:
            worker.close()
        return failures

    def _tile(self, worker: Worker, tile: Tile, emit: Listener) -> Failure | None:
        for attempt in range(1, self.retries + 2):
            try:
                worker.run(tile)
            except (StoreError, ArgumentError):
                raise
            except Exception as error:  # whatever f raises
                if attempt > self.retries:
                    return Failure(tile, error)
                emit(TileRetried(tile, attempt, describe(error)))
            else:
                return None
        return None

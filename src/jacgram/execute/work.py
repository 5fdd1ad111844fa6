"""What an executor is given, and what it must do with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jacgram.execute.events import Listener, Tile, TileFinished


class Worker(Protocol):
    """Live state in one process: parameters on the device, compiled programs, cached factors."""

    def run(self, tile: Tile) -> None:
        """Computes a tile, writes it and records it; nothing where it is recorded already."""
        ...

    def close(self) -> None:
        """Waits until what was recorded is durable."""
        ...


class Work(Protocol):
    """All that is needed to compute tiles. It can be pickled, and is small beside what `open` makes of it."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes can reach the store."""
        ...

    def open(self) -> Worker:
        """The live state, made in the process that computes."""
        ...

    def outcome(self, tile: Tile) -> TileFinished | None:
        """What is recorded of a tile; None where it is not done."""
        ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A tile that could not be computed, and why."""

    tile: Tile
    cause: BaseException


class Executor(Protocol):
    """Runs tiles."""

    def run(self, work: Work, tiles: Sequence[Tile], emit: Listener) -> list[Failure]:
        """Runs every tile, in about this order, telling of each.

        A tile that raises is tried again, and then reported while the others go on. A `StoreError` ends the run: where
        one tile cannot be written, none can. So does an `ArgumentError`.

        Returns:
            The tiles that failed for good.
        """
        ...


def describe(error: BaseException) -> str:
    """An error in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0].rstrip()}" if text else type(error).__name__

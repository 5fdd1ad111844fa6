"""What happens while a kernel is written, as values to which progress bars, logs and summaries listen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, cast

from jacgram.errors import ArgumentError

Tile = tuple[int, int]


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Work begins.

    Attributes:
        where: the store.
        total: tiles of the kernel.
        done: of which were finished before.
        executor: who computes the rest.
    """

    where: str
    total: int
    done: int
    executor: str


@dataclass(frozen=True, slots=True)
class TileFinished:
    """A tile is computed, written and recorded.

    Attributes:
        tile: block of side 1 and of side 2.
        seconds: time to compute and to write it.
        write_seconds: of which to write it.
        n_bytes: bytes written.
        peak_bytes: highest memory use so far of the process that did it.
        worker: that process.
    """

    tile: Tile
    seconds: float
    write_seconds: float
    n_bytes: int
    peak_bytes: int
    worker: str


@dataclass(frozen=True, slots=True)
class TileRetried:
    """A tile failed and is tried again.

    Attributes:
        tile: block of side 1 and of side 2.
        attempt: which attempt failed, the first being 1.
        cause: the error.
    """

    tile: Tile
    attempt: int
    cause: str


@dataclass(frozen=True, slots=True)
class TileFailed:
    """A tile failed for good; the others go on.

    Attributes:
        tile: block of side 1 and of side 2.
        cause: the last error.
    """

    tile: Tile
    cause: str


@dataclass(frozen=True, slots=True)
class RunFinished:
    """Work ends, for whatever reason.

    Attributes:
        total: tiles of the kernel.
        done: of which are finished now.
        failed: of which failed in this run.
        seconds: duration of this run.
    """

    total: int
    done: int
    failed: int
    seconds: float


Event = RunStarted | TileFinished | TileRetried | TileFailed | RunFinished
Listener = Callable[[Event], None]


def broadcast(listeners: Iterable[Listener]) -> Listener:
    """One listener that tells all of them."""
    every = list(listeners)

    def tell(event: Event) -> None:
        for listener in every:
            listener(event)

    return tell


def listeners_of(progress: Any, default: Callable[[], Listener]) -> list[Listener]:
    """The listeners that ``progress=`` stands for: None or False, True for the default one, one, or several.

    Raises:
        ArgumentError: it is none of these.
    """
    if progress is None or progress is False:
        return []
    if progress is True:
        return [default()]
    many = cast(list[Any], list(progress)) if isinstance(progress, list | tuple) else [progress]
    for listener in many:
        if not callable(listener) or isinstance(listener, type):
            raise ArgumentError(
                "progress must be None, True, or listeners, functions of an event such as jacgram.JsonLog('a.jsonl'), "
                f"got {listener!r}."
            )
    return many

"""A run in one table, from its events: tiles, bytes, time in computing and in writing, memory, what failed."""

from __future__ import annotations

from typing import final

from jacgram.core.sizes import format_bytes
from jacgram.execute.events import Event, RunFinished, RunStarted, TileFailed, TileFinished, TileRetried


@final
class Summary:
    """A listener that adds up a run; as a string, its table.

    Example:
        >>> import jacgram
        >>> summary = jacgram.Summary()
        >>> summary(RunStarted("kernel.zarr", total=4, done=1, executor="Serial"))
        >>> summary(TileFinished((0, 0), 0.5, 0.1, 1024, 2**20, "here:1"))
        >>> summary(RunFinished(total=4, done=2, failed=0, seconds=0.6))
        >>> print(summary)
        kernel.zarr         2 of 4 tiles, 1 before this run, 1 in it
        time                0.6 s with Serial; per tile 0.5 s, of which 0.1 s writing
        written             1 KiB, 1.67 KiB/s
        workers             1, peak 1 MiB
    """

    def __init__(self) -> None:
        self._started: RunStarted | None = None
        self._finished: RunFinished | None = None
        self._tiles: list[TileFinished] = []
        self._retried: list[TileRetried] = []
        self._failed: list[TileFailed] = []

    def __call__(self, event: Event) -> None:
        """Take note."""
        match event:
            case RunStarted():
                self._started = event
            case TileFinished():
                self._tiles.append(event)
            case TileRetried():
                self._retried.append(event)
            case TileFailed():
                self._failed.append(event)
            case RunFinished():
                self._finished = event

    def __str__(self) -> str:
        return "\n".join(f"{name:<19} {text}" for name, text in self._rows())

    def _rows(self) -> list[tuple[str, str]]:
        started, finished = self._started, self._finished
        if started is None:
            return [("run", "not started")]
        done = started.done + len(self._tiles)
        rows = [
            (
                started.where,
                f"{done} of {started.total} tiles, {started.done} before this run, {len(self._tiles)} in it",
            )
        ]
        seconds = finished.seconds if finished else sum(tile.seconds for tile in self._tiles)
        if self._tiles:
            count = len(self._tiles)
            each = sum(tile.seconds for tile in self._tiles) / count
            writing = sum(tile.write_seconds for tile in self._tiles) / count
            n_bytes = sum(tile.n_bytes for tile in self._tiles)
            rate = f", {format_bytes(round(n_bytes / seconds))}/s" if seconds > 0 else ""
            workers = {tile.worker for tile in self._tiles}
            peak = format_bytes(max(tile.peak_bytes for tile in self._tiles))
            rows += [
                (
                    "time",
                    f"{seconds:.3g} s with {started.executor}; per tile {each:.3g} s, of which {writing:.3g} s writing",
                ),
                ("written", f"{format_bytes(n_bytes)}{rate}"),
                ("workers", f"{len(workers)}, peak {peak}"),
            ]
        if self._retried:
            rows.append(("tried again", f"{len(self._retried)} times, last {self._retried[-1].cause}"))
        rows += [(f"failed {event.tile}", event.cause) for event in self._failed]
        return rows

"""Loads what draws on a terminal, and what runs on a cluster, when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from jacgram.core.optional import require

if TYPE_CHECKING:
    from rich.progress import Progress

    from jacgram.execute.events import Tile
    from jacgram.execute.plugin import TilePlugin
    from jacgram.execute.work import Work


def rich_progress() -> Progress:
    """A bar with the share done, the rate and the time left, on standard error.

    Raises:
        MissingDependencyError: rich is not installed.
    """
    require("cli", "rich")
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def tile_plugin() -> tuple[type[TilePlugin], Callable[[str, Tile], Tile], Callable[[Work], bytes]]:
    """What brings the work to Dask workers, the task they run, and how the work is pickled.

    Raises:
        MissingDependencyError: Dask is not installed.
    """
    require("dask", "dask", "distributed", "cloudpickle")
    from jacgram.execute.plugin import TilePlugin, pickled, run_tile

    return TilePlugin, run_tile, pickled

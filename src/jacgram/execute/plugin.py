"""What lives on a Dask worker: the work, sent once, and in each thread the live state made of it."""

from __future__ import annotations

import threading
from typing import Any

import cloudpickle
from distributed import WorkerPlugin, get_worker

from jacgram.errors import ArgumentError
from jacgram.execute.events import Tile
from jacgram.execute.memory import keep_no_longer, keep_until_given_back
from jacgram.execute.work import Work, Worker, describe


class TilePlugin(WorkerPlugin):
    """Brings the work to every worker, those that join later too.

    Args:
        name: one for each run.
        payload: the pickled work.
    """

    def __init__(self, name: str, payload: bytes) -> None:
        self.name = name
        self.payload = payload

    def setup(self, worker: Any) -> None:
        """Called by the worker as it gets the plugin."""
        self._live = threading.local()
        self._workers: list[Worker] = []
        keep_until_given_back()

    def teardown(self, worker: Any) -> None:
        """Called by the worker as it loses the plugin."""
        for each in self._workers:
            each.close()
        keep_no_longer()

    def worker(self) -> Worker:
        """This thread's live state."""
        if not hasattr(self._live, "worker"):
            self._live.worker = self._work().open()
            self._workers.append(self._live.worker)
        return self._live.worker

    def _work(self) -> Work:
        try:
            return cloudpickle.loads(self.payload)
        except Exception as error:  # whatever an object's own pickling raises
            raise ArgumentError(
                f"f, its parameters or its data cannot be made again on a Dask worker: {describe(error)}. Fix: install "
                "there what f needs, define what does not pickle in a module that workers can import, and give data as "
                "files that they can open."
            ) from error


def run_tile(name: str, tile: Tile) -> Tile:
    """The task: computes a tile, writes and records it. It returns the tile's id alone, so losing it loses nothing."""
    plugin: Any = get_worker().plugins[name]
    plugin.worker().run(tile)
    return tile


def pickled(work: Work) -> bytes:
    """The work as bytes.

    Raises:
        ArgumentError: f, the parameters or the data cannot be pickled.
    """
    try:
        return cloudpickle.dumps(work)
    except Exception as error:  # whatever an object's own pickling raises
        raise ArgumentError(
            f"f, its parameters or its data cannot be sent to Dask workers: {describe(error)}. Fix: let f close over "
            "arrays and plain values alone (no locks, open files, or clients), or use executor=Serial()."
        ) from error

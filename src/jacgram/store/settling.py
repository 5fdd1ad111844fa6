"""Waits for the disk while the next tile is computed."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jacgram.store.kernel_store import KernelStore
    from jacgram.store.manifest import Entry

_AHEAD = 4  # tiles that may wait for the disk before computing waits too


class Settler:
    """Settles recorded tiles in a thread of its own, in order.

    Args:
        stored: the kernel they belong to.
    """

    def __init__(self, stored: KernelStore) -> None:
        self._stored = stored
        self._waiting: queue.Queue[Entry | None] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def add(self, entry: Entry) -> None:
        """A tile that was written and recorded. Raises what went wrong with an earlier one."""
        self._raise()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="jacgram-settle", daemon=True)
            self._thread.start()
        self._waiting.put(entry)

    def close(self) -> None:
        """Waits until every tile is settled. Raises what went wrong with one."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join()
            self._thread = None
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _run(self) -> None:
        while (entry := self._waiting.get()) is not None:
            try:
                self._stored.settle(entry)
            except BaseException as error:  # handed to the thread that computes
                self._error = self._error or error

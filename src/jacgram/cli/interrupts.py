"""Ctrl-C while a kernel is written."""

from __future__ import annotations

import signal
import threading
from contextlib import AbstractContextManager
from typing import Any, NoReturn, Self

from jacgram.execute.events import Event, RunFinished


class Interrupts(AbstractContextManager["Interrupts"]):
    """Raises KeyboardInterrupt at once, and where that was lost once more at the next event.

    It is lost where it falls into a destructor or a weak reference's callback, for Python reports it there and goes
    on, or into code that catches whatever comes. Listens to events; within the context, on the main thread, to SIGINT.
    """

    def __init__(self) -> None:
        self._came = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def __call__(self, event: Event) -> None:
        if self._came and not isinstance(event, RunFinished):
            raise KeyboardInterrupt

    def _interrupt(self, *_: object) -> NoReturn:
        self._came = True
        raise KeyboardInterrupt

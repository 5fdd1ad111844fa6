"""Time and memory of a call, in the process it runs in."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil

_EVERY_S = 0.001
_REPEATS = 7


@dataclass(frozen=True, slots=True)
class Measured:
    """What a call cost.

    Attributes:
        value: what it returned the first time.
        first_s: the first call, tracing and compilation included.
        again_s: median of later calls.
        peak_bytes: growth of the process's resident memory during the first call, at its highest: sampled every
            millisecond, so a shorter peak may be missed.
    """

    value: Any
    first_s: float
    again_s: float
    peak_bytes: int


def measure(call: Callable[[], Any]) -> Measured:
    """Run ``call``, which must return only when its work is done, once and then a few times more."""
    with _PeakMemory() as memory:
        value, first_s = _timed(call)
    again_s = statistics.median(_timed(call)[1] for _ in range(_REPEATS))
    return Measured(value, first_s, again_s, memory.growth_bytes)


def _timed(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    value = call()
    return value, time.perf_counter() - start


class _PeakMemory:
    """Samples resident memory in a thread while the block runs."""

    def __enter__(self) -> _PeakMemory:
        self._process = psutil.Process()
        self._start = self._highest = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def growth_bytes(self) -> int:
        return self._highest - self._start

    def _sample(self) -> None:
        while True:
            self._highest = max(self._highest, self._process.memory_info().rss)
            if self._stop.wait(_EVERY_S):
                break
        self._highest = max(self._highest, self._process.memory_info().rss)

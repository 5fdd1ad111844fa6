"""Two contestants in turn, so that a machine whose speed drifts slows both alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Duel:
    """Times of one thing done in two ways.

    Attributes:
        name: what was done.
        theirs_s, ours_s: median seconds.
        error: largest difference of the results, relative to the largest entry.
    """

    name: str
    theirs_s: float
    ours_s: float
    error: float

    @property
    def ratio(self) -> float:
        """Peer time over ours."""
        return self.theirs_s / self.ours_s

    def row(self) -> str:
        """The figures as a row of a Markdown table."""
        times = f"{self.theirs_s * 1e3:.3g} | {self.ours_s * 1e3:.3g}"
        return f"| {self.name} | {times} | {self.ratio:.2f} | {self.error:.0e} |"


HEAD = "| | peer, ms | jacgram, ms | ratio | error |\n| --- | --: | --: | --: | --: |"


def duel(
    name: str, theirs: Callable[[], Any], ours: Callable[[], Any], *, rounds: int, tolerance: float = 1e-4
) -> Duel:
    """Medians over ``rounds`` of both in turn, after one of each; a wrong result is an error."""
    expected, found = np.asarray(theirs()), np.asarray(ours())
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    if not error < tolerance:
        raise AssertionError(f"{name}: results differ by {error:.1e}")
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for call, taken in zip((theirs, ours), times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return Duel(name, statistics.median(times[0]), statistics.median(times[1]), error)

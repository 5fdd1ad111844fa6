"""Contestants in turn, so that a machine whose speed drifts slows all alike; a call ends when its device is done."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacgram.arrays import Arrays, adapter


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
    name: str,
    theirs: Callable[[], Any],
    ours: Callable[[], Any],
    *,
    rounds: int,
    tolerance: float = 1e-4,
    expected: np.ndarray | None = None,
) -> Duel:
    """Medians over ``rounds`` of both in turn, after one of each; a wrong result is an error."""
    expected = host(theirs()) if expected is None else expected
    error = agreed(name, host(ours()), expected, tolerance=tolerance)
    found = medians({"theirs": theirs, "ours": ours}, rounds)
    return Duel(name, found["theirs"], found["ours"], error)


def agreed(name: str, found: np.ndarray, expected: np.ndarray, *, tolerance: float = 1e-4) -> float:
    """The difference of two results, if it is small enough; a wrong result is an error."""
    error = difference(found, expected)
    if not error < tolerance:
        raise AssertionError(f"{name}: results differ by {error:.1e}")
    return error


def absent(name: str, reason: str) -> str:
    """A row without figures."""
    return f"| {name} | none: {reason} | | | |"


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each, all taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(taken) for name, taken in times.items()}


def seconds(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    finish(call())
    return time.perf_counter() - start


def finish(result: Any) -> Any:
    """The result, once it is computed: JAX returns before, and so does PyTorch on CUDA."""
    if "jax" in sys.modules:
        sys.modules["jax"].block_until_ready(result)
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.synchronize()
    return result


def host(result: Any) -> np.ndarray:
    """The result in NumPy."""
    return result.detach().cpu().numpy() if hasattr(result, "detach") else np.asarray(result)


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest entry."""
    if found.shape != expected.shape:
        raise AssertionError(f"results have shapes {found.shape} and {expected.shape}")
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def primitives(framework: str) -> Arrays:
    """The framework's array primitives, on the GPU where there is one."""
    if framework == "torch":
        import torch

        return adapter(framework).at([torch.empty(0, device="cuda" if torch.cuda.is_available() else "cpu")])
    return adapter(framework)


def product_rate(framework: str, side: int = 2048) -> float:
    """Operations per second of one large float32 matrix product, as the framework runs it here."""
    xp = primitives(framework)
    a = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    return 2 * side**3 / xp.seconds(lambda left, right: xp.einsum("ik,kj->ij", left, right), a, a)

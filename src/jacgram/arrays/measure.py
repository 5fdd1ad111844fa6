"""Measures a device once, with the framework's own products and copies, and remembers the figures on disk.

Measuring takes a few seconds. Figures of a machine that is busy with other things are kept for an hour, and then
measured again. It runs in a thread of its own, because a framework that is tracing on this one would trace the
measurement too.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from jacgram.arrays.base import Arrays
from jacgram.arrays.host import others_busy_s
from jacgram.plan.device import Device, Table

_VERSION = 13
_DISTURBED = 0.25  # share of the machine that others take, beyond which figures are not kept for good
_PROVISIONAL_S = 3600  # how long they are kept then
_ROUNDS = 2  # of everything, for what disturbs a measurement comes and goes
_SIDES = (1, 4, 16, 64, 256, 1024)
_COPY_BYTES = (1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)


def device(xp: Arrays) -> Device:
    """The figures of the device that ``xp`` computes on: from this process, from disk, or measured now."""
    return _device(xp, xp.device_name())


@lru_cache(maxsize=8)
def _device(xp: Arrays, name: str) -> Device:
    path = cache_folder() / f"device-{re.sub(r'[^A-Za-z0-9]+', '-', f'{xp.name} {name}')}-{_VERSION}.json"
    provisional = path.with_suffix(".busy.json")
    known = _read(path) or (_read(provisional) if _age_s(provisional) < _PROVISIONAL_S else None)
    if known is None:
        busy_s, start = others_busy_s(), time.perf_counter()
        known = _in_thread(lambda: best([measure(xp, name) for _ in range(_ROUNDS)]))
        share = (others_busy_s() - busy_s) / (time.perf_counter() - start) / (os.cpu_count() or 1)
        _write(path if share <= _DISTURBED else provisional, known)
    return known


def cache_folder() -> Path:
    """Where figures are kept: ``$JACGRAM_CACHE``, or ``jacgram`` in the user's cache folder."""
    if chosen := os.environ.get("JACGRAM_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jacgram"


def measure(xp: Arrays, name: str) -> Device:
    """Figures measured now."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    products, sums = (
        [(side, _product_rate(xp, draw, side, summed=summed)) for side in _SIDES] for summed in (False, True)
    )
    copies = _copies(xp, draw)
    call_s = xp.seconds(lambda a: _loop(xp, a), draw(1, 16, 16)) / _STEPS
    turned = draw(16, 64, 32, 128)  # small enough to go without fresh memory from the system
    turn_s = xp.seconds(lambda a: xp.reshape(xp.transpose(a, (0, 1, 3, 2)), (-1,)), turned)
    small = draw(64, 128, 128)
    small_s = xp.seconds(lambda a: xp.einsum("bmk,bkn->bmn", a, a), small)
    return Device(
        name,
        products=tuple(products),
        copies=tuple(copies),
        call_s=call_s,
        overhead=xp.overhead,
        turns_per_s=turned.nbytes / turn_s,
        sums=tuple(sums),
        reused_bytes=xp.reused_bytes,
        pass_bytes=xp.pass_bytes,
        shares=xp.shares,
        views=xp.views,
        abreast=xp.abreast,
        batched_flops_per_s=2 * small.size * small.shape[-1] / small_s,
    )


def best(rounds: Sequence[Device]) -> Device:
    """The fastest of each figure: nothing makes a device faster than it is."""

    def fastest(tables: Iterable[Table]) -> Table:
        return tuple((row[0][0], max(rate for _, rate in row)) for row in zip(*tables, strict=True))

    return replace(
        rounds[0],
        products=fastest(figures.products for figures in rounds),
        copies=fastest(figures.copies for figures in rounds),
        sums=fastest(figures.sums for figures in rounds),
        call_s=min(figures.call_s for figures in rounds),
        turns_per_s=max(figures.turns_per_s for figures in rounds),
        batched_flops_per_s=max(figures.batched_flops_per_s for figures in rounds),
    )


def _product_rate(xp: Arrays, draw: Callable[..., Any], side: int, *, summed: bool) -> float:
    """Rate of products with one side of this size, a kept one or the summed one."""
    inner = max(side, 512)
    batch = max(1, 2**25 // (side * inner * inner))
    m, k = (inner, side) if summed else (side, inner)
    seconds = xp.seconds(lambda a, b: xp.einsum("bmk,bkn->bmn", a, b), draw(batch, m, k), draw(batch, k, inner))
    return 2 * batch * side * inner * inner / seconds


_STEPS = 64


def _copies(xp: Arrays, draw: Callable[..., Any]) -> list[tuple[float, float]]:
    """Rates of reading an array and writing another into fresh memory, the call's own time left out."""
    empty_s = xp.seconds(lambda a: a * 2, draw(1))
    found: list[tuple[float, float]] = []
    for n_bytes in _COPY_BYTES:
        seconds = xp.seconds(lambda a: a * 2, draw(n_bytes // 8))
        found.append((n_bytes, n_bytes / max(seconds - empty_s, 0.2 * seconds)))
    # What fits a smaller cache is no slower to reach: where it seems so, something disturbed the measurement.
    return [(n_bytes, max(rate for _, rate in found[position:])) for position, (n_bytes, _) in enumerate(found)]


def _loop(xp: Arrays, a: Any) -> Any:
    """A loop of small products, each cut from an array: what a step costs, whatever it does."""
    return xp.fold(lambda at, out: xp.einsum("bmk,bkn->bmn", out, xp.slice(a, 1, at, 16)), a, [0] * _STEPS)


def _in_thread(work: Callable[[], Device]) -> Device:
    found: list[Device] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # handed to the calling thread
            errors.append(error)

    thread = threading.Thread(target=run, name="jacgram-measure")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return found[0]


def _read(path: Path) -> Device | None:
    try:
        return Device.from_json(path.read_text())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _age_s(path: Path) -> float:
    """Seconds since a file was written; infinitely many where there is none."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return float("inf")


def _write(path: Path, figures: Device) -> None:
    """Figures that cannot be kept are measured again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.draft")
        draft.write_text(figures.to_json())
        draft.replace(path)
    except OSError:
        return

"""Measures a device once, with the framework's own products and copies, and remembers the figures on disk.

Measuring takes a few seconds. Figures of a machine that is busy with other things are kept for an hour, and then
measured again. It runs in a thread of its own, because a framework that is tracing on this one would trace the
measurement too.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jacgram.arrays.base import Arrays
from jacgram.arrays.host import others_busy_s
from jacgram.errors import ArgumentError
from jacgram.plan.device import Device, Table

_VERSION = 16
_DISTURBED = 0.25  # share of the machine that others take, beyond which figures are not kept for good
_PROVISIONAL_S = 3600  # how long they are kept then
_ROUNDS = 2  # of everything, for what disturbs a measurement comes and goes
_MOST_ENTRIES = 1 << 26  # of one array
_STEPS = 64
_COPY_BYTES = (1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26)


def device(xp: Arrays) -> Device:
    """The figures of the device that ``xp`` computes on: from this process, from disk, or measured now."""
    return _device(xp, xp.device_name())


@lru_cache(maxsize=8)
def _device(xp: Arrays, name: str) -> Device:
    folder = cache_folder()
    if folder is None:
        return _measured(xp, name)
    path = folder / f"device-{re.sub(r'[^A-Za-z0-9]+', '-', f'{xp.name} {name}')}-{_VERSION}.json"
    provisional = path.with_suffix(".busy.json")
    known = _read(path) or (_read(provisional) if _age_s(provisional) < _PROVISIONAL_S else None)
    if known is None:
        busy_s, start = others_busy_s(), time.perf_counter()
        known = _measured(xp, name)
        share = (others_busy_s() - busy_s) / (time.perf_counter() - start) / (os.cpu_count() or 1)
        _write(path if share <= _DISTURBED else provisional, known)
    return known


def _measured(xp: Arrays, name: str) -> Device:
    return _in_thread(lambda: best([measure(xp, name) for _ in range(_ROUNDS)]))


def cache_folder() -> Path | None:
    """Where figures are kept: ``$JACGRAM_CACHE``, or ``jacgram`` in the user's cache folder; None without a home."""
    if chosen := os.environ.get("JACGRAM_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jacgram"
    except RuntimeError:  # as in a container without a user
        return None


def measure(xp: Arrays, name: str) -> Device:
    """Figures measured now."""
    calls, traits = _calls(xp), xp.traits
    empty_s = xp.seconds(calls.copy, _draw(1))

    def per_s(amount: float, call: Callable[..., Any], *shapes: tuple[int, ...]) -> float:
        """Rate of a call that does so much, without what it takes to start it."""
        seconds = xp.seconds(call, *(_draw(*shape) for shape in shapes))
        return amount / max(seconds - empty_s, 0.2 * seconds)

    def product(side: int, *, summed: bool) -> float:
        """Rate of products with one side of this size, a kept one or the summed one."""
        inner = max(side, 512)
        batch = max(1, traits.measured_flops // (2 * side * inner * inner))
        batch = min(batch, _MOST_ENTRIES // (inner * inner))
        m, k = (inner, side) if summed else (side, inner)
        return per_s(2.0 * batch * side * inner * inner, calls.product, (batch, m, k), (batch, k, inner))

    copies = [(float(size), per_s(size, calls.copy, (size // 8,))) for size in _COPY_BYTES[:-1]]
    copies.append((_COPY_BYTES[-1], per_s(traits.measured_bytes, calls.copy, (traits.measured_bytes // 8,))))
    # A fourth of it, to go without fresh memory from the system where that clears it.
    turned = (traits.measured_bytes // 16 // (64 * 32 * 128), 64, 32, 128)
    small = (max(64, traits.measured_flops // (2 * 128**3)), 128, 128)
    return Device(
        name,
        products=tuple((side, product(side, summed=False)) for side in traits.measured_sides),
        # What fits a smaller cache is no slower to reach: where it seems so, something disturbed the measurement.
        copies=tuple((size, max(rate for _, rate in copies[at:])) for at, (size, _) in enumerate(copies)),
        call_s=xp.seconds(calls.loop, _draw(1, 16, 16)) / _STEPS,
        overhead=traits.overhead,
        turns_per_s=per_s(4 * math.prod(turned), calls.turn, turned),
        sums=tuple((side, product(side, summed=True)) for side in traits.measured_sums),
        reused_bytes=traits.reused_bytes,
        pass_bytes=traits.pass_bytes,
        shares=traits.shares,
        views=traits.views,
        abreast=traits.abreast,
        compiled=traits.compiled,
        batched_flops_per_s=per_s(2 * math.prod(small) * small[-1], calls.square, small),
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


def _draw(*shape: int) -> Any:
    """Random numbers; of a large array some, over and over."""
    drawn = np.random.default_rng(0).standard_normal(min(math.prod(shape), 1 << 22), np.float32)
    return np.resize(drawn, shape)


class _Calls(NamedTuple):
    """What is measured."""

    copy: Callable[[Any], Any]
    product: Callable[[Any, Any], Any]
    square: Callable[[Any], Any]
    turn: Callable[[Any], Any]
    loop: Callable[[Any], Any]


@lru_cache(maxsize=8)
def _calls(xp: Arrays) -> _Calls:
    """The same objects in each round, for a framework may compile them."""

    def product(a: Any, b: Any) -> Any:
        return xp.einsum("bmk,bkn->bmn", a, b)

    def step(at: Any, out: Any, a: Any) -> Any:
        return product(out, xp.slice(a, 1, at, 16))

    return _Calls(
        copy=lambda a: a * 2,  # reading an array and writing another
        product=product,
        square=lambda a: product(a, a),
        turn=lambda a: xp.reshape(xp.transpose(a, (0, 1, 3, 2)), (-1,)),
        loop=lambda a: xp.fold(lambda at, out: step(at, out, a), a, [0] * _STEPS),  # what a step costs by itself
    )


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, ArgumentError):
        return None  # absent, cut off, or of no sense: measured anew


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
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.draft")
        draft.write_text(figures.to_json())
        draft.replace(path)
    except OSError:
        return

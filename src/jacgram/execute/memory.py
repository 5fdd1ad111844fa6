"""Memory of this process: how much it has used, and giving back what it has freed."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")  # either fixes both in glibc
_FIRST_THRESHOLD = 128 << 10  # of both, in a fresh process
_LARGEST_THRESHOLD = 32 << 20  # up to which glibc moves the second by itself; the first it then keeps at twice that


def peak_bytes() -> int:
    """Highest memory use of this process so far."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return peak_of_family()


def peak_of_family() -> int:
    """The same where there is no ``/proc``; it may be that of a larger process which started this one."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def give_back() -> None:
    """Returns freed memory to the system, where the C library is glibc and can be asked to.

    Tiles come and go in blocks of tens of megabytes, too small to be mapped one by one and too large to leave lying
    about: without this, a process grows to several times of what it holds.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_until_given_back() -> None:
    """Lets glibc keep freed memory until `give_back` where the environment forbids it; elsewhere it does so by itself.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_`` at 64 KiB, so that memory freed anywhere goes back to the system
    at once. That also fixes the size from which memory is mapped piece by piece at 128 KiB: every array of a tile would
    be faulted in anew, a tenth of its time.
    """
    _set_thresholds(2 * _LARGEST_THRESHOLD, _LARGEST_THRESHOLD)


def keep_no_longer() -> None:
    """Undoes `keep_until_given_back`: what the environment says counts again."""
    _set_thresholds(*(_from_environment(name) for name in _VARIABLES))
    give_back()


def _set_thresholds(trim: int, mmap: int) -> None:
    set_option = _of_glibc("mallopt")
    if set_option is not None and any(name in os.environ for name in _VARIABLES):
        set_option(_TRIM_THRESHOLD, trim)
        set_option(_MMAP_THRESHOLD, mmap)


def _from_environment(name: str) -> int:
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) < 1 << 31 else _FIRST_THRESHOLD


@lru_cache(maxsize=2)
def _of_glibc(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None

"""Memory of this process: how much it has used, and giving back what it has freed."""

from __future__ import annotations

import ctypes
import resource
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any


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
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Any:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):
        return None

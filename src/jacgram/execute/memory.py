"""Memory of this process: how much it has used, and giving back what it has freed."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from jacgram.arrays.allocator import (
    LARGEST_PIECE,
    environment_fixes_thresholds,
    of_libc,
    set_thresholds,
    thresholds_of_environment,
)


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
    trim = of_libc("malloc_trim")
    if trim is not None:
        trim(0)


def keep_until_given_back() -> None:
    """Lets glibc keep freed memory until `give_back` where the environment forbids it; elsewhere it does so by itself.

    Dask starts workers with ``MALLOC_TRIM_THRESHOLD_`` at 64 KiB, so that memory freed anywhere goes back to the system
    at once. That also fixes the size from which memory is mapped piece by piece at 128 KiB: every array of a tile would
    be faulted in anew, a tenth of its time. Where it has more kept than that, so be it.
    """
    if environment_fixes_thresholds():
        trim, mmap = thresholds_of_environment()
        set_thresholds(max(trim, 2 * LARGEST_PIECE), max(mmap, LARGEST_PIECE))


def keep_no_longer() -> None:
    """Undoes `keep_until_given_back`: what the environment says counts again."""
    if environment_fixes_thresholds():
        set_thresholds(*thresholds_of_environment())
    give_back()

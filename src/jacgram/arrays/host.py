"""The host: its free memory, its processor, and a stopwatch."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

_FALLBACK_BYTES = 4 << 30
_NUMBERS = ("cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")  # of x86, of Arm


def host_free_bytes() -> int:
    """Memory that can be allocated without swapping, within the control group's limit where there is one."""
    available = _meminfo()
    limit = _cgroup_room()
    return available if limit is None else min(available, limit)


def _meminfo() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError):
        return _FALLBACK_BYTES


def _cgroup_room() -> int | None:
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = (root / "memory.current").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else max(int(limit) - int(used), 0)


def others_busy_s() -> float:
    """Seconds that all cores together have worked for other processes than this one; 0 where the system does not tell.

    It counts from when the system started, in hundredths of a second: what tells something is a difference.
    """
    try:
        ticks = [int(count) for count in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        worked = sum(ticks) - sum(ticks[3:5])  # but for idle and iowait; guests count as user
        return worked / os.sysconf("SC_CLK_TCK") - time.process_time()
    except (OSError, ValueError, IndexError):
        return 0.0


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_name() -> str:
    """The processor and the number of cores this process may use."""
    return f"{_processor()} {usable_cores()} cores"


def _processor() -> str:
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        cpuinfo = ""
    return described(cpuinfo) or platform.processor() or platform.machine()


def described(cpuinfo: str) -> str:
    """What tells the processor of Linux's ``/proc/cpuinfo`` from others, "" where nothing does.

    A name by itself does not: virtual machines give one to all processors of a maker, and Arm's give none.
    """
    lines = cpuinfo.partition("\n\n")[0].splitlines()  # of the first core
    given = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [given[key] for key in _NUMBERS if key in given]
    return " ".join(filter(None, [given.get("model name", ""), "-".join(numbers)]))


def least_seconds(call: Callable[[], object], *, enough_s: float = 0.03, most: int = 20) -> float:
    """The least time of several calls after a first one: until ``enough_s`` seconds or ``most`` calls."""
    call()
    best, spent = float("inf"), 0.0
    for _ in range(most):
        start = time.perf_counter()
        call()
        taken = time.perf_counter() - start
        best, spent = min(best, taken), spent + taken
        if spent > enough_s:
            break
    return best

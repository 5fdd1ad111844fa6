"""Free memory of the host."""

from __future__ import annotations

import os
from pathlib import Path

_FALLBACK_BYTES = 4 << 30


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

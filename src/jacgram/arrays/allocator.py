"""What the C library keeps of freed memory, where it is glibc: how much, and pieces of which size (mallopt(3))."""

from __future__ import annotations

import ctypes
import os
from functools import lru_cache
from typing import Any

LARGEST_PIECE = 32 << 20  # up to which glibc itself moves the size from which each piece is mapped by itself
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as malloc.h numbers them
_NAMES = ("trim_threshold", "mmap_threshold", "top_pad", "mmap_max")  # to set one of them fixes the first two
_FIRST_THRESHOLD = 128 << 10  # of both, in a fresh process
_MOST = (1 << 31) - 1  # what mallopt takes is an int


def set_thresholds(trim: int, mmap: int) -> None:
    """From how much on what lies free behind all that is in use goes back, and from which size pieces are mapped alone.

    Both in bytes. Nothing where the C library has no such settings. Once set, glibc no longer moves either by itself.
    """
    set_option = of_libc("mallopt")
    if set_option is not None:
        set_option(_TRIM_THRESHOLD, trim)
        set_option(_MMAP_THRESHOLD, mmap)


def environment_fixes_thresholds() -> bool:
    """Whether the environment has set them for this process, or something that keeps glibc from moving them."""
    return any(_given(name) is not None for name in _NAMES)


def thresholds_of_environment() -> tuple[int, int]:
    """Both as the environment has them, or else as they are in a fresh process."""
    trim, mmap = (_bytes(_given(name)) for name in _NAMES[:2])
    return trim, mmap


def _given(name: str) -> str | None:
    """The value in the environment, in either of its spellings, of which glibc takes the newer one."""
    tunables = dict(part.split("=", 1) for part in os.environ.get("GLIBC_TUNABLES", "").split(":") if "=" in part)
    return tunables.get(f"glibc.malloc.{name}", os.environ.get(f"MALLOC_{name.upper()}_"))


def _bytes(value: str | None) -> int:
    try:
        given = _FIRST_THRESHOLD if value is None else int(value, 0)
    except ValueError:
        return _FIRST_THRESHOLD
    return min(given, _MOST) if given >= 0 else _MOST  # what is below zero is large to glibc


@lru_cache(maxsize=2)
def of_libc(name: str) -> Any:
    """A function of the C library; None where it has none of this name."""
    try:
        return getattr(ctypes.CDLL(None), name, None)
    except (OSError, TypeError):
        return None

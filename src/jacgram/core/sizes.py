"""Byte counts: reading a memory budget such as ``"64MiB"``, and printing one."""

from __future__ import annotations

import re

from jacgram.errors import ArgumentError

_UNITS = {"b": 1} | {
    f"{prefix}{infix}b": base**power
    for infix, base in (("", 1000), ("i", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}
_FIX = 'pass a positive number of bytes, or a string such as "64MiB" or "2GB"'


def parse_bytes(memory: int | str) -> int:
    """Bytes of a budget given as a number of bytes or as a string with a unit.

    Example:
        >>> parse_bytes("64MiB")
        67108864
        >>> parse_bytes("1.5 GB")
        1500000000
    """
    if isinstance(memory, bool) or not isinstance(memory, int | str):
        raise ArgumentError(f"memory must be an int or a str, got {type(memory).__name__} {memory!r}; {_FIX}.")
    n_bytes = memory if isinstance(memory, int) else _parse(memory)
    if n_bytes <= 0:
        raise ArgumentError(f"memory must be positive, got {memory!r}; {_FIX}.")
    return n_bytes


def _parse(text: str) -> int:
    match = re.fullmatch(r"\s*(-?\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    unit = _UNITS.get(match[2] or "b") if match else None
    if match is None or unit is None:
        raise ArgumentError(f"memory cannot be read from {text!r}; {_FIX}.")
    return int(float(match[1]) * unit)


def format_bytes(n_bytes: int) -> str:
    """A byte count for people, in binary units.

    Example:
        >>> format_bytes(67108864)
        '64 MiB'
    """
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return _three_digits(value, unit)
        value /= 1024
    return _three_digits(value, "TiB")


def _three_digits(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"

"""Ragged loops over blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jacgram.arrays import Arrays


def over_blocks(xp: Arrays, total: int, size: int, body: Callable[[Any, int, Any], Any], carry: Any) -> Any:
    """``carry = body(start, size, carry)`` for each block of ``total``; the last block may be smaller."""
    whole = total // size
    if whole:
        carry = xp.fold(lambda start, c: body(start, size, c), carry, [size * i for i in range(whole)])
    return body(whole * size, total - whole * size, carry) if total % size else carry

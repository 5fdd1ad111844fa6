"""Ragged loops over blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jacgram.arrays import Arrays


def over_blocks(xp: Arrays, total: int, size: int, body: Callable[[Any, int, Any], Any], carry: Any) -> Any:
    """``carry = body(start, size, carry)`` for each block of ``total``; the last block may be smaller."""
    if not total:
        return carry
    whole = total // size
    if whole:
        carry = xp.fold(lambda start, c: body(start, size, c), carry, [size * i for i in range(whole)])
    return body(whole * size, total - whole * size, carry) if total % size else carry


def collected(xp: Arrays, total: int, size: int, body: Callable[[Any, int], list[Any]]) -> list[Any]:
    """Arrays of ``body(start, size)`` for each block of ``total``, laid one after the other along their first axes."""
    whole = total // size
    found: list[list[Any]] = []
    if whole:
        found.append(xp.collect(lambda start: body(start, size), [size * i for i in range(whole)]))
    if total % size:
        found.append(body(whole * size, total - whole * size))
    return [xp.concatenate(pieces, 0) for pieces in zip(*found, strict=True)]

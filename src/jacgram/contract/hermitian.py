"""Results that are Hermitian to the last bit, from tiles on and above the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jacgram.arrays import Arrays
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted


def symmetrize(
    xp: Arrays, task: Task, results: Sequence[Sequence[Any]], tile: int | None, *, conjugate: bool
) -> list[list[Any]]:
    """The mean of each result and its adjoint where both were computed, their sum where one of them is still zero.

    Floating-point addition commutes, so either gives exactly Hermitian numbers.

    Args:
        results: per pair of the task, what was computed (of each leaf in turn).
        tile: examples per tile, when tiles below the diagonal are still zero; None when all was computed.
        conjugate: whether the result is J1 J2ᴴ rather than J1 J2ᵀ.
    """
    found: list[list[Any]] = []
    for pair, mine in zip(task.pairs, results, strict=True):
        opposite = task.opposite(pair)
        order = pair.wanted.swapped(task.pairs[opposite].wanted)
        assert order is not None, "the pattern of a Hermitian task treats its sides alike"
        both = zip(mine, results[opposite], strict=True)
        found.append([_mean(xp, pair.wanted, a, xp.transpose(b, order), tile, conjugate=conjugate) for a, b in both])
    return found


def _mean(xp: Arrays, wanted: Wanted, result: Any, other: Any, tile: int | None, *, conjugate: bool) -> Any:
    total = result + (xp.conj(other) if conjugate else other)
    if tile is None:
        return total * 0.5
    assert wanted.example1 is not None and wanted.example2 is not None
    blocks = np.arange(dict(wanted.sizes)[wanted.example1]) // tile
    weight = np.where(blocks[:, None] == blocks[None, :], np.float32(0.5), np.float32(1.0))
    at = [wanted.out.index(wanted.example1), wanted.out.index(wanted.example2)]
    shape = [len(blocks) if axis in at else 1 for axis in range(len(wanted.out))]
    return total * xp.asarray(weight.reshape(shape), total)

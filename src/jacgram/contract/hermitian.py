"""Results that are Hermitian to the last bit, from tiles on and above the diagonal.

Floating-point addition commutes, so the mean of a number and the one across the diagonal is the same on either side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from jacgram.arrays import Arrays
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted

Blocks = list[list[Any]]
"""Per pair of outputs, an array, or one of each leaf; None where nothing adds to it."""


def symmetrize(xp: Arrays, task: Task, results: Blocks, panel: int | None, *, conjugate: bool) -> Blocks:
    """The mean of each result and its adjoint where both were computed, their sum where one of them is still zero.

    Args:
        results: what was computed, all of it; each array is let go of once it has been read.
        panel: examples of a panel, when panels below the diagonal are still zero; None when all was computed.
        conjugate: whether the result is J1 J2ᴴ rather than J1 J2ᵀ.
    """
    found: Blocks = [list(part) for part in results]
    for position, pair in enumerate(task.pairs):
        opposite = task.opposite(pair)
        for copy in range(len(found[position]) if opposite >= position else 0):
            places = dict.fromkeys((position, opposite))
            halves = {at: _half(xp, task.pairs[at].wanted, _taken(results, found, at, copy), panel) for at in places}
            for at, across in zip(places, reversed(places), strict=True):
                order = swapped(task, at)
                found[at][copy] = halves[at] + adjoint(xp, halves[across], order, conjugate=conjugate)
    return found


def adjoints(xp: Arrays, task: Task, blocks: Blocks, *, conjugate: bool) -> Blocks:
    """Of each pair, the adjoint of the opposite pair's block: what belongs across the diagonal from there."""
    return [
        [
            None if block is None else adjoint(xp, block, swapped(task, position), conjugate=conjugate)
            for block in blocks[task.opposite(pair)]
        ]
        for position, pair in enumerate(task.pairs)
    ]


def across(task: Task, starts: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Where `adjoints` begin in each pair's result, if blocks begin at ``starts``."""
    return [
        [starts[task.opposite(pair)][axis] for axis in swapped(task, position)]
        for position, pair in enumerate(task.pairs)
    ]


def halves(blocks: Blocks, opposite: Blocks, *, apart: bool) -> tuple[Blocks, Blocks]:
    """A tile on the diagonal and its adjoint, so that both may be added: half of each, or of their mean.

    Args:
        apart: whether they belong to places of their own, for their seeds are cut into blocks on each side.
    """
    if apart:
        return _scaled(blocks, 0.5), _scaled(opposite, 0.5)
    both = [
        [None if a is None else a + b for a, b in zip(*parts, strict=True)]
        for parts in zip(blocks, opposite, strict=True)
    ]
    mean = _scaled(both, 0.25)
    return mean, mean


def _scaled(blocks: Blocks, factor: float) -> Blocks:
    return [[None if block is None else block * factor for block in part] for part in blocks]


def swapped(task: Task, position: int) -> tuple[int, ...]:
    """The axes of the opposite pair's result in the order in which they are those of this one's."""
    pair = task.pairs[position]
    order = pair.wanted.swapped(task.pairs[task.opposite(pair)].wanted)
    assert order is not None, "the pattern of a Hermitian task treats its sides alike"
    return order


def adjoint(xp: Arrays, block: Any, order: Sequence[int], *, conjugate: bool) -> Any:
    """A block of the opposite pair as it belongs across the diagonal; ``order`` as `swapped` gives it."""
    turned = xp.transpose(block, order)
    return xp.conj(turned) if conjugate else turned


def _taken(results: Blocks, found: Blocks, position: int, copy: int) -> Any:
    """A result that nothing holds any longer."""
    taken = results[position][copy]
    results[position][copy] = found[position][copy] = None
    return taken


def _half(xp: Arrays, wanted: Wanted, result: Any, panel: int | None) -> Any:
    """What a result has to add to each side of the diagonal: all of it off the diagonal where only one was computed."""
    if panel is None:
        return result * 0.5
    assert wanted.example1 is not None and wanted.example2 is not None
    blocks = np.arange(dict(wanted.sizes)[wanted.example1]) // panel
    weight = np.where(blocks[:, None] == blocks[None, :], np.float32(0.5), np.float32(1.0))
    at = [wanted.out.index(wanted.example1), wanted.out.index(wanted.example2)]
    shape = [len(blocks) if axis in at else 1 for axis in range(len(wanted.out))]
    return result * xp.asarray(weight.reshape(shape), result)

"""Condensed tasks: rows of some leaves are formed a few examples at a time, as soon as their cotangents are there.

Where a weight has few entries and is used at many positions, as in a convolution, its rows are smaller than the
cotangents they are made of. Then the pass runs over a few examples at a time and keeps the rows alone: cotangents of
the whole batch never exist, and where a pass is small, they are still in cache. To what comes after, such a leaf has
one use without activation, whose cotangent is its rows.
"""

from __future__ import annotations

import math
from dataclasses import replace

from jacgram.core.frontend import Struct
from jacgram.core.uses import Einsum, Use
from jacgram.core.views import View
from jacgram.plan.task import SideShapes, Task

SHARES = (0.5, 2.5)
"""How large rows of a leaf may be against the cotangents that they are made of: what to try."""

_SAVED = 0.75  # what must be left of all factors for the pass to be worth cutting


def condensable(task: Task, share: float) -> tuple[int, ...]:
    """Leaves whose rows are at most this share of their cotangents; none where that would save too little."""
    first, second = task.sides
    if not (first.has_examples and second.has_examples) or not (first.n and second.n):
        return ()
    sizes = [math.prod(struct.shape) for _, struct in task.leaves]
    found = tuple(leaf for leaf in range(len(sizes)) if all(_shrinks(s, leaf, share, sizes[leaf]) for s in task.sides))
    small = condensed(task, found)
    worth = all(
        new.activation_bytes + new.cotangent_bytes <= _SAVED * (old.activation_bytes + old.cotangent_bytes)
        for new, old in zip(small.sides, task.sides, strict=True)
    )
    return found if worth else ()


def pass_blocks(task: Task, pass_bytes: float) -> tuple[int, int]:
    """Examples of one pass on side 1 and on side 2, so that the pass takes no more than so many bytes."""
    first, second = (_block(side, pass_bytes) for side in task.sides)
    return first, second


def condensed(task: Task, leaves: tuple[int, ...], blocks: tuple[int, int] = (0, 0)) -> Task:
    """The task in which each of these leaves has its rows as one use; the task itself for none.

    ``blocks`` says how many examples a pass takes on each side, 0 for all.
    """
    if not leaves:
        return task
    sides = [_condensed(side, leaves, task, block) for side, block in zip(task.sides, blocks, strict=True)]
    return replace(task, sides=(sides[0], sides[0] if task.sides[1] is task.sides[0] else sides[1]))


def condensed_use(leaf: int, size: int, rows: object) -> Use:
    """The one use of a condensed leaf of ``size`` entries: its rows ``(n, s, size)``."""
    return Use(leaf, View.of((size,)), Einsum(None, ("d0",), ("d0",)), None, rows)


def _shrinks(side: SideShapes, leaf: int, share: float, size: int) -> bool:
    uses = [use for use in side.uses if use.leaf == leaf]
    if not uses:
        return False
    made_of = sum(math.prod(shape) for shape in {id(use.cotangent): use.cotangent.shape for use in uses}.values())
    return 0 < size * side.seed_total <= share * made_of


def _condensed(side: SideShapes, leaves: tuple[int, ...], task: Task, block: int) -> SideShapes:
    kept = [use for use in side.uses if use.leaf not in leaves]
    for leaf in leaves:
        size = math.prod(task.leaves[leaf][1].shape)
        kept.append(condensed_use(leaf, size, Struct((1, side.seed_total, size), task.dtype)))
    return replace(side, uses=tuple(kept), made_of=side, pass_block=block)


def _block(side: SideShapes, pass_bytes: float) -> int:
    """As many examples as may be, in blocks of nearly equal size."""
    one = side.activation_bytes + side.cotangent_bytes + side.largest_bytes
    most = int(max(min(pass_bytes // max(one, 1), side.n), 1))
    if most == side.n:
        return most
    divisor = max(b for b in range(1, most + 1) if side.n % b == 0)
    return divisor if 2 * divisor > most else math.ceil(side.n / math.ceil(side.n / most))

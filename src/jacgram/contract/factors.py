"""The factors of a block of examples: all uses of a side, some of them condensed to rows a few examples at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jacgram.arrays import Arrays
from jacgram.contract.loops import collected
from jacgram.contract.rows import side_rows
from jacgram.core.frontend import Side, Struct
from jacgram.core.uses import Use
from jacgram.plan.condensing import condensed_use
from jacgram.plan.factors import factors
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task

Layout = tuple[tuple[Use, int | None, int], ...]
"""Per use: the use with shapes in place of arrays, and which arrays are its activation and its cotangent."""


def factors_of(xp: Arrays, side: Side, seeds: Sequence[Any], task: Task, plan: Plan, pass_block: int) -> list[Use]:
    """Uses of side 1 or 2 for all its examples.

    Args:
        side: a block of examples.
        seeds: per output leaf ``(s, *output)``.
        task, plan: as they are run; leaves that the plan condenses come out as their rows.
        pass_block: examples of one pass where it does; 0 for all of them.
    """
    if not plan.condensed or not side.n:
        return side.uses(seeds, structured=plan.method != "materialize")
    layouts: list[Layout] = []

    def of_block(start: Any, size: int) -> list[Any]:
        uses = side.examples(start, size).uses(seeds, structured=True)
        arrays, layout = parts(_condensed(xp, uses, task, plan))
        layouts.append(layout)
        return arrays

    arrays = collected(xp, side.n, pass_block or side.n, of_block)
    assert len({tuple((a, g) for _, a, g in layout) for layout in layouts}) == 1, (
        "blocks of one side have the same uses"
    )
    return assembled(layouts[0], arrays)


def apart(xp: Arrays, uses: Sequence[Use], n: int, others: int) -> tuple[list[Use], list[Use]]:
    """Uses of the first ``n`` examples, and of the ``others`` after them."""
    arrays, layout = parts(uses)
    first, second = ([xp.slice(array, 0, at, size) for array in arrays] for at, size in ((0, n), (n, others)))
    return assembled(layout, first), assembled(layout, second)


def _condensed(xp: Arrays, uses: Sequence[Use], task: Task, plan: Plan) -> list[Use]:
    found = [use for use in uses if use.leaf not in plan.condensed]
    named = factors(uses)
    for leaf in plan.condensed:
        own = [factor for factor in named if uses[factor.use].leaf == leaf]
        size = math.prod(task.leaves[leaf][1].shape)
        whole = (0, uses[own[0].use].cotangent.shape[1])
        found.append(condensed_use(leaf, size, side_rows(xp, own, uses, whole, task.dtype, None, size, None)))
    return found


def parts(uses: Sequence[Use]) -> tuple[list[Any], Layout]:
    """Arrays of uses, shared ones once, and the uses without them."""
    arrays: list[Any] = []
    places: dict[int, int] = {}

    def place(array: Any) -> int:
        if id(array) not in places:
            places[id(array)] = len(arrays)
            arrays.append(array)
        return places[id(array)]

    layout = tuple(
        (
            replace(use, activation=_shape(use.activation), cotangent=_shape(use.cotangent)),
            None if use.activation is None else place(use.activation),
            place(use.cotangent),
        )
        for use in uses
    )
    return arrays, layout


def assembled(layout: Layout, arrays: Sequence[Any]) -> list[Use]:
    """The uses that `parts` took apart, with these arrays."""
    return [replace(use, activation=None if a is None else arrays[a], cotangent=arrays[g]) for use, a, g in layout]


def _shape(array: Any) -> Any:
    return None if array is None else Struct(tuple(array.shape), str(array.dtype).removeprefix("torch."))

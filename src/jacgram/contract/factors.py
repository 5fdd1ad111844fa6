"""The factors of a block of examples: all uses of a side, some of them condensed to rows a few examples at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jacgram.arrays import Arrays
from jacgram.contract.loops import collected
from jacgram.contract.rows import side_rows
from jacgram.core.frontend import DescriptionChanged, Side, Struct
from jacgram.core.uses import Use
from jacgram.plan.condensing import condensed_use
from jacgram.plan.factors import factors
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task

Layout = tuple[tuple[Use, int | None, int], ...]
"""Per use: the use with shapes in place of arrays, and which arrays are its activation and its cotangent."""


def factors_of(
    xp: Arrays, side: Side, seeds: Sequence[Any], task: Task, plan: Plan, position: int, *, whole: bool = False
) -> list[Use]:
    """Uses of side 1 (``position`` 0) or 2 for all its examples.

    Args:
        side: a block of examples.
        seeds: per output leaf ``(s, *output)``.
        task, plan: as they are run; leaves that the plan condenses come out as their rows.
        whole: whether one pass takes all examples, however many the plan has one take.

    Raises:
        DescriptionChanged: the uses are not those that were planned for.
    """
    planned = task.sides[position].made_of or task.sides[position]
    if not plan.condensed or not side.n:
        return _as_planned(side.uses(seeds, structured=plan.method != "materialize"), planned.uses)
    layouts: list[Layout] = []

    def of_block(start: Any, size: int) -> list[Any]:
        uses = _as_planned(side.examples(start, size).uses(seeds, structured=True), planned.uses)
        arrays, layout = parts(_condensed(xp, uses, task, plan))
        layouts.append(layout)
        return arrays

    block = side.n if whole else plan.pass_blocks[position] or side.n
    arrays = collected(xp, side.n, block, of_block)
    assert len({tuple((a, g) for _, a, g in layout) for layout in layouts}) == 1, (
        "blocks of one side have the same uses"
    )
    return assembled(layouts[0], arrays)


def _as_planned(uses: list[Use], planned: Sequence[Use]) -> list[Use]:
    """The uses, if they read what the planned ones read, in the same way, with arrays of the same shapes."""

    def told(use: Use) -> tuple[Any, ...]:
        activation = None if use.activation is None else tuple(use.activation.shape[1:])
        return use.leaf, use.view, use.kind, activation, tuple(use.cotangent.shape[2:])

    if len(uses) != len(planned) or any(told(a) != told(b) for a, b in zip(uses, planned, strict=True)):
        raise DescriptionChanged
    return uses


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

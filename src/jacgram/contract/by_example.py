"""A network contracted one example of side 2 at a time: see `jacgram.plan.by_example`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled
from jacgram.contract.panels import in_panels
from jacgram.contract.steps import Buffers, take_steps
from jacgram.plan.by_example import arranged, one_example
from jacgram.plan.network import Network, Tree, steps
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted


def by_example(
    xp: Arrays,
    network: Network,
    tree: Tree,
    every: Sequence[Labelled],
    wanted: Wanted,
    triangle: Triangle,
    buffers: Buffers,
) -> Any:
    """The block of ``wanted`` from the columns of each example. What side 1 has of its own is made before the loop."""
    example = wanted.example2
    assert example is not None
    one = arranged(one_example(network, example), tree)
    todo = steps(one, tree)
    before = [position for position, step in enumerate(todo) if "2" not in step.sides]
    after = [position for position in range(len(todo)) if position not in before]
    arrays: list[Labelled | None] = [
        _laid_out(xp, x, (*[example] * (example in x.labels), *labels))
        for x, labels in zip(every, one.operands, strict=True)
    ]
    arrays += [None for _ in todo]
    take_steps(xp, todo, before, arrays, None, buffers)

    def panel(cut: Callable[[Labelled], Labelled]) -> Any:
        whole = [None if x is None else cut(x) for x in arrays]

        def columns(start: Any) -> list[Any]:
            inner = [None if x is None else _at(xp, x, example, start) for x in whole]
            take_steps(xp, todo, after, inner, None, buffers)
            result = inner[-1]
            assert result is not None
            return [xp.reshape(result.array, (1, *result.array.shape))]

        n = next(x.array.shape[0] for x in whole if x is not None and example in x.labels)
        (found,) = xp.collect(columns, range(n))
        return _laid_out(xp, Labelled((example, *one.out), found), wanted.block).array

    return in_panels(xp, triangle, wanted, panel)


def _laid_out(xp: Arrays, operand: Labelled, labels: Sequence[str]) -> Labelled:
    """The operand with its axes in this order, in memory too."""
    if operand.labels == tuple(labels):
        return operand
    return Labelled(tuple(labels), xp.lay_out(operand.array, [operand.labels.index(x) for x in labels]))


def _at(xp: Arrays, operand: Labelled, example: str, start: Any) -> Labelled:
    """One example of an operand whose first axis they are; another operand as it is."""
    if example not in operand.labels:
        return operand
    array = xp.slice(operand.array, 0, start, 1)
    return Labelled(operand.labels[1:], xp.reshape(array, array.shape[1:]))

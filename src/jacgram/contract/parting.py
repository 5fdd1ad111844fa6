"""The parts of a slice: see `jacgram.plan.parting`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, Shared
from jacgram.plan.assembly import Assembly
from jacgram.plan.choice import Choice
from jacgram.plan.network import Step, Tree, steps


def in_parts(
    xp: Arrays, choice: Choice, every: Sequence[Labelled], assembly: Assembly, tree: Tree
) -> Sequence[Sequence[Labelled]]:
    """The operands of each part, which together are the whole. Where nothing runs side by side, it is not cut.

    A part is a copy, and one for all slices: it is laid out for its product.
    """
    label = choice.parted
    if label is None or xp.traits.abreast == 1:
        return [every]
    size = dict(assembly.sizes)[label]
    todo, single = steps(assembly.network, tree), choice.slice_label if choice.slice_size == 1 else None
    orders = [_facing(at, todo, single) if label in x.labels else x.labels for at, x in enumerate(every)]
    found: list[list[Labelled]] = []
    for start, end in pairwise([size * number // choice.parts for number in range(choice.parts + 1)]):
        cuts = Shared()  # what stands for both sides still does
        part = [cuts.slice(xp, x, label, start, end - start) for x in every]
        found.append([cuts.arranged(xp, x, order) for x, order in zip(part, orders, strict=True)])
    return found


def _facing(operand: int, todo: Sequence[Step], single: str | None) -> tuple[str, ...]:
    """An operand's labels: with those that are summed at the end, where the other operand begins with them.

    So lie the two of a plain product of matrices, ``(m, k)`` by ``(k, n)``, in each of a batch. Where the other one is
    to be copied anyway, the compiler makes it the first of such two, and this one is right as it is.

    Args:
        single: a label of which each slice has one entry.
    """
    step = next(step for step in todo if operand in (step.left, step.right))
    own, other = step.left_labels, step.right_labels
    if operand == step.right:
        own, other = other, own
    batch, summed = ([x for x in own if (x in step.out) is kept and x in other] for kept in (True, False))
    first = [x for x in other if x != single][: len(batch) + len(summed)]
    return tuple(sorted(own, key=lambda x: x in summed)) if first == [*batch, *summed] else own

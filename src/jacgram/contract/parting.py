"""The parts of a slice: see `jacgram.plan.parting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    sizes = dict(assembly.sizes)
    size = sizes[label]
    if choice.slice_label is not None:
        sizes[choice.slice_label] = choice.slice_size
    todo = steps(assembly.network, tree)
    orders = [_facing(at, todo, sizes) if label in x.labels else x.labels for at, x in enumerate(every)]
    found: list[list[Labelled]] = []
    for start, end in pairwise([size * number // choice.parts for number in range(choice.parts + 1)]):
        cuts = Shared()  # what stands for both sides still does
        part = [cuts.slice(xp, x, label, start, end - start) for x in every]
        found.append([cuts.arranged(xp, x, order) for x, order in zip(part, orders, strict=True)])
    return found


def _facing(operand: int, todo: Sequence[Step], sizes: Mapping[str, int]) -> tuple[str, ...]:
    """An operand's labels: with those that are summed at the end, where the other operand begins with them.

    So lie the two of a plain product of matrices, ``(m, k)`` by ``(k, n)``, in each of a batch. Where the other one is
    to be copied anyway, the compiler makes it the first of such two, and this one is right as it is.

    Args:
        operand: its position among those of the network.
        todo: the steps of the order.
        sizes: sizes of labels in a slice; an axis of one entry lies anywhere.
    """
    step = next(step for step in todo if operand in (step.left, step.right))
    own, other = step.left_labels, step.right_labels
    if operand == step.right:
        own, other = other, own
    batch, summed = ([x for x in own if (x in step.out) is kept and x in other] for kept in (True, False))
    begins = [x for x in (*batch, *summed) if sizes[x] > 1]
    if [x for x in other if sizes[x] > 1][: len(begins)] != begins:
        return own
    return tuple(sorted(own, key=lambda x: (x not in batch, x in summed)))

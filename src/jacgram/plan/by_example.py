"""A component contracted one example of side 2 at a time, each of which gives its columns of the block.

A step that contracts for each example of side 2 by itself wants these examples outermost. In an intermediate of both
sides side 1's are, and so it has to be laid out anew, all of it. Of a single example there is nothing to lay out, and
what it takes is a share of the memory. The other operands are laid out once, as the order's steps want them, before the
loop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from jacgram.plan.network import Label, Network, Tree, product, steps

# Positions of an example are the columns of its products. Over random layers, fewer were up to twice as slow as priced,
# and those that fill no whole cache lines by up to a quarter.
_LEAST_POSITIONS = 24
_LINE = 16  # entries of float32


def one_example(network: Network, example: Label) -> Network:
    """What is left of a network where the examples of this label are taken one at a time."""
    cut = lambda labels: tuple(x for x in labels if x != example)  # noqa: E731
    return replace(network, operands=tuple(cut(labels) for labels in network.operands), out=cut(network.out))


@lru_cache(maxsize=4096)
def arranged(network: Network, tree: Tree) -> Network:
    """The same network with the axes of each operand in the order that its step of ``tree`` wants them."""
    found = list(network.operands)
    for position in range(len(found) - 1):
        step = steps(replace(network, operands=tuple(found)), tree)[position]
        if step.left < len(found):
            found[step.left] = _as_matrices(step.left_labels, step.right_labels, step.out)
        if step.right < len(found):
            left = found[step.left] if step.left < len(found) else step.left_labels
            found[step.right] = _as_matrices(step.right_labels, left, step.out)
    return replace(network, operands=tuple(found))


def is_worth_a_loop(network: Network, tree: Tree, sizes: Mapping[Label, int]) -> bool:
    """Whether the rounds of an order over arranged operands make nothing of one example alone, and lay nothing out."""
    if _positions(network, sizes) < _LEAST_POSITIONS:
        return False
    return not any(step.sides == frozenset("2") or any(product(step, sizes).turned) for step in steps(network, tree))


def fills_lines(network: Network, sizes: Mapping[Label, int]) -> bool:
    """Whether an example's positions fill whole cache lines."""
    return _positions(network, sizes) % _LINE == 0


def _positions(network: Network, sizes: Mapping[Label, int]) -> int:
    own = {x for name, labels in zip(network.names, network.operands, strict=True) if "2" in name for x in labels}
    return math.prod(sizes[x] for x in own if x.startswith("p"))


def _as_matrices(mine: Sequence[Label], other: Sequence[Label], out: Sequence[Label]) -> tuple[Label, ...]:
    """Axes for both first, then kept and summed ones, those that both have in the order of the other operand."""
    batch = [x for x in other if x in mine and x in out]
    summed = [x for x in other if x in mine and x not in out]
    kept = [x for x in mine if x not in other and x in out]
    alone = [x for x in mine if x not in other and x not in out]
    wanted, transposed = (*batch, *kept, *summed, *alone), (*batch, *summed, *kept, *alone)
    return transposed if tuple(mine) == transposed else wanted

"""Tensor networks: operands given by labels, the pairwise orders to contract them, and what each order costs.

For one use of a weight on each side the operands are ``a1, g1, a2, g2``. Of the fifteen binary orders three have names:
``rows`` ((a1 g1)(a2 g2)), ``Gram-Gram`` ((a1 a2)(g1 g2)) and ``one-sided`` (((a1 g1) a2) g2), after
Novak, Sohl-Dickstein & Schoenholz, "Fast Finite Width Neural Tangent Kernel" (ICML 2022), where they appear as Jacobian
contraction, NTK-vector products and structured derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

Label = str
Tree = int | tuple["Tree", "Tree"]


@dataclass(frozen=True, slots=True)
class Network:
    """Operands by their labels, the labels of the result, and nothing else.

    Attributes:
        names: short names of the operands, such as ``("a1", "g1", "a2", "g2")``.
        operands: labels of each operand's axes.
        out: labels of the result's axes.
    """

    names: tuple[str, ...]
    operands: tuple[tuple[Label, ...], ...]
    out: tuple[Label, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One pairwise contraction: operands by position (results are appended), their labels and the result's."""

    left: int
    right: int
    left_labels: tuple[Label, ...]
    right_labels: tuple[Label, ...]
    out: tuple[Label, ...]
    sides: frozenset[str] = frozenset()
    """Sides, ``"1"`` and ``"2"``, whose operands have a share in the result."""
    again: bool = False
    """Whether it makes of side 2's operands what another step of the order makes of side 1's."""


@lru_cache(maxsize=4096)
def trees(count: int) -> tuple[Tree, ...]:
    """Every binary order of ``count`` operands: 1, 3, 15 for 2, 3, 4."""
    return tuple(_trees(tuple(range(count))))


def _trees(items: tuple[int, ...]) -> Iterator[Tree]:
    if len(items) == 1:
        yield items[0]
        return
    first, rest = items[0], items[1:]
    for mask in range(2 ** len(rest) - 1):
        with_first = (first, *(x for bit, x in enumerate(rest) if mask >> bit & 1))
        without = tuple(x for bit, x in enumerate(rest) if not mask >> bit & 1)
        for left in _trees(with_first):
            for right in _trees(without):
                yield (left, right)


def order_name(network: Network, tree: Tree) -> str:
    """The field's name of an order, or its tree spelled out in operand names."""
    spelled = _spell(tree, network.names)
    return _NAMES.get(spelled, spelled)


_NAMES = {
    "((a1 g1) (a2 g2))": "rows",
    "((a1 a2) (g1 g2))": "Gram-Gram",
    "(((a1 g1) a2) g2)": "one-sided",
    "(((a1 g1) g2) a2)": "one-sided",
    "((a1 (a2 g2)) g1)": "one-sided",
    "(a1 (g1 (a2 g2)))": "one-sided",
    "(g1 g2)": "rows",
}


def _spell(tree: Tree, names: Sequence[str]) -> str:
    return names[tree] if isinstance(tree, int) else f"({_spell(tree[0], names)} {_spell(tree[1], names)})"


@lru_cache(maxsize=4096)
def steps(network: Network, tree: Tree) -> tuple[Step, ...]:
    """The pairwise contractions of an order, in turn. A label is kept while something still needs it."""
    labels = list(network.operands)
    sides = [frozenset(name) & {"1", "2"} for name in network.names]
    spelled = list(network.names)
    found: list[Step] = []
    pending = set(range(len(labels)))

    def visit(node: Tree) -> int:
        if isinstance(node, int):
            return node
        left, right = visit(node[0]), visit(node[1])
        pending.difference_update((left, right))
        needed = set(network.out).union(*(labels[other] for other in pending))
        if pending:
            both = dict.fromkeys((*labels[left], *labels[right]))
            out = _arrange(tuple(x for x in both if x in needed), labels[left], labels[right], network.out)
        else:
            out = network.out
        found.append(Step(left, right, labels[left], labels[right], out, sides[left] | sides[right]))
        labels.append(out)
        sides.append(found[-1].sides)
        spelled.append(f"({spelled[left]} {spelled[right]})")
        pending.add(len(labels) - 1)
        return len(labels) - 1

    visit(tree)
    return tuple(
        replace(step, again=step.sides == frozenset("2") and word.replace("2", "1") in spelled)
        for step, word in zip(found, spelled[len(network.names) :], strict=True)
    )


def _arrange(
    kept: tuple[Label, ...], left: tuple[Label, ...], right: tuple[Label, ...], out: tuple[Label, ...]
) -> tuple[Label, ...]:
    """Batch labels, then one operand's, then the other's: the layout a batched matrix product gives for free.

    The operand with more labels of the final result goes first, so that rows come out as ``(n, o, weight)`` and the
    product of rows needs no transposed copy.
    """
    batch = [x for x in kept if x in left and x in right]
    only_left, only_right = [x for x in kept if x not in right], [x for x in kept if x not in left]
    if sum(x in out for x in only_right) > sum(x in out for x in only_left):
        only_left, only_right = only_right, only_left
    return (*batch, *only_left, *only_right)


@dataclass(frozen=True, slots=True)
class Product:
    """A step as a batched matrix product of ``batch`` pairs ``(m, k) @ (k, n)``.

    Attributes:
        batch, m, n, k: its sizes.
        entries: of the left operand, the right one and the result.
        turned: of which are not laid out as matrices, and have to be copied first or last.
        reduced: entries of operands that are first summed over what they have alone, when that is done.
    """

    batch: int
    m: int
    n: int
    k: int
    entries: tuple[int, int, int]
    turned: tuple[bool, bool, bool] = (False, False, False)
    reduced: int = 0

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def turned_entries(self) -> int:
        """Entries of what has to be copied to another layout."""
        return sum(entries for entries, turned in zip(self.entries, self.turned, strict=True) if turned)


def product(step: Step, sizes: Mapping[Label, int]) -> Product:
    """Sizes of a step's matrix product."""
    groups = _groups(step, frozenset([x for x in (*step.left_labels, *step.right_labels) if sizes[x] == 1]))
    size = lambda labels: math.prod(map(sizes.__getitem__, labels))  # noqa: E731
    batch, m, n, k = size(groups.batch), size(groups.m), size(groups.n), size(groups.k)
    left, right = size(step.left_labels), size(step.right_labels)
    turned_left, turned_right, turned_out = groups.turned
    if groups.disagree:
        turned_left, turned_right = left <= right, right < left
    alone = [size(labels) for labels in groups.alone]
    reduced = sum(entries // lone for entries, lone in zip((left, right), alone, strict=True) if lone > 1)
    return Product(batch, m, n, k, (left, right, size(step.out)), (turned_left, turned_right, turned_out), reduced)


@dataclass(frozen=True, slots=True)
class _Groups:
    """A step's labels by their part in a matrix product.

    Attributes:
        batch, m, n, k: labels of each.
        alone: labels of each operand that nothing else has: they are summed first.
        turned: which of the operands and the result are no batch of matrices as they lie, transposed or not.
        disagree: both operands are, with the summed axes in different orders: the smaller gives way.
    """

    batch: tuple[Label, ...]
    m: tuple[Label, ...]
    n: tuple[Label, ...]
    k: tuple[Label, ...]
    alone: tuple[tuple[Label, ...], tuple[Label, ...]]
    turned: tuple[bool, bool, bool]
    disagree: bool


@lru_cache(maxsize=16384)
def _groups(step: Step, ones: frozenset[Label]) -> _Groups:
    """The groups of a step, and how they lie where the labels ``ones`` have a single entry.

    Batch axes come first, then kept and summed ones, each group together. Both operands need the summed ones in one
    order. What a single operand has and the result has not is summed before, and in nobody's way.
    """
    left, right, out = step.left_labels, step.right_labels, step.out
    shared = [x for x in left if x in right]
    alone1, alone2 = (
        tuple(x for x in own if x not in other and x not in out) for own, other in ((left, right), (right, left))
    )
    gone = ones.union(alone1, alone2)
    wide = [tuple(x for x in labels if x not in gone) for labels in (left, right, out)]
    batch = {x for x in wide[0] if x in right and x in out}
    summed = {x for x in wide[0] if x in right and x not in out}
    turned = [not _is_matrices(labels, batch, summed) for labels in wide[:2]]
    orders = [[x for x in labels if x in batch or x in summed] for labels in wide[:2]]
    in_groups = [sorted(order, key=lambda x: x not in batch) for order in orders]
    return _Groups(
        tuple(x for x in shared if x in out),
        tuple(x for x in left if x not in right and x in out),
        tuple(x for x in right if x not in left and x in out),
        tuple(x for x in shared if x not in out),
        (alone1, alone2),
        (turned[0], turned[1], not _is_matrices(wide[2], batch, {x for x in wide[2] if x not in left})),
        not any(turned) and in_groups[0] != in_groups[1],
    )


def _is_matrices(labels: Sequence[Label], batch: set[Label], columns: set[Label]) -> bool:
    """Whether the batch labels come first, and the columns are together at one end of the others."""
    rest = [x in columns for x in labels if x not in batch]
    changes = sum(a != b for a, b in pairwise(rest))
    return all(x in batch for x in labels[: len(labels) - len(rest)]) and changes <= 1

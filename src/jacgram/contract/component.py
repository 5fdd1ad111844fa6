"""Contracts one component as its choice says: a network in slices with accumulation, or rows of unlike uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, Shared, einsum
from jacgram.arrays.windows import offsets
from jacgram.contract import operands
from jacgram.contract.by_example import by_example
from jacgram.contract.dealing import SHARE, deal
from jacgram.contract.panels import block_of, in_blocks, in_panels
from jacgram.contract.parting import in_parts
from jacgram.contract.rows import Part, side_rows
from jacgram.contract.steps import Buffers, take_steps
from jacgram.core.uses import Conv, Use
from jacgram.plan.assembly import Assembly, Stack, assemble
from jacgram.plan.choice import Choice
from jacgram.plan.components import Component, Form
from jacgram.plan.network import Network, Step, Tree, steps
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Factors:
    """The uses of one side for a block of examples, and which of their seeds belong to the output at hand.

    Attributes:
        uses: every use of the side.
        seeds: first and last (exclusive) seed.
        leaf_sizes: entries of each leaf of the variable.
    """

    uses: Sequence[Use]
    seeds: tuple[int, int]
    leaf_sizes: Sequence[int]


def contract(
    xp: Arrays,
    component: Component,
    choice: Choice,
    wanted: Wanted,
    sides: tuple[Factors, Factors],
    dtype: str,
    *,
    conjugate: bool,
    panels: int = 1,
) -> Any:
    """The component's part of the block of ``wanted``: an array with axes ``wanted.block``.

    With ``conjugate``, side 2's rows enter conjugated: J1 J2ᴴ. With several ``panels``, entries below them are zero.
    """
    one = _is_one(component, sides)
    triangle = Triangle.of(wanted, panels, one=one, blocks=not xp.traits.views and component.has_sides_apart)
    if choice.tree is None:
        return _rows_product(xp, component, choice, wanted, sides, dtype, triangle, conjugate=conjugate)
    assembly = assemble(component, wanted, loop_windows=choice.loop_windows)
    sizes = dict(wanted.sizes)
    cotangents = _both(
        triangle.one,
        assembly,
        lambda stack, side: operands.cotangent(
            xp, stack, side.uses, side.seeds, [sizes[x] for x in stack.seeds], dtype
        ),
        sides,
    )
    if conjugate and cotangents[1] is not None:
        cotangents[1] = cotangents[1].conj(xp)
    offsets_read = _offsets(component, sides[0].uses, choice)
    is_once = choice.slice_label is None and not choice.by_example and triangle.panels * len(offsets_read) == 1
    buffers = Buffers(xp, None if is_once else _arrays(component, sides))
    total = None
    for offset in offsets_read:
        activations = _both(
            triangle.one,
            assembly,
            lambda stack, side, at=offset: operands.activation(xp, stack, side.uses, dtype, at),
            sides,
        )
        if conjugate and activations[1] is not None and component.form is Form.NETWORK:
            activations[1] = activations[1].conj(xp)
        every = [x for pair in zip(activations, cotangents, strict=True) for x in pair if x is not None]
        dealt = deal(xp, assembly, choice, every)
        block = _sliced(xp, component, *dealt, choice.tree, wanted, dtype, triangle, buffers)
        total = block if total is None else total + block
        del every, dealt, block  # before the next ones are made
    return total


def _arrays(component: Component, sides: tuple[Factors, Factors]) -> list[Any]:
    """The arrays that a component is made of."""
    both = zip(sides, (component.left, component.right), strict=True)
    uses = [side.uses[factor.use] for side, factors in both for factor in factors]
    return [array for use in uses for array in (use.activation, use.cotangent) if array is not None]


def _is_one(component: Component, sides: tuple[Factors, Factors]) -> bool:
    """Whether both sides bring the same arrays, so that what is made of each alone need be made once."""
    left, right = sides
    if left.seeds[0] == left.seeds[1]:
        return False  # of outputs without entries, any two have the same seeds
    return right.uses is left.uses and right.seeds == left.seeds and component.left == component.right


def _both(
    one: bool,
    assembly: Assembly,
    make: Callable[[Stack, Factors], Labelled | None],
    sides: tuple[Factors, Factors],
) -> list[Labelled | None]:
    """An operand of each side; of equal sides, one array under both sides' labels."""
    stack1, stack2 = assembly.stacks
    left = make(stack1, sides[0])
    if not one or left is None:
        return [left, make(stack2, sides[1])]
    names = dict(zip((*_labels(stack1),), _labels(stack2), strict=True))
    return [left, Labelled(tuple(names[x] for x in left.labels), left.array)]


def _labels(stack: Stack) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*(stack.activation or ()), *stack.cotangent)))


def _offsets(component: Component, uses: Sequence[Use], choice: Choice) -> Sequence[tuple[int, ...] | None]:
    kind = uses[component.left[0].use].kind
    return offsets(kind) if choice.loop_windows and isinstance(kind, Conv) else [None]


def _sliced(
    xp: Arrays,
    component: Component,
    assembly: Assembly,
    choice: Choice,
    every: Sequence[Labelled],
    tree: Tree,
    wanted: Wanted,
    dtype: str,
    triangle: Triangle,
    buffers: Buffers,
) -> Any:
    if choice.by_example:
        return by_example(xp, assembly.network, tree, every, wanted, triangle, buffers)
    parts = in_parts(xp, choice, every, assembly, tree)

    def run(start: Any, size: int) -> Any:
        label, cuts = choice.slice_label, Shared()
        cut = parts if label is None else [[cuts.slice(xp, x, label, start, size) for x in part] for part in parts]
        met = [_meet(xp, part, assembly, dtype) for part in cut] if component.form is Form.TABLE else cut
        return _run(xp, assembly, tree, met, wanted, triangle, buffers)

    size = dict(assembly.sizes)[choice.slice_label] if choice.slice_label else 0
    return accumulate(xp, run, size, choice, wanted, dtype, every[-1].array)


def accumulate(
    xp: Arrays, run: Callable[[Any, int], Any], size: int, choice: Choice, wanted: Wanted, dtype: str, like: Any
) -> Any:
    """Sum of ``run(start, size)`` over the slices of a choice; the last slice may be ragged."""
    if choice.slice_label is None or choice.slice_size >= size:
        return run(0, size)
    chunk = choice.slice_size
    whole = size // chunk
    zeros = xp.zeros(wanted.block_shape, dtype, like)
    starts = [chunk * i for i in range(whole)]
    total = xp.fold(lambda start, carry: xp.add(carry, run(start, chunk)), zeros, starts)
    return xp.add(total, run(whole * chunk, size - whole * chunk)) if size % chunk else total


def _meet(xp: Arrays, every: Sequence[Labelled], assembly: Assembly, dtype: str) -> list[Labelled]:
    """The indices of two gathers compared: ones where both read one row of the table."""
    index1, g1, index2, g2 = every
    labels = assembly.network.operands[0]
    left, right = _spread(xp, index1, labels), _spread(xp, index2, labels)
    return [Labelled(labels, xp.equal(left, right, dtype)), g1, g2]


def _spread(xp: Arrays, index: Labelled, labels: Sequence[str]) -> Any:
    order = sorted(range(len(index.labels)), key=lambda axis: labels.index(index.labels[axis]))
    arranged = xp.transpose(index.array, order)
    sizes = dict(zip(index.labels, index.array.shape, strict=True))
    return xp.reshape(arranged, [sizes.get(label, 1) for label in labels])


def _run(
    xp: Arrays,
    assembly: Assembly,
    tree: Tree,
    parts: Sequence[Sequence[Labelled]],
    wanted: Wanted,
    triangle: Triangle,
    buffers: Buffers,
) -> Any:
    """The sum of what the order makes of each part's operands."""
    todo = steps(assembly.network, tree)
    if triangle.blocks:
        return _in_blocks(xp, assembly.network, todo, parts, wanted, triangle, buffers)
    shared = Shared() if triangle.one else None
    every: list[list[Labelled | None]] = [[*part, *(None for _ in todo)] for part in parts]
    own, joint = _own_and_joint(todo)
    for arrays in every:
        take_steps(xp, todo, own, arrays, shared, buffers)

    def panel(cut: Callable[[Labelled], Labelled]) -> Any:
        total = None
        for arrays in every:
            # With a single panel nothing is cut, and an eager framework frees what no later step reads.
            inner = arrays if triangle.panels == 1 else [None if x is None else cut(x) for x in arrays]
            take_steps(xp, todo, joint, inner, None if triangle.panels > 1 else shared, buffers)
            total = _plus(xp, total, inner[-1])
        return total

    return in_panels(xp, triangle, wanted, panel)


def _in_blocks(
    xp: Arrays,
    network: Network,
    todo: Sequence[Step],
    parts: Sequence[Sequence[Labelled]],
    wanted: Wanted,
    triangle: Triangle,
    buffers: Buffers,
) -> Any:
    """The same, of the examples of each block what a side has of its own, and then of each pair of blocks."""
    shared = Shared() if triangle.one else None
    sides = [*(frozenset(name) & {"1", "2"} for name in network.names), *(step.sides for step in todo)]
    own, joint = _own_and_joint(todo)
    blocks: list[list[list[Labelled | None]]] = []
    for start, size in triangle.ranges(dict(wanted.sizes)[triangle.rows or ""]):
        cuts: list[list[Labelled | None]] = []
        for part in parts:
            same = Shared()
            cuts.append([*(block_of(xp, triangle, x, start, size, same) for x in part), *(None for _ in todo)])
            take_steps(xp, todo, own, cuts[-1], shared, buffers)
        blocks.append(cuts)

    def pair(i: int, j: int) -> Any:
        total = None
        for left, right in zip(blocks[i], blocks[j], strict=True):
            inner = [x if "1" in side else y for x, y, side in zip(left, right, sides, strict=True)]
            take_steps(xp, todo, joint, inner, None, buffers)
            total = _plus(xp, total, inner[-1])
        return total

    return in_blocks(xp, triangle, wanted, pair)


def _own_and_joint(todo: Sequence[Step]) -> tuple[list[int], list[int]]:
    """Positions of the steps that one side takes of its own, and of the others."""
    own = [position for position, step in enumerate(todo) if len(step.sides) < 2]
    return own, [position for position in range(len(todo)) if position not in own]


def _plus(xp: Arrays, total: Any, result: Labelled | None) -> Any:
    """A part's block, its shares added up, on top of the parts before."""
    assert result is not None
    block = xp.sum(result.array, [0]) if SHARE in result.labels else result.array
    return block if total is None else total + block


def _rows_product(
    xp: Arrays,
    component: Component,
    choice: Choice,
    wanted: Wanted,
    sides: tuple[Factors, Factors],
    dtype: str,
    triangle: Triangle,
    *,
    conjugate: bool,
) -> Any:
    sizes = dict(wanted.sizes)
    view = component.view
    roles = ((component.left, wanted.example1, wanted.seeds1), (component.right, wanted.example2, wanted.seeds2))

    def run(start: Any, size: int) -> Any:
        part = None if choice.slice_label is None else Part(choice.slice_label, start, size)
        rows: list[Labelled] = []
        flat = None
        for side, (factors, example, seeds) in zip(sides, roles, strict=True):
            if flat is None or not triangle.one:
                size_of_leaf = side.leaf_sizes[component.leaf]
                flat = side_rows(xp, factors, side.uses, side.seeds, dtype, view, size_of_leaf, part)
            lead = () if example is None else (flat.shape[0],)
            shaped = xp.reshape(flat, (*lead, *(sizes[x] for x in seeds), flat.shape[-1]))
            rows.append(Labelled((*(() if example is None else (example,)), *seeds, "w"), shaped))
        right = rows[1].conj(xp) if conjugate else rows[1]
        return in_panels(xp, triangle, wanted, lambda cut: einsum(xp, wanted.block, cut(rows[0]), cut(right)).array)

    size = 0 if choice.slice_label is None or view is None else view.shape[int(choice.slice_label[1:])]
    return accumulate(xp, run, size, choice, wanted, dtype, sides[0].uses[component.left[0].use].cotangent)

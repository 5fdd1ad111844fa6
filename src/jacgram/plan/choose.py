"""Choosing how to contract a component: every order, every slice, priced by the device's roofline.

Floating-point operations alone choose wrongly by up to an order of magnitude, because an order with fewer of them may
move far more bytes or run thin products. So a candidate's price is its products' times, each the slower of arithmetic
and traffic, with the copies to another layout and the fresh memory that it takes; candidates whose working set exceeds
what is allowed are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from jacgram.plan.by_example import arranged, is_worth_a_loop
from jacgram.plan.components import Component, Form
from jacgram.plan.dealing import dealt_label, repeated_entries
from jacgram.plan.device import Device
from jacgram.plan.factors import row_entries
from jacgram.plan.network import Network, Step, Tree, order_name, product, steps, trees
from jacgram.plan.parting import in_parts_is_worth_it, parted_label, parts_entries
from jacgram.plan.problem import Problem, problems
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Choice:
    """How one component is contracted, and what that is predicted to cost.

    Attributes:
        order: the order's name.
        tree: the binary order of the network's operands; None sums rows of unlike uses and multiplies them.
        slice_label: label looped over with accumulation, or None.
        slice_size: entries of that label in one slice.
        loop_windows: whether a convolution's window offsets are looped over rather than formed as patches.
        flops: operations, in all slices.
        peak_bytes: largest working set of one slice, beside the operands and the accumulated block.
        seconds: predicted time.
        dealt: label whose entries are dealt out to the cores, or None; see `jacgram.plan.dealing`.
        shares: in how many shares.
        by_example: whether side 2's examples are taken one at a time; see `jacgram.plan.by_example`.
        parted: label whose entries each slice takes in parts, side by side, or None; see `jacgram.plan.parting`.
        parts: in how many parts.
    """

    order: str
    tree: Tree | None
    slice_label: str | None
    slice_size: int
    loop_windows: bool
    flops: int
    peak_bytes: int
    seconds: float
    dealt: str | None = None
    shares: int = 1
    by_example: bool = False
    parted: str | None = None
    parts: int = 1


def choose(
    component: Component,
    wanted: Wanted,
    device: Device,
    itemsize: int,
    allowed_bytes: int,
    triangle: Triangle | None = None,
) -> Choice:
    """The fastest candidate within ``allowed_bytes`` of working set; the smallest one if none fits.

    With ``triangle``, both sides are one and so much of the result is computed; None for two sides.
    """
    triangle = triangle or Triangle.of(wanted, 1, one=False)
    triangle = triangle if component.has_sides_apart else replace(triangle, blocks=False)
    every = problems(component, wanted, itemsize, triangle)
    options = [_best(problem, device, itemsize, allowed_bytes) for problem in every if not problem.examples]
    if component.form is not Form.NETWORK:
        options += _rows_candidates(component, wanted, device, itemsize, triangle)
    best = _pick(options, allowed_bytes)
    for problem in every:
        if problem.examples:
            best = _by_example(problem, best, device, itemsize, allowed_bytes)
    return best


def candidates(component: Component, wanted: Wanted, device: Device, itemsize: int) -> Iterator[Choice]:
    """Every order with every slice, likely or not."""
    everything = Triangle.of(wanted, 1, one=False)
    for problem in problems(component, wanted, itemsize, everything):
        for tree in trees(len(problem.network.operands)):
            whole = _choice(problem, tree, device, itemsize)
            yield whole
            if not problem.examples:
                yield from _sliced(problem, tree, device, itemsize)
    if component.form is not Form.NETWORK:
        yield from _rows_candidates(component, wanted, device, itemsize, everything)


def _pick(options: Sequence[Choice], allowed_bytes: int) -> Choice:
    fitting = [choice for choice in options if choice.peak_bytes <= allowed_bytes]
    if fitting:
        return min(fitting, key=lambda c: (c.seconds, c.peak_bytes))
    return min(options, key=lambda c: (c.peak_bytes, c.seconds))


@lru_cache(maxsize=4096)
def _best(problem: Problem, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
    """The best candidate, looking into slices only of orders whose arithmetic alone would not already lose."""
    whole = {tree: _choice(problem, tree, device, itemsize) for tree in trees(len(problem.network.operands))}
    best = _pick(list(whole.values()), allowed_bytes)
    for tree, choice in sorted(whole.items(), key=lambda item: item[1].seconds):
        fits = best.peak_bytes <= allowed_bytes
        if fits and (
            choice.peak_bytes <= _CACHED_BYTES or _arithmetic_s(problem, tree, device, itemsize) > best.seconds
        ):
            continue
        for sliced in _sliced(problem, tree, device, itemsize):
            # A slice has to be worth its loop, or to be what fits, or to come nearest to it.
            if best.peak_bytes > allowed_bytes:
                better = sliced.peak_bytes < best.peak_bytes
            else:
                better = sliced.peak_bytes <= allowed_bytes and sliced.seconds * _WORTH < best.seconds
            best = sliced if better else best
    best = _with_less_memory(problem, best, device, itemsize)
    return _in_parts(problem, best, device, itemsize, allowed_bytes) if device.abreast > 1 else best


@lru_cache(maxsize=4096)
def _by_example(problem: Problem, best: Choice, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
    """The best order example by example, where that is worth the loop or needed to fit; else ``best``."""
    sizes = dict(problem.sizes)
    able = [tree for tree in trees(4) if is_worth_a_loop(arranged(problem.network, tree), tree, sizes)]
    if not able:
        return best
    looped = _pick([_choice(problem, tree, device, itemsize) for tree in able], allowed_bytes)
    if max(looped.peak_bytes, best.peak_bytes) <= allowed_bytes:
        return looped if looped.seconds * _WORTH_EXAMPLES < best.seconds else best
    return min(best, looped, key=lambda c: c.peak_bytes)


def _with_less_memory(problem: Problem, best: Choice, device: Device, itemsize: int) -> Choice:
    """The same order in the first slices, from large to small, that need no large memory and are as fast, if any."""
    if best.peak_bytes <= _MUCH_BYTES or best.tree is None:
        return best
    sliced = (c for c in _sliced(problem, best.tree, device, itemsize) if c.peak_bytes <= _MUCH_BYTES)
    return next((c for c in sliced if c.seconds <= best.seconds), best)


def _in_parts(problem: Problem, best: Choice, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
    """Rows in parts, in the largest slices that are good for it, if nearly as fast; as they were where none are."""
    triangle = problem.triangle
    parts = device.abreast // (triangle.panels if triangle.blocks else 1)  # pairs of blocks are side by side already
    if best.order != "rows" or best.tree is None or best.loop_windows or parts < 2:
        return best
    found: list[Choice] = []
    for choice in (_choice(problem, best.tree, device, itemsize), *_sliced(problem, best.tree, device, itemsize)):
        if best.slice_label not in (None, choice.slice_label) or choice.seconds > _AS_FAST * best.seconds:
            continue
        slices = _Slices(dict(problem.sizes), choice.slice_label, choice.slice_size)
        given_bytes = problem.formed_bytes + _slice_bytes(problem.network, best.tree, slices, itemsize)
        if in_parts_is_worth_it(choice.peak_bytes - given_bytes):
            found += _parted(problem, choice, parts, itemsize)
    fitting = [choice for choice in found if choice.peak_bytes <= allowed_bytes]
    if not fitting:
        return best
    label = min(fitting, key=lambda c: c.seconds).slice_label
    chosen = max((c for c in fitting if c.slice_label == label), key=lambda c: c.peak_bytes)
    return replace(chosen, seconds=min(chosen.seconds, best.seconds))  # parts are taken for being faster, not slower


def _parted(problem: Problem, choice: Choice, parts: int, itemsize: int) -> list[Choice]:
    """The choice in so many parts, if there is an axis for it."""
    sizes = dict(problem.sizes)
    label = parted_label(problem.network, sizes, choice.slice_label, parts)
    if label is None:
        return []
    beside = parts_entries(problem.network, sizes, label, parts) * itemsize
    return [replace(choice, parted=label, parts=parts, peak_bytes=choice.peak_bytes + beside)]


_AS_FAST = 1.04  # slices that are taken in parts may be slower by so much if they were not
_CACHED_BYTES = 1 << 19  # intermediates this small stay in cache whole
_WORTH = 1.1
_WORTH_EXAMPLES = 1.05
_MUCH_BYTES = 1 << 25  # intermediates beyond are sliced where that is as fast
_LINE_BYTES = 64


def _choice(
    problem: Problem, tree: Tree, device: Device, itemsize: int, label: str | None = None, chunk: int = 0
) -> Choice:
    """One candidate's price; with ``label``, sliced along it in chunks."""
    slices = _Slices(dict(problem.sizes), label, chunk)
    whole, sizes, count = slices.whole, slices.sizes, slices.count
    flops, seconds, peak, alive, turned = 0, 0.0, 0, 0, 0
    network = arranged(problem.network, tree) if problem.examples else problem.network
    base = len(network.operands)
    made: dict[int, int] = {}
    for position, step in enumerate(steps(network, tree)):
        if problem.triangle.is_second(step) and not problem.examples:
            continue  # the same numbers as the first side's
        times, here = problem.triangle.panel(step, sizes)
        rounds = times * problem.rounds(step)
        cost = product(step, here)
        out_bytes = times * cost.entries[2] * itemsize
        alive += out_bytes
        flops += rounds * cost.flops
        reads_s = _reads_s(
            step, cost.entries[:2], slices, base, alive, itemsize, device, cut=times > 1, blocks=problem.triangle.blocks
        )
        seconds += rounds * device.product_s(cost, itemsize, reads_s, device.copy_s(out_bytes / times, alive))
        seconds += rounds * cost.turned_entries * itemsize / device.turns_per_s
        turned += times * cost.turned_entries * itemsize
        peak = max(peak, alive + turned + times * cost.reduced * itemsize)
        alive -= made.pop(step.left, 0) + made.pop(step.right, 0)
        if not problem.examples or "2" in step.sides:  # what is made before a loop over examples outlives its steps
            made[base + position] = out_bytes
    once_bytes = problem.once_entries(network) * itemsize
    peak += once_bytes
    dealt = None if problem.examples else dealt_label(network, tree, whole, sizes, device.shares)
    if dealt is not None:
        block = math.prod(sizes[x] for x in problem.network.out)
        peak += (repeated_entries(problem.network, whole, device.shares) + device.shares * block) * itemsize
    once_s = device.fresh_s(peak) + once_bytes / device.turns_per_s
    if problem.formed_bytes:
        once_s += device.copy_s(3 * problem.formed_bytes, problem.formed_bytes)
    return Choice(
        order=order_name(problem.network, tree),
        tree=tree,
        slice_label=label,
        slice_size=chunk,
        loop_windows=problem.loop_windows,
        flops=flops * count * problem.repeats,
        peak_bytes=peak + _slice_bytes(network, tree, slices, itemsize) + problem.formed_bytes,
        seconds=seconds * count * problem.repeats + once_s,
        dealt=dealt,
        shares=1 if dealt is None else device.shares,
        by_example=problem.examples > 0,
    )


@dataclass(frozen=True, slots=True)
class _Slices:
    """Sizes of every label, and what is sliced: a label, or None, and how many of its entries are in a slice."""

    whole: Mapping[str, int]
    label: str | None
    chunk: int

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.whole if self.label is None else {**self.whole, self.label: self.chunk}

    @property
    def count(self) -> int:
        return 1 if self.label is None else math.ceil(self.whole[self.label] / self.chunk)


def _reads_s(
    step: Step,
    entries: Sequence[int],
    slices: _Slices,
    base: int,
    alive_bytes: int,
    itemsize: int,
    device: Device,
    *,
    cut: bool,
    blocks: bool,
) -> float:
    """Time to read a step's operands; the first ``base`` are the network's own, others among what is alive."""
    seconds, label = 0.0, slices.label
    for operand, labels, count in zip(
        (step.left, step.right), (step.left_labels, step.right_labels), entries, strict=True
    ):
        # An operand of the network lies where it was made, however thinly sliced. Slices and panels are copied, and
        # blocks are not, which are made by themselves.
        given = operand < base
        lies_in = math.prod(slices.whole[x] for x in labels) * itemsize if given else alive_bytes
        copies = 3 if (cut and (given or not blocks)) or (given and label in labels) else 1
        if given and label is not None and label == labels[-1]:
            copies *= max(_LINE_BYTES / (slices.chunk * itemsize), 1)  # memory is read by the line, however little
        seconds += copies * device.copy_s(count * itemsize, lies_in)
    return seconds


def _slice_bytes(network: Network, tree: Tree, slices: _Slices, itemsize: int) -> int:
    """Slices of the network's own operands that have to be taken out of them, and are not turned anyway."""
    found, base = 0, len(network.operands)
    for step in steps(network, tree) if slices.label is not None else ():
        cost = product(step, slices.sizes)
        sides = zip(
            (step.left, step.right), (step.left_labels, step.right_labels), cost.entries, cost.turned, strict=False
        )
        found += sum(n for at, labels, n, turned in sides if at < base and slices.label in labels[1:] and not turned)
    return found * itemsize


def _arithmetic_s(problem: Problem, tree: Tree, device: Device, itemsize: int) -> float:
    """Time of an order's arithmetic alone: what no slicing can go below."""
    sizes = dict(problem.sizes)
    made = steps(problem.network, tree)
    total = 0.0
    for step in made:
        if not problem.triangle.is_second(step):
            times, here = problem.triangle.panel(step, sizes)
            total += times * device.product_s(product(step, here), itemsize, 0.0, 0.0)
    return problem.repeats * total


def _sliced(problem: Problem, tree: Tree, device: Device, itemsize: int) -> Iterator[Choice]:
    """The same order looped over one summed label that counts no examples, with chunks halved from the whole down."""
    sizes = dict(problem.sizes)
    kept = {*problem.network.out, problem.triangle.rows, problem.triangle.columns}
    summed = {x for labels in problem.network.operands for x in labels} - kept
    for label in sorted(summed):
        chunk = sizes[label]
        while chunk > 1:
            chunk = math.ceil(chunk / 2)
            yield _choice(problem, tree, device, itemsize, label, chunk)


def _rows_candidates(
    component: Component, wanted: Wanted, device: Device, itemsize: int, triangle: Triangle
) -> Iterator[Choice]:
    """Rows of unlike uses, summed and multiplied, whole or in slices of one weight axis."""
    sizes = dict(wanted.sizes)
    side_size = lambda labels: math.prod(sizes[x] for x in labels if x is not None)  # noqa: E731
    rows1 = side_size((wanted.example1, *wanted.seeds1))
    rows2 = side_size((wanted.example2, *wanted.seeds2))
    view = component.view
    entries = view.size if view else max(f.view.size for f in (*component.left, *component.right))
    flops = sum(2 * rows1 * row_entries(f) for f in component.left)
    flops += 0 if triangle.one else sum(2 * rows2 * row_entries(f) for f in component.right)
    flops += round(2 * rows1 * rows2 * entries * triangle.share)
    axes = [(None, 1)] if view is None else [(None, 1), *((f"w{a}", n) for a, n in enumerate(view.shape) if n > 1)]
    for label, size in axes:
        if label is not None and not _row_sliceable(component, label):
            continue
        chunk = size
        while True:
            count = math.ceil(size / chunk)
            peak = 2 * (rows1 + rows2) * entries // count * itemsize
            seconds = flops / device.flops_per_s + device.copy_s(2 * peak * count, peak) + count * 8 * device.call_s
            yield Choice("rows of unlike uses", None, label, chunk, False, flops, peak, seconds)
            if chunk == 1 or label is None:
                break
            chunk = math.ceil(chunk / 2)


def _row_sliceable(component: Component, label: str) -> bool:
    """Whether rows of every use can be formed for a slice of this axis alone: windows of convolutions cannot."""
    return all(label not in f.window for f in (*component.left, *component.right))

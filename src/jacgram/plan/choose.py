"""Choosing how to contract a component: every order, every slice, priced by the device's roofline.

Floating-point operations alone choose wrongly by up to an order of magnitude, because an order with fewer of them may
move far more bytes or run thin products. So a candidate's price is its products' times, each the slower of arithmetic
and traffic, with the copies to another layout and the fresh memory that it takes; candidates whose working set exceeds
what is allowed are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from jacgram.plan.assembly import Assembly, assemble
from jacgram.plan.components import Component, Form
from jacgram.plan.dealing import dealt_label, repeated_entries
from jacgram.plan.device import Device
from jacgram.plan.factors import row_entries
from jacgram.plan.network import Network, Tree, order_name, product, steps, trees
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted

_MAX_WINDOWS = 64  # a loop over more window offsets than this would make long programs; patches are formed instead


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
        peak_bytes: largest working set of the slices taken at once, beside the operands and the accumulated block.
        seconds: predicted time.
        dealt: label whose entries are dealt out to the cores, or None; see `jacgram.plan.dealing`.
        shares: in how many shares.
        abreast: slices taken at once, where a program's products run side by side.
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
    abreast: int = 1


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
    problems = _problems(component, wanted, itemsize, triangle)
    options = [_best(problem, device, itemsize, allowed_bytes) for problem in problems]
    if component.form is not Form.NETWORK:
        options += _rows_candidates(component, wanted, device, itemsize, triangle)
    return _pick(options, allowed_bytes)


def candidates(component: Component, wanted: Wanted, device: Device, itemsize: int) -> Iterator[Choice]:
    """Every order with every slice, likely or not."""
    everything = Triangle.of(wanted, 1, one=False)
    for problem in _problems(component, wanted, itemsize, everything):
        for tree in trees(len(problem.network.operands)):
            whole = _choice(problem, tree, device, itemsize)
            yield whole
            yield from _sliced(problem, tree, device, itemsize)
    if component.form is not Form.NETWORK:
        yield from _rows_candidates(component, wanted, device, itemsize, everything)


def _pick(options: Sequence[Choice], allowed_bytes: int) -> Choice:
    fitting = [choice for choice in options if choice.peak_bytes <= allowed_bytes]
    if fitting:
        return min(fitting, key=lambda c: (c.seconds, c.peak_bytes))
    return min(options, key=lambda c: (c.peak_bytes, c.seconds))


@dataclass(frozen=True, slots=True)
class _Problem:
    """A network to be contracted, and what it takes to form its operands.

    Attributes:
        network: operands and result by labels.
        sizes: (label, size) of every label.
        repeats: how often it is contracted: once for each window offset that is looped over.
        loop_windows: whether window offsets are looped over.
        formed_bytes: bytes of operands that have to be formed: stacked, patched, compared.
        triangle: how much of the result is computed where both sides are one.
    """

    network: Network
    sizes: tuple[tuple[str, int], ...]
    repeats: int
    loop_windows: bool
    formed_bytes: int
    triangle: Triangle


def _problems(component: Component, wanted: Wanted, itemsize: int, triangle: Triangle) -> list[_Problem]:
    """The networks that a component may be contracted as: with patches, and window by window."""
    if component.form is Form.ROWS:
        return []
    windows = component.left[0].window
    count = math.prod(component.left[0].sizes()[x] for x in windows)
    loops = (False, True) if 1 < count <= _MAX_WINDOWS else (False,)
    return [_problem(component, assemble(component, wanted, loop_windows=loop), itemsize, triangle) for loop in loops]


def _problem(component: Component, assembly: Assembly, itemsize: int, triangle: Triangle) -> _Problem:
    sizes = dict(assembly.sizes)
    formed = 0
    for part in assembly.stacks:
        if part.activation is not None and (part.stacked is not None or component.left[0].window):
            formed += math.prod(sizes[x] for x in part.activation if x not in assembly.windows)
        if part.stacked is not None:
            formed += math.prod(sizes[x] for x in part.cotangent)
    if component.form is Form.TABLE:
        formed += math.prod(sizes[x] for x in assembly.network.operands[0])
    repeats = math.prod(sizes[x] for x in assembly.windows)
    used = {x for labels in (*assembly.network.operands, assembly.network.out) for x in labels}
    kept = tuple((x, n) for x, n in assembly.sizes if x in used)
    return _Problem(assembly.network, kept, repeats, bool(assembly.windows), formed * itemsize, triangle)


@lru_cache(maxsize=4096)
def _best(problem: _Problem, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
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
    return _abreast(problem, best, device, itemsize, allowed_bytes) if device.abreast > 1 else best


def _with_less_memory(problem: _Problem, best: Choice, device: Device, itemsize: int) -> Choice:
    """The same order in the first slices, from large to small, that need no large memory and are as fast, if any."""
    if best.peak_bytes <= _MUCH_BYTES or best.tree is None:
        return best
    sliced = (c for c in _sliced(problem, best.tree, device, itemsize) if c.peak_bytes <= _MUCH_BYTES)
    return next((c for c in sliced if c.seconds <= best.seconds), best)


def _abreast(problem: _Problem, best: Choice, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
    """Slices of rows several at once, where that pays and fits; large ones in smaller slices, if nearly as fast.

    A compiled program starts at once what waits for nothing else, but the steps of a loop come in turn. In each, the
    rows of a side are made by one core, and then multiplied by all, in strips that need not divide among them: cores
    wait. What the next slice has to do fills these gaps, as long as the slices are small together.
    """
    label, formed = best.slice_label, problem.formed_bytes
    if label is None or best.tree is None or best.order != "rows" or best.loop_windows:
        return best
    cut = best
    if not formed and best.peak_bytes > _TOGETHER_BYTES:
        for smaller in _sliced(problem, best.tree, device, itemsize):
            small = smaller.slice_label == label and device.abreast * smaller.peak_bytes <= _TOGETHER_BYTES
            if small and smaller.seconds <= _AS_FAST * best.seconds:
                cut = smaller
                break
    together = device.abreast * (cut.peak_bytes - formed)
    few = dict(problem.sizes)[label] // cut.slice_size < 2 * device.abreast
    if few or formed + together > allowed_bytes or together > (_BESIDE_FORMED_BYTES if formed else _TOGETHER_BYTES):
        return best
    return replace(cut, abreast=device.abreast, peak_bytes=formed + together)


# Slices at once, measured over random layers and in whole kernels. A slice that alone takes more is cut; one that takes
# half of it to all is best as it is, by itself. Patches are read again by every slice, which is then not cut.
_TOGETHER_BYTES = 1 << 23
_BESIDE_FORMED_BYTES = 1 << 25
_AS_FAST = 1.04
_CACHED_BYTES = 1 << 19  # intermediates this small stay in cache whole
_WORTH = 1.1
_MUCH_BYTES = 1 << 25  # intermediates beyond are sliced where that is as fast
_LINE_BYTES = 64


def _choice(
    problem: _Problem, tree: Tree, device: Device, itemsize: int, label: str | None = None, chunk: int = 0
) -> Choice:
    """One candidate's price; with ``label``, sliced along it in chunks."""
    whole = dict(problem.sizes)
    sizes = whole if label is None else whole | {label: chunk}
    count = 1 if label is None else math.ceil(whole[label] / chunk)
    flops, seconds, peak, alive, turned = 0, 0.0, 0, 0, 0
    base = len(problem.network.operands)
    made: dict[int, int] = {}
    for position, step in enumerate(steps(problem.network, tree)):
        if problem.triangle.is_second(step):
            continue  # the same numbers as the first side's
        times, here = problem.triangle.panel(step, sizes)
        cost = product(step, here)
        out_bytes = times * cost.entries[2] * itemsize
        alive += out_bytes
        flops += times * cost.flops
        reads_s = 0.0
        for operand, labels, entries in zip(
            (step.left, step.right), (step.left_labels, step.right_labels), cost.entries[:2], strict=True
        ):
            # An operand of the network lies where it was made, however thinly sliced. Slices and panels are copied.
            given = operand < base
            lies_in = math.prod(whole[x] for x in labels) * itemsize if given else alive
            copies = 3 if times > 1 or (given and label in labels) else 1
            if given and label is not None and label == labels[-1]:
                copies *= max(_LINE_BYTES / (chunk * itemsize), 1)  # memory is read by the line, however little of it
            reads_s += copies * device.copy_s(entries * itemsize, lies_in)
        seconds += times * device.product_s(cost, itemsize, reads_s, device.copy_s(out_bytes / times, alive))
        seconds += times * cost.turned_entries * itemsize / device.turns_per_s
        turned += times * cost.turned_entries * itemsize
        peak = max(peak, alive + turned + times * cost.reduced * itemsize)
        alive -= made.pop(step.left, 0) + made.pop(step.right, 0)
        made[base + position] = out_bytes
    dealt = dealt_label(problem.network, tree, whole, sizes, device.shares)
    if dealt is not None:
        block = math.prod(sizes[x] for x in problem.network.out)
        peak += (repeated_entries(problem.network, whole, device.shares) + device.shares * block) * itemsize
    once_s = device.fresh_s(peak)
    if problem.formed_bytes:
        once_s += device.copy_s(3 * problem.formed_bytes, problem.formed_bytes)
    return Choice(
        order=order_name(problem.network, tree),
        tree=tree,
        slice_label=label,
        slice_size=chunk,
        loop_windows=problem.loop_windows,
        flops=flops * count * problem.repeats,
        peak_bytes=peak + problem.formed_bytes,
        seconds=seconds * count * problem.repeats + once_s,
        dealt=dealt,
        shares=1 if dealt is None else device.shares,
    )


def _arithmetic_s(problem: _Problem, tree: Tree, device: Device, itemsize: int) -> float:
    """Time of an order's arithmetic alone: what no slicing can go below."""
    sizes = dict(problem.sizes)
    made = steps(problem.network, tree)
    total = 0.0
    for step in made:
        if not problem.triangle.is_second(step):
            times, here = problem.triangle.panel(step, sizes)
            total += times * device.product_s(product(step, here), itemsize, 0.0, 0.0)
    return problem.repeats * total


def _sliced(problem: _Problem, tree: Tree, device: Device, itemsize: int) -> Iterator[Choice]:
    """The same order looped over one summed label, with chunks halved from the whole down."""
    out = set(problem.network.out)
    sizes = dict(problem.sizes)
    summed = {x for labels in problem.network.operands for x in labels if x not in out and x[0] in "wp"}
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

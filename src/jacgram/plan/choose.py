"""Choosing how to contract a component: every order, every slice, priced by the device's roofline.

Floating-point operations alone choose wrongly by up to an order of magnitude, because an order with fewer of them may
move far more bytes or run thin products. So a candidate's price is its products' times, each the slower of arithmetic
and traffic, and candidates whose working set exceeds what is allowed are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from jacgram.plan.assembly import Assembly, assemble
from jacgram.plan.components import Component, Form
from jacgram.plan.device import Device
from jacgram.plan.factors import row_entries
from jacgram.plan.network import Tree, order_name, product, steps, trees
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
        peak_bytes: largest working set of one slice, beside the operands and the accumulated block.
        seconds: predicted time.
    """

    order: str
    tree: Tree | None
    slice_label: str | None
    slice_size: int
    loop_windows: bool
    flops: int
    peak_bytes: int
    seconds: float


def choose(component: Component, wanted: Wanted, device: Device, itemsize: int, allowed_bytes: int) -> Choice:
    """The fastest candidate within ``allowed_bytes`` of working set; the smallest one if none fits."""
    every = list(candidates(component, wanted, device, itemsize))
    fitting = [c for c in every if c.peak_bytes <= allowed_bytes]
    if fitting:
        return min(fitting, key=lambda c: (c.seconds, c.peak_bytes))
    return min(every, key=lambda c: (c.peak_bytes, c.seconds))


def candidates(component: Component, wanted: Wanted, device: Device, itemsize: int) -> Iterator[Choice]:
    """Every order with every slice considered."""
    if component.form is not Form.ROWS:
        windows = component.left[0].window
        count = math.prod(component.left[0].sizes()[x] for x in windows)
        for loop in (False, True) if windows and count <= _MAX_WINDOWS else (False,):
            yield from _network_candidates(component, assemble(component, wanted, loop_windows=loop), device, itemsize)
    if component.form is not Form.NETWORK:
        yield from _rows_candidates(component, wanted, device, itemsize)


def _network_candidates(component: Component, assembly: Assembly, device: Device, itemsize: int) -> Iterator[Choice]:
    sizes = dict(assembly.sizes)
    repeats = math.prod(sizes[x] for x in assembly.windows)
    prepare_s, prepare_bytes = _preparation(component, assembly, device, itemsize)
    for tree in trees(len(assembly.network.operands)):
        name = order_name(assembly.network, tree)
        whole = _price(assembly, tree, sizes, device, itemsize)
        base = Choice(name, tree, None, 0, bool(assembly.windows), *whole)
        for choice in (base, *_sliced(base, assembly, tree, sizes, device, itemsize)):
            yield replace(
                choice,
                flops=choice.flops * repeats,
                peak_bytes=choice.peak_bytes + prepare_bytes,
                seconds=choice.seconds * repeats + prepare_s,
            )


def _price(
    assembly: Assembly, tree: Tree, sizes: Mapping[str, int], device: Device, itemsize: int
) -> tuple[int, int, float]:
    """Operations, bytes of the intermediates alive at once at most, seconds."""
    flops, seconds, peak, alive = 0, 0.0, 0, 0
    taken = steps(assembly.network, tree)
    base = len(assembly.network.operands)
    made: dict[int, int] = {}
    for position, step in enumerate(taken):
        cost = product(step, sizes)
        flops += cost.flops
        seconds += device.product_s(cost, itemsize)
        out = cost.entries[2] * itemsize
        alive += out
        peak = max(peak, alive)
        alive -= made.pop(step.left, 0) + made.pop(step.right, 0)
        made[base + position] = out
    return flops, peak, seconds


def _sliced(
    base: Choice, assembly: Assembly, tree: Tree, sizes: dict[str, int], device: Device, itemsize: int
) -> Iterator[Choice]:
    """The same order looped over one summed label, with chunks halved from the whole down."""
    out = set(assembly.network.out)
    summed = {x for labels in assembly.network.operands for x in labels if x not in out and x[0] in "wp"}
    for label in sorted(summed):
        size = sizes[label]
        chunk = _halved(size)
        while chunk < size:
            count = math.ceil(size / chunk)
            flops, peak, seconds = _price(assembly, tree, sizes | {label: chunk}, device, itemsize)
            yield replace(
                base, slice_label=label, slice_size=chunk, flops=flops * count, peak_bytes=peak, seconds=seconds * count
            )
            if chunk == 1:
                break
            chunk = _halved(chunk)


def _halved(size: int) -> int:
    return max(1, math.ceil(size / 2))


def _preparation(component: Component, assembly: Assembly, device: Device, itemsize: int) -> tuple[float, int]:
    """Time and bytes of stacking, of forming patches and of comparing indices."""
    sizes = dict(assembly.sizes)
    n_bytes = 0
    for part in assembly.stacks:
        stacked = part.stacked is not None
        if part.activation is not None and (stacked or component.left[0].window):
            n_bytes += math.prod(sizes[x] for x in part.activation if x not in assembly.windows) * itemsize
        if stacked:
            n_bytes += math.prod(sizes[x] for x in part.cotangent) * itemsize
    if component.form is Form.TABLE:
        n_bytes += math.prod(sizes[x] for x in assembly.network.operands[0]) * itemsize
    return (device.copy_s(2 * n_bytes) if n_bytes else 0.0), n_bytes


def _rows_candidates(component: Component, wanted: Wanted, device: Device, itemsize: int) -> Iterator[Choice]:
    """Rows of unlike uses, summed and multiplied, whole or in slices of one weight axis."""
    sizes = dict(wanted.sizes)
    side_size = lambda labels: math.prod(sizes[x] for x in labels if x is not None)  # noqa: E731
    rows1 = side_size((wanted.example1, *wanted.seeds1))
    rows2 = side_size((wanted.example2, *wanted.seeds2))
    view = component.view
    entries = view.size if view else max(f.view.size for f in (*component.left, *component.right))
    flops = sum(2 * rows1 * row_entries(f) for f in component.left)
    flops += sum(2 * rows2 * row_entries(f) for f in component.right)
    flops += 2 * rows1 * rows2 * entries
    axes = [(None, 1)] if view is None else [(None, 1), *((f"w{a}", n) for a, n in enumerate(view.shape) if n > 1)]
    for label, size in axes:
        if label is not None and not _row_sliceable(component, label):
            continue
        chunk = size
        while True:
            count = math.ceil(size / chunk)
            peak = 2 * (rows1 + rows2) * entries // count * itemsize
            seconds = flops / device.flops_per_s + device.copy_s(2 * peak * count) + count * 8 * device.call_s
            yield Choice("rows of unlike uses", None, label, chunk, False, flops, peak, seconds)
            if chunk == 1 or label is None:
                break
            chunk = _halved(chunk)


def _row_sliceable(component: Component, label: str) -> bool:
    """Whether rows of every use can be formed for a slice of this axis alone: windows of convolutions cannot."""
    return all(label not in f.window for f in (*component.left, *component.right))

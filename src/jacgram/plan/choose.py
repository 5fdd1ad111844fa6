"""Choosing how to contract a component: every order, every slice, priced by the device's roofline.

Floating-point operations alone choose wrongly by up to an order of magnitude, because an order with fewer of them may
move far more bytes or run thin products. So candidates go by their price (see `jacgram.plan.pricing`), and those whose
working set exceeds what is allowed are not considered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from jacgram.plan.by_example import arranged, fills_lines, is_worth_a_loop
from jacgram.plan.choice import Choice
from jacgram.plan.components import Component, Form
from jacgram.plan.device import Device
from jacgram.plan.factors import row_entries
from jacgram.plan.network import trees
from jacgram.plan.parting import in_parts_is_worth_it, parted_label, parts_entries
from jacgram.plan.pricing import PRICES_KEPT, Pricing, pricing
from jacgram.plan.problem import problems
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted


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
    prices = [pricing(problem, device, itemsize) for problem in every]
    options = [_best(priced, allowed_bytes) for priced in prices if not priced.problem.examples]
    if component.form is not Form.NETWORK:
        options += _rows_candidates(component, wanted, device, itemsize, triangle)
    best = _pick(options, allowed_bytes)
    for priced in prices:
        if priced.problem.examples:
            best = _by_example(priced, best, allowed_bytes)
    return best


def candidates(component: Component, wanted: Wanted, device: Device, itemsize: int) -> Iterator[Choice]:
    """Every order with every slice, likely or not."""
    everything = Triangle.of(wanted, 1, one=False)
    for problem in problems(component, wanted, itemsize, everything):
        prices = pricing(problem, device, itemsize)
        for tree in trees(len(problem.network.operands)):
            yield prices.of(tree)
            if not problem.examples:
                yield from prices.sliced(tree)
    if component.form is not Form.NETWORK:
        yield from _rows_candidates(component, wanted, device, itemsize, everything)


def _pick(options: Sequence[Choice], allowed_bytes: int) -> Choice:
    fitting = [choice for choice in options if choice.peak_bytes <= allowed_bytes]
    if fitting:
        return min(fitting, key=lambda c: (c.seconds, c.peak_bytes))
    return min(options, key=lambda c: (c.peak_bytes, c.seconds))


@lru_cache(maxsize=PRICES_KEPT)
def _best(prices: Pricing, allowed_bytes: int) -> Choice:
    """The best candidate, looking into slices only of orders whose arithmetic alone would not already lose."""
    whole = {tree: prices.of(tree) for tree in trees(len(prices.problem.network.operands))}
    best = _pick(list(whole.values()), allowed_bytes)
    for tree, choice in sorted(whole.items(), key=lambda item: item[1].seconds):
        fits = best.peak_bytes <= allowed_bytes
        if fits and (choice.peak_bytes <= _CACHED_BYTES or prices.arithmetic_s(tree) > best.seconds):
            continue
        for sliced in prices.sliced(tree):
            # A slice has to be worth its loop, or to be what fits, or to come nearest to it.
            if best.peak_bytes > allowed_bytes:
                better = sliced.peak_bytes < best.peak_bytes
            else:
                better = sliced.peak_bytes <= allowed_bytes and sliced.seconds * _WORTH < best.seconds
            best = sliced if better else best
    best = _cut_where_turned(prices, _with_less_memory(prices, best))
    return _in_parts(prices, best, allowed_bytes) if prices.device.abreast > 1 else best


@lru_cache(maxsize=PRICES_KEPT)
def _by_example(prices: Pricing, best: Choice, allowed_bytes: int) -> Choice:
    """The best order example by example, where that is faster by enough, or needed to fit; else ``best``.

    One whose positions fill no whole cache lines is for compiled programs alone.
    """
    problem, sizes = prices.problem, dict(prices.problem.sizes)
    is_even = fills_lines(problem.network, sizes)
    if not is_even and not prices.device.compiled:
        return best
    able = [tree for tree in trees(4) if is_worth_a_loop(arranged(problem.network, tree), tree, sizes)]
    if not able:
        return best
    looped = _pick([prices.of(tree) for tree in able], allowed_bytes)
    if max(looped.peak_bytes, best.peak_bytes) <= allowed_bytes:
        return looped if looped.seconds * (1.0 if is_even else _UNEVEN) < best.seconds else best
    return min(best, looped, key=lambda c: c.peak_bytes)


def _with_less_memory(prices: Pricing, best: Choice) -> Choice:
    """The same order in the first slices, from large to small, that need no large memory and are as fast, if any."""
    if best.peak_bytes <= _MUCH_BYTES or best.tree is None:
        return best
    sliced = (c for c in prices.sliced(best.tree) if c.peak_bytes <= _MUCH_BYTES)
    return next((c for c in sliced if c.seconds <= best.seconds), best)


def _cut_where_turned(prices: Pricing, best: Choice) -> Choice:
    """Rows in slices of what is laid out anyway, if nearly as fast: cut and laid out in one go, and used from cache.

    Over random layers such slices took a tenth less time than all at once where both were priced alike, and slices of
    other axes more.
    """
    if not prices.device.compiled or best.order != "rows" or best.tree is None:
        return best
    if best.slice_label is not None or best.loop_windows or best.peak_bytes <= _KEPT_BYTES:
        return best
    labels = prices.turned_labels(best.tree)
    able = [
        choice
        for choice in prices.sliced(best.tree)
        if choice.slice_label in labels and choice.slice_size >= _LEAST_CUT and choice.peak_bytes <= best.peak_bytes
    ]
    cut = min(able, key=lambda c: c.seconds, default=best)
    if cut.seconds > _AS_FAST * best.seconds:
        return best
    return replace(cut, seconds=min(cut.seconds, best.seconds))  # slices are taken for being faster, not slower


def _in_parts(prices: Pricing, best: Choice, allowed_bytes: int) -> Choice:
    """Rows in parts, in the largest slices that are good for it, if nearly as fast; as they were where none are."""
    triangle = prices.problem.triangle
    # Pairs of blocks are side by side already.
    parts = prices.device.abreast // (triangle.panels if triangle.blocks else 1)
    if best.order != "rows" or best.tree is None or best.loop_windows or parts < 2:
        return best
    found: list[Choice] = []
    fresh = lambda choice: prices.device.comes_fresh(choice.peak_bytes)  # noqa: E731
    for choice in (prices.of(best.tree), *prices.sliced(best.tree)):
        if best.slice_label not in (None, choice.slice_label) or choice.seconds > _AS_FAST * best.seconds:
            continue
        if in_parts_is_worth_it(choice.peak_bytes - prices.given_bytes(choice)):
            found += [c for c in _parted(prices, choice, parts) if fresh(c) <= fresh(best)]
    fitting = [choice for choice in found if choice.peak_bytes <= allowed_bytes]
    if not fitting:
        return best
    label = min(fitting, key=lambda c: c.seconds).slice_label
    chosen = max((c for c in fitting if c.slice_label == label), key=lambda c: c.peak_bytes)
    return replace(chosen, seconds=min(chosen.seconds, best.seconds))  # parts are taken for being faster, not slower


def _parted(prices: Pricing, choice: Choice, parts: int) -> list[Choice]:
    """The choice in so many parts, if there is an axis for it."""
    network, sizes = prices.problem.network, dict(prices.problem.sizes)
    label = parted_label(network, sizes, choice.slice_label, parts)
    if label is None:
        return []
    peak_bytes = choice.peak_bytes + parts_entries(network, sizes, label, parts) * prices.itemsize
    return [replace(choice, parted=label, parts=parts, peak_bytes=peak_bytes)]


_AS_FAST = 1.04  # slices that are taken in parts, or of what is laid out anyway, may be priced slower by so much
_LEAST_CUT = 12  # entries of an axis in a slice: thinner ones were slower
_KEPT_BYTES = 1 << 20  # rows this small stay in a core's cache without a cut
_CACHED_BYTES = 1 << 19  # intermediates this small stay in cache whole
_WORTH = 1.1
_UNEVEN = 1.1  # a loop over examples whose positions fill no whole cache lines has to be faster by so much
_MUCH_BYTES = 1 << 25  # intermediates beyond are sliced where that is as fast


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

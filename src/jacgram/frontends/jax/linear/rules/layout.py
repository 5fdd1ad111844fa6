"""Rules of primitives that arrange a value's axes: labels move, and nothing is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import jax.numpy as jnp

from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Deferred, Term, Window, fresh

CUMSUM_LIMIT = 1024
"""Longest axis for which a cumulative sum is a product with a triangular matrix."""


def transpose(term: Term, site: Site) -> Term:
    """Axes in a new order."""
    order = site.params["permutation"]
    return term.with_value([term.value[a] for a in order], [term.windows[a] for a in order])


def squeeze(term: Term, site: Site) -> Term | None:
    """Axes of size one dropped."""
    dropped = {axis % len(site.shape) for axis in site.params["dimensions"]}
    return _drop(term, sorted(dropped))


def broadcast_in_dim(term: Term, site: Site) -> Term | None:
    """New axes, and axes of size one repeated."""
    return _broadcast(term, site.shape, site.params["shape"], site.params["broadcast_dimensions"])


def spread(term: Term, shape: Sequence[int], out_shape: Sequence[int]) -> Term | None:
    """What elementwise primitives do to an operand: scalars and axes of size one are repeated."""
    if tuple(shape) == tuple(out_shape):
        return term
    return _broadcast(term, shape, out_shape, range(len(shape)))


def reshape(term: Term, site: Site) -> Term | None:
    """The same entries in another shape: axis by axis, or as another view of the leaf."""
    if site.params.get("dimensions") is not None or not term.whole:
        return None
    result, value = term, []
    for old, new in reshape_groups(site.shape, site.out_shape):
        old_axes = [axis for axis in old if site.shape[axis] != 1]
        new_sizes = [site.out_shape[axis] for axis in new]
        labels = [term.value[axis] for axis in old_axes]
        if len(labels) == sum(size != 1 for size in new_sizes) <= 1:
            value += [labels[0] if size != 1 else fresh(1)[0] for size in new_sizes]
        elif not term.bare:
            return None
        elif not any(label in term.weight for label in labels):
            value += fresh(len(new_sizes))
        else:
            merged = _regroup(result, labels, new_sizes)
            if merged is None:
                return None
            result, names = merged
            value += names
    ones = [axis for axis, size in enumerate(site.shape) if size == 1]
    dropped = _drop(replace(result, value=term.value), ones)
    return None if dropped is None else dropped.with_value(value)


def reduce_sum(term: Term, site: Site) -> Term | None:
    """Sums over axes: a summed weight axis meets an activation of ones."""
    axes = set(site.params["axes"])
    kept = [axis for axis in range(len(site.shape)) if axis not in axes]
    value, windows = [term.value[a] for a in kept], [term.windows[a] for a in kept]
    gone = [term.value[axis] for axis in sorted(axes)]
    if not term.bare:
        inside = all(label in term.activation_labels and label in term.weight for label in gone)
        return term.with_value(value, windows) if inside and term.kind is None else None
    repeats = math.prod(
        site.shape[a] if (window := term.windows[a]) is None else window.size
        for a in axes
        if term.value[a] not in term.weight
    )
    summed = [label for label in gone if label in term.weight]
    sizes = [term.view.shape[term.weight.index(label)] for label in summed]
    dtype = site.outputs[0].dtype
    ones = Deferred((), lambda: jnp.full(sizes, repeats, dtype))
    if not summed and repeats == 1:
        return term.with_value(value, windows)
    return term.times(ones, summed, value, windows)


def cumsum(term: Term, site: Site) -> Term | None:
    """A product with a triangular matrix of ones."""
    axis, size, dtype = site.params["axis"], site.shape[site.params["axis"]], site.outputs[0].dtype
    if not term.bare or not term.whole or term.value[axis] not in term.weight or size > CUMSUM_LIMIT:
        return None
    corner = jnp.triu if not site.params["reverse"] else jnp.tril
    (label,) = fresh(1)
    value = [label if a == axis else name for a, name in enumerate(term.value)]
    triangle = Deferred((), lambda: corner(jnp.ones((size, size), dtype)))
    return term.times(triangle, (term.value[axis], label), value, (None,) * len(value))


def reshape_groups(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Runs of old and new axes that hold the same entries, as short as possible.

    Example:
        >>> list(reshape_groups((2, 3, 4), (6, 2, 2)))
        [([0, 1], [0]), ([2], [1, 2])]
    """
    i = j = 0
    while i < len(old) or j < len(new):
        a, b, olds, news = 1, 1, list[int](), list[int]()
        while not olds or not news or a != b:
            if i < len(old) and (a <= b or j == len(new)):
                a, i, olds = a * old[i], i + 1, [*olds, i]
            elif j < len(new):
                b, j, news = b * new[j], j + 1, [*news, j]
            else:
                break
        yield olds, news


def _broadcast(term: Term, shape: Sequence[int], out_shape: Sequence[int], places: Sequence[int]) -> Term | None:
    repeated = [axis for axis, place in enumerate(places) if shape[axis] != out_shape[place]]
    kept = _drop(term, repeated)
    if kept is None or kept.kind is not None:
        return None
    value, windows = list(fresh(len(out_shape))), list[Window | None]([None] * len(out_shape))
    for axis, place in enumerate(p for a, p in enumerate(places) if a not in repeated):
        value[place], windows[place] = kept.value[axis], kept.windows[axis]
    return kept.with_value(value, windows)


def _regroup(term: Term, labels: list[str], sizes: list[int]) -> tuple[Term, list[str]] | None:
    """A bare term whose weight axes of these labels are reshaped together; None where no view does it."""
    if not all(label in term.weight for label in labels):
        return None
    rest = [label for label in term.weight if label not in labels]
    view = term.view.transpose([term.weight.index(label) for label in (*labels, *rest)])
    view = view.reshape([*sizes, *view.shape[len(labels) :]])
    names = list(fresh(len(sizes)))
    return None if view is None else (replace(term, view=view, weight=(*names, *rest)), names)


def _drop(term: Term, axes: Sequence[int]) -> Term | None:
    """The term in a value without these axes of size one; None where a window or a kind needs one of them."""
    for axis in axes:
        label = term.value[axis]
        if term.windows[axis] is not None or label in term.canonical:
            return None
        if label in term.activation_labels:
            term = term.without_activation_axis(label)
        if label in term.weight:
            term = term.without_weight(label)
    kept = [a for a in range(len(term.value)) if a not in axes]
    return term.with_value([term.value[a] for a in kept], [term.windows[a] for a in kept])

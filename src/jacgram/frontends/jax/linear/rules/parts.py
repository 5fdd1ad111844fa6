"""Rules of primitives that take parts of a value, or make it a part of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import jax.numpy as jnp

from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Term, Window


def slice_(term: Term, site: Site) -> Term | None:
    """A strided part of each axis."""
    strides = site.params["strides"] or (1,) * len(site.shape)
    windows = [
        Window(start, size, step)
        for start, size, step in zip(site.params["start_indices"], site.out_shape, strides, strict=True)
    ]
    return narrow(term, site.shape, windows)


def split(term: Term, site: Site) -> Sequence[Term | None] | None:
    """Parts of one axis, one after the other."""
    axis, start, parts = site.params["axis"], 0, list[Term | None]()
    for size in map(int, site.params["sizes"]):  # they may be NumPy's, which no plan could be written with
        windows = [Window(start if a == axis else 0, size if a == axis else n) for a, n in enumerate(site.shape)]
        parts.append(narrow(term, site.shape, windows))
        start += size
    return None if None in parts else parts


def rev(term: Term, site: Site) -> Term | None:
    """Axes reversed: in the view, and in the activation."""
    axes = site.params["dimensions"]
    labels = {term.value[axis] for axis in axes}
    if term.kind is not None or any(term.windows[axis] for axis in axes):
        return None
    flipped = replace(term, view=term.view.flip([a for a, label in enumerate(term.weight) if label in labels]))
    turned = [a for a, label in enumerate(term.activation_labels) if label in labels]
    return flipped.with_activation(lambda a: jnp.flip(a, turned), term.activation_labels) if turned else flipped


def pad(term: Term, site: Site) -> Term | None:
    """The value inside a larger one: remembered as a window of the cotangent."""
    config = site.params["padding_config"]
    if site.position or not term.whole or any(low < 0 or high < 0 for low, high, _ in config):
        return None
    windows = [
        Window(low, size, inner + 1) if low or high or inner else None
        for size, (low, high, inner) in zip(site.shape, config, strict=True)
    ]
    return term.with_value(term.value, windows)


def concatenate(term: Term, site: Site) -> Term | None:
    """Likewise, along one axis."""
    axis = site.params["dimension"]
    start = sum(operand.shape[axis] for operand in site.operands[: site.position])
    inner = term.windows[axis] or Window(0, site.shape[axis])
    moved = Window(start + inner.start, inner.size, inner.step)
    return term.with_value(term.value, [moved if a == axis else w for a, w in enumerate(term.windows)])


def narrow(term: Term, shape: Sequence[int], windows: Sequence[Window]) -> Term | None:
    """The term in a part of its value: parts of the view and of the activation.

    None where an axis that is cut has a window already, or a kind that has no parts.
    """
    for axis, (size, window) in enumerate(zip(shape, windows, strict=True)):
        if window == Window(0, size):
            continue
        if term.kind is not None or term.windows[axis] is not None:
            return None
        term = _narrow_axis(term, term.value[axis], window)
    return term


def _narrow_axis(term: Term, label: str, window: Window) -> Term:
    if label in term.weight:
        at = term.weight.index(label)
        starts, sizes = [0] * len(term.weight), list(term.view.shape)
        steps = [1] * len(term.weight)
        starts[at], sizes[at], steps[at] = window.start, window.size, window.step
        term = replace(term, view=term.view.slice(starts, sizes, steps))
    if label in term.activation_labels:
        cut = (slice(None),) * term.activation_labels.index(label) + (window.slice,)
        term = term.with_activation(lambda a: a[cut], term.activation_labels)
    return term

"""A use inside a loop, seen from outside: the loop's index becomes an axis of its operands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp

from jacgram.core.uses import Conv, Gather
from jacgram.core.views import View
from jacgram.frontends.jax.linear.tape import Node
from jacgram.frontends.jax.linear.terms import Deferred, Term, fresh

Outside = Callable[[Node], tuple[Node, bool]]
"""From a known value of the body to where it is found outside, and whether it is stacked along the loop there."""


def lift(term: Term, stride: int | None, length: int, outside: Outside) -> Term | None:
    """The term outside of a loop, whose cotangents are stacked along a first axis; None where no kind says it.

    Args:
        term: the term in the body.
        stride: for a leaf that is scanned over, how far apart its parts are; None for a shared one.
        length: the loop's length.
        outside: see `Outside`.
    """
    (label,) = fresh(1)
    lifted = replace(term, value=(label, *term.value), windows=(None, *term.windows))
    match term.kind:
        case None:
            return _lift_einsum(lifted, label, stride, length, outside)
        case Gather():
            return _lift_gather(lifted, label, stride, length, outside)
        case Conv():
            return _lift_conv(lifted, label, length, outside) if stride is None else None


def stack(deferred: Deferred, length: int, outside: Outside) -> tuple[Deferred, bool]:
    """The array of every turn along a first axis, and true; or the one array of all turns, and false."""
    found = [outside(node) for node in deferred.nodes]
    nodes, stacked = tuple(node for node, _ in found), [int(each) for _, each in found]
    if not any(stacked):
        return Deferred(nodes, deferred.compute), False
    axes = tuple(0 if each else None for each in stacked)
    return Deferred(nodes, jax.vmap(deferred.compute, in_axes=axes, axis_size=length)), True


def _always(deferred: Deferred, length: int, outside: Outside) -> Deferred:
    array, stacked = stack(deferred, length, outside)
    return array if stacked else array.map(lambda a: jnp.broadcast_to(a, (length, *jnp.shape(a))))


def _lift_einsum(term: Term, label: str, stride: int | None, length: int, outside: Outside) -> Term:
    if stride is not None:
        term = replace(term, view=_with_axis(term.view, length, stride), weight=(label, *term.weight))
    if term.activation is None:
        return term
    array, stacked = stack(term.activation, length, outside)
    labels = (label, *term.activation_labels) if stacked else term.activation_labels
    return replace(term, activation=array, activation_labels=labels)


def _lift_gather(term: Term, label: str, stride: int | None, length: int, outside: Outside) -> Term | None:
    assert term.activation is not None and isinstance(term.kind, Gather)
    rows, indices = term.view.shape[0], _always(term.activation, length, outside)
    view: View | None = term.view
    if stride is not None:
        stacked = _with_axis(term.view, length, stride)
        view = stacked.reshape((length * rows, *stacked.shape[2:]))
        indices = indices.map(
            lambda a: a + (rows * jnp.arange(length, dtype=a.dtype)).reshape((-1, *(1,) * (a.ndim - 1)))
        )
    if view is None:
        return None
    mask = None if term.mask is None else _always(term.mask, length, outside)
    kind, canonical = Gather(term.kind.positions + 1), (label, *term.canonical)
    return replace(term, view=view, activation=indices, mask=mask, kind=kind, canonical=canonical)


def _lift_conv(term: Term, label: str, length: int, outside: Outside) -> Term:
    """The loop's index as one more spatial axis, along which the kernel has size one."""
    assert term.activation is not None and isinstance(term.kind, Conv)
    kind = term.kind
    return replace(
        term,
        view=term.view.expand(0),
        activation=_always(term.activation, length, outside),
        canonical=(label, *term.canonical),
        kind=Conv(
            window=(1, *kind.window),
            strides=(1, *kind.strides),
            padding=((0, 0), *kind.padding),
            input_dilation=(1, *kind.input_dilation),
            dilation=(1, *kind.dilation),
            groups=kind.groups,
        ),
    )


def _with_axis(view: View, size: int, stride: int) -> View:
    return View(view.offset, (size, *view.shape), (stride, *view.strides))

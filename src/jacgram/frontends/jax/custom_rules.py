"""Rules of custom derivatives as programs, so that functions which have some can be told apart, or known to be equal.

A jaxpr holds such a rule as a function that is made anew at each trace, and has no equality. But the pushforward of
``custom_jvp``, which `jax.nn.relu` and `jax.nn.softmax` are made with, can be traced by itself, and is all that a first
derivative takes of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.sharding import Mesh

from jacgram.frontends.jax.compat import bind, closed
from jacgram.frontends.jax.fingerprint import CUSTOM_RULES, fingerprint, sub_jaxprs


def rules_key(jaxpr: Jaxpr) -> Hashable | None:
    """A key equal for jaxprs with equal fingerprints only where their rules are equal programs.

    None where some rule cannot be told by its program: that of a ``custom_vjp``, which not every release of JAX runs
    again from a jaxpr; one that asks which tangents are zero, closes over an array, calls functions that JAX traces
    later, or does not trace by itself.
    """
    found: list[Hashable] = []
    for equation in _with_rules(jaxpr):
        if equation.primitive.name != "custom_jvp_call" or equation.params["symbolic_zeros"]:
            return None
        try:
            rule = _pushforward(equation)
        except Exception:  # where f is differentiated it is raised again
            return None
        if rule is not None and not _is_told(rule):
            return None
        found.append(None if rule is None else fingerprint(rule.jaxpr))
    return tuple(found)


def _is_told(program: ClosedJaxpr) -> bool:
    """Whether a program is all in its equations: an array that it holds may be written to, a function rebound."""
    if program.consts:
        return False
    for equation in program.jaxpr.eqns:
        skipped = CUSTOM_RULES.get(equation.primitive.name, frozenset())
        if not all(_is_plain(value) for name, value in equation.params.items() if name not in skipped):
            return False
    return True


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    if isinstance(value, Jaxpr | ClosedJaxpr):
        return _is_told(closed(value))
    return isinstance(value, type | Mesh) or not callable(value)  # meshes can be called, as decorators


def _with_rules(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Equations with a rule of their own, however deep; what such a one calls is not differentiated."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in CUSTOM_RULES:
            yield equation
        else:
            for inner in sub_jaxprs(list(equation.params.values())):
                yield from _with_rules(inner)


def _pushforward(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The rule of an equation at its inputs; None where it has no input to differentiate."""
    specs = [_spec_of(variable.aval) for variable in equation.invars]
    moved = [at for at, spec in enumerate(specs) if jnp.issubdtype(spec.dtype, jnp.inexact)]
    if not moved:
        return None

    def call(point: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        every = list(point)
        for at, value in zip(moved, values, strict=True):
            every[at] = value
        return bind(equation, every)

    def pushed(point: list[Any], tangents: list[Any]) -> Any:
        return jax.jvp(lambda *values: call(point, values), [point[at] for at in moved], tangents)

    return jax.make_jaxpr(pushed)(specs, [specs[at] for at in moved])


def _spec_of(aval: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)

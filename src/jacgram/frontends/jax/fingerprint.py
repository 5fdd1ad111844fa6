"""A structural key of a jaxpr: equal keys mean the same computation, whatever objects it was traced from.

Executables are cached by what they compute. The identity of f would not do: a closure may be rebound between calls.
Whatever has no structural equality is compared by identity, and kept alive by the key so that its id stays its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jacgram.frontends.jax.compat import closed

CUSTOM_RULES = {
    "custom_jvp_call": frozenset({"jvp_jaxpr_fun", "jvp_jaxpr_thunk", "jvp", "symbolic_zeros"}),
    "custom_vjp_call": frozenset({"fwd_jaxpr_thunk", "bwd", "out_trees", "symbolic_zeros"}),
    "custom_vjp_call_jaxpr": frozenset({"fwd_jaxpr_thunk", "bwd", "out_trees", "symbolic_zeros"}),
}
"""Parameters that only matter to differentiation, which an executable is past: functions made anew at each trace."""


@dataclass(frozen=True, slots=True, eq=False)
class Same:
    """Equal only for one and the same object, which it keeps alive."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(jaxpr: Jaxpr) -> Hashable:
    """The key of a jaxpr: its equations, recursively, with variables numbered in order of appearance."""
    return _of_jaxpr(jaxpr)


def sub_jaxprs(value: Any) -> Iterator[Jaxpr]:
    """Every jaxpr directly inside an equation's parameter."""
    if isinstance(value, Jaxpr | ClosedJaxpr):
        yield closed(value).jaxpr
    elif isinstance(value, tuple | list):
        for item in value:
            yield from sub_jaxprs(item)


def _of_jaxpr(jaxpr: Jaxpr) -> Hashable:
    numbers: dict[Any, int] = {}

    def atom(value: Any) -> Hashable:
        if isinstance(value, Literal):
            return ("literal", _of_value(value.val), _of_aval(value.aval))
        return numbers.setdefault(value, len(numbers))

    def binder(value: Any) -> Hashable:
        return (atom(value), _of_aval(value.aval))

    head = tuple(binder(v) for v in (*jaxpr.constvars, *jaxpr.invars))
    body = tuple(
        (
            eqn.primitive.name,
            tuple(atom(v) for v in eqn.invars),
            tuple(binder(v) for v in eqn.outvars),
            _of_params(eqn.primitive.name, eqn.params),
        )
        for eqn in jaxpr.eqns
    )
    return (len(jaxpr.constvars), head, body, tuple(atom(v) for v in jaxpr.outvars))


def _of_aval(aval: Any) -> Hashable:
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if dtype is None:
        return _of_value(aval)
    sharding = getattr(aval, "sharding", None)
    return (type(aval), shape, dtype, getattr(aval, "weak_type", False), _of_value(sharding))


def _of_params(primitive: str, params: dict[str, Any]) -> Hashable:
    skipped = CUSTOM_RULES.get(primitive, frozenset())
    return tuple((name, _of_value(value)) for name, value in sorted(params.items()) if name not in skipped)


def _of_value(value: Any) -> Hashable:
    match value:
        case None | bool() | int() | str() | bytes():
            return (type(value), value)
        case float() | complex():
            return (type(value), np.asarray(value).tobytes())
        case tuple() | list():
            return (type(value), *(_of_value(item) for item in value))
        case dict():
            return (dict, *((_of_value(k), _of_value(v)) for k, v in value.items()))
        case ClosedJaxpr():  # first: in some releases every jaxpr is one
            return (_of_jaxpr(value.jaxpr), tuple(_of_value(const) for const in value.consts))
        case Jaxpr():
            return _of_jaxpr(value)
        case np.ndarray() | np.generic():
            array = np.asarray(value)
            return (type(value), array.shape, array.dtype, array.tobytes())
        case jax.Array():
            return Same(value)
        case _:
            return _of_hashable(value)


def _of_hashable(value: Any) -> Hashable:
    try:
        hash(value)
    except TypeError:
        return Same(value)
    return (type(value), value)

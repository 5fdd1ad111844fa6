"""Primitives past which a cotangent stays a small core times a scale.

Broadcasts leave the core as it is, products with residuals go to the scale, products with matrices to the core alone.
Each rule gives None where it does not hold; the primitive then takes the whole array.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal

from jacgram.arrays.regrouping import regrouped
from jacgram.frontends.jax.compat import bind
from jacgram.frontends.jax.linear.factored import Factored


@dataclass(frozen=True, slots=True)
class Operation:
    """An equation at values.

    Attributes:
        equation: the equation.
        values: its inputs: `Factored`, or arrays that no seed has a part in.
        zeros: which of these are known to be zero.
    """

    equation: JaxprEqn
    values: Sequence[Any]
    zeros: Sequence[bool]

    @property
    def value(self) -> Any:
        """The first input."""
        return self.values[0]

    @property
    def params(self) -> dict[str, Any]:
        """The equation's parameters."""
        return self.equation.params

    @property
    def shape(self) -> tuple[int, ...]:
        """The output's."""
        aval: Any = self.equation.outvars[0].aval
        return tuple(aval.shape)


def _broadcast(operation: Operation) -> Factored | None:
    """Axes that are new or longer are of size one in core and scale."""
    shape, places = operation.shape, tuple(operation.params["broadcast_dimensions"])

    def placed(array: Any) -> Any:
        sizes = dict(zip(places, array.shape, strict=True))
        return jax.lax.broadcast_in_dim(array, [sizes.get(axis, 1) for axis in range(len(shape))], places)

    return operation.value.both(shape, placed)


def _pad(operation: Operation) -> Factored | None:
    """One position put among zeros is every position, times one there and zero elsewhere."""
    value, shape = operation.value, operation.shape
    if not value.is_plain:
        return None
    for axis, (low, high, inner) in enumerate(operation.params["padding_config"]):
        if (low, high, inner) == (0, 0, 0):
            continue
        if value.shape[axis] != 1 or min(low, high) < 0 or not operation.zeros[1]:
            return None
        at = (jnp.arange(shape[axis]) == low).astype(value.core.dtype)
        value = value.times(at.reshape([-1 if a == axis else 1 for a in range(len(shape))]))
    return replace(value, shape=shape)


def _cast(operation: Operation) -> Factored | None:
    """To a wider dtype of the same kind: others round, overflow or drop imaginary parts of the product alone."""
    value = operation.value
    core = bind(operation.equation, [value.core])[0]
    if not jnp.can_cast(value.core.dtype, core.dtype) or jnp.iscomplexobj(core) != jnp.iscomplexobj(value.core):
        return None
    return replace(value, core=core, scale=None if value.scale is None else value.scale.astype(core.dtype))


def _negation(operation: Operation) -> Factored | None:
    return operation.value.times(jnp.asarray(-1, operation.value.core.dtype))


def _transpose(operation: Operation) -> Factored | None:
    order = operation.params["permutation"]
    return operation.value.both(operation.shape, lambda array: jnp.transpose(array, order))


def _reshape(operation: Operation) -> Factored | None:
    value, shape = operation.value, operation.shape
    if operation.params["dimensions"] is not None or 0 in shape:
        return None

    def reshaped(array: Any) -> Any:
        sizes = regrouped(array.shape, value.shape, shape)
        assert sizes is not None, "no axis is empty"
        return jnp.broadcast_to(array, sizes[0]).reshape(sizes[1])

    return value.both(shape, reshaped)


def _squeeze(operation: Operation) -> Factored | None:
    axes = tuple(operation.params["dimensions"])
    return operation.value.both(operation.shape, lambda array: jnp.squeeze(array, axes))


def _sum(operation: Operation) -> Factored | None:
    """Over axes along which core or scale is repeated, the sum of the other."""
    value, axes = operation.value, tuple(operation.params["axes"])
    core, scale = value.core, value.one
    if any(core.shape[axis] != 1 and scale.shape[axis] != 1 for axis in axes):
        return None
    count = math.prod(value.shape[axis] for axis in axes if core.shape[axis] == scale.shape[axis] == 1)
    return Factored(operation.shape, core.sum(axes), scale.sum(axes) * count, value.is_plain)


def _product(operation: Operation) -> Factored | None:
    """With a known array of the same axes."""
    first, second = operation.values
    value, known = (first, second) if isinstance(first, Factored) else (second, first)
    return None if isinstance(known, Factored) else value.times(known)


def _quotient(operation: Operation) -> Factored | None:
    value, known = operation.values
    return value.times(1 / known) if isinstance(value, Factored) and not isinstance(known, Factored) else None


def _select(operation: Operation) -> Factored | None:
    """A value or zero, as a known array says: zero too where the scale is infinite, and of cores that are not."""
    which, *cases = operation.values
    if len(cases) != 2 or which.dtype != bool:
        return None
    for place, value in enumerate(cases):
        if isinstance(value, Factored) and value.is_plain and operation.zeros[2 - place]:
            which = which.reshape((1,) * len(value.shape)) if which.ndim == 0 else which
            scale = jnp.where(which if place else ~which, value.one, jnp.zeros((), value.core.dtype))
            return replace(value, scale=scale)
    return None


def _add(operation: Operation) -> Factored | None:
    left, right = operation.values
    return left.plus(right) if isinstance(left, Factored) and isinstance(right, Factored) else None


def _matrix_product(operation: Operation) -> Factored | None:
    """With a known array, over axes that the core alone has."""
    place = 0 if isinstance(operation.value, Factored) else 1
    value, known = operation.values[place], operation.values[1 - place]
    contracted, batches = operation.params["dimension_numbers"]
    axes = tuple(contracted[place])
    if isinstance(known, Factored) or any(batches):
        return None
    if any(value.core.shape[axis] != value.shape[axis] or value.one.shape[axis] != 1 for axis in axes):
        return None
    core = bind(operation.equation, [value.core, known] if place == 0 else [known, value.core])[0]
    if value.scale is None:
        return Factored(operation.shape, core, None, value.is_plain)
    ones = (1,) * (known.ndim - len(axes))
    left = tuple(size for axis, size in enumerate(value.scale.shape) if axis not in axes)
    scale = value.scale.reshape((*left, *ones) if place == 0 else (*ones, *left))
    return Factored(operation.shape, core, scale.astype(core.dtype), value.is_plain)


def stays_plain(operation: Operation) -> bool:
    """Whether outputs of whole inputs are finite where weights are."""
    if not all(value.is_plain for value in operation.values if isinstance(value, Factored)):
        return False
    literals = (isinstance(v, Literal) for v in operation.equation.invars)
    known = [
        x for x, literal in zip(operation.values, literals, strict=True) if not (literal or isinstance(x, Factored))
    ]
    return not known or operation.equation.primitive.name in ("dot_general", "select_n", "conv_general_dilated")


Rule = Callable[[Operation], Factored | None]

SPREADING: dict[str, Rule] = {"broadcast_in_dim": _broadcast, "pad": _pad}
"""Primitives that make small cores of any."""

RULES: dict[str, Rule] = {
    **SPREADING,
    "add": _add,
    "add_any": _add,
    "convert_element_type": _cast,
    "copy": _cast,
    "div": _quotient,
    "dot_general": _matrix_product,
    "mul": _product,
    "neg": _negation,
    "reduce_sum": _sum,
    "reshape": _reshape,
    "select_n": _select,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
"""Primitives that keep them small."""

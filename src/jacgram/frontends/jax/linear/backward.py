"""The live pass transposed, with cotangents `Factored` for as long as that is smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jacgram.frontends.jax.compat import bind
from jacgram.frontends.jax.linear.backward_rules import RULES, SPREADING, Operation, stays_plain
from jacgram.frontends.jax.linear.dependence import called_jaxpr
from jacgram.frontends.jax.linear.factored import Factored


def pulled_back(live: Callable[[list[Any]], list[Any]], taps: Sequence[Any], seeds: Sequence[Any]) -> list[Factored]:
    """Per tap its cotangent ``(s, *tap)`` for every seed; scales have one entry along ``s``.

    Args:
        live: from taps to outputs, linear.
        taps: their shapes and dtypes.
        seeds: per output ``(s, *output)``.
    """
    back = jax.linear_transpose(live, taps)
    single = [jax.ShapeDtypeStruct(seed.shape[1:], seed.dtype) for seed in seeds]
    program = jax.make_jaxpr(lambda given: back(given)[0])(single)

    def one(seed: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        found = _run(program.jaxpr, program.consts, [Factored(x.shape, x) for x in seed])
        values = [x if isinstance(x, Factored) else Factored(tap.shape, x) for x, tap in zip(found, taps, strict=True)]
        return [value.core for value in values], [value.scale for value in values]

    cores, scales = jax.vmap(one, out_axes=(0, None))([jnp.asarray(seed) for seed in seeds])
    return [
        Factored((len(core), *tap.shape), core, None if scale is None else scale[None])
        for tap, core, scale in zip(taps, cores, scales, strict=True)
    ]


def _run(jaxpr: Jaxpr, consts: Sequence[Any], inputs: Sequence[Any]) -> list[Any]:
    """A linear jaxpr at values that are `Factored`, or, where no seed has a part in them, arrays."""
    env: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True))
    zeros: set[Any] = set()

    def read(variable: Any) -> Any:
        if not isinstance(variable, Literal):
            return env[variable]
        aval: Any = variable.aval
        return jnp.asarray(variable.val, aval.dtype)

    def is_zero(variable: Any) -> bool:
        return not variable.val if isinstance(variable, Literal) else variable in zeros

    for equation in jaxpr.eqns:
        values = [read(v) for v in equation.invars]
        if any(isinstance(value, Factored) for value in values):
            found = _linear(Operation(equation, values, [is_zero(v) for v in equation.invars]))
        else:
            found = bind(equation, values)
            zeros.update(equation.outvars if _spreads_zero(equation) else ())
        env.update(zip(equation.outvars, found, strict=True))
    return [read(v) for v in jaxpr.outvars]


def _spreads_zero(equation: JaxprEqn) -> bool:
    source = equation.invars[0] if equation.primitive.name == "broadcast_in_dim" else None
    return isinstance(source, Literal) and not source.val


_INLINED = ("jit", "pjit")  # but not what is to be computed anew, or in one piece


def _linear(operation: Operation) -> list[Any]:
    """The outputs of an equation that seeds have a part in."""
    equation, values = operation.equation, operation.values
    called = called_jaxpr(equation) if equation.primitive.name in _INLINED else None
    if called is not None:
        return _run(called.jaxpr, called.consts, values)
    is_small = any(isinstance(value, Factored) and value.is_small for value in values)
    rule = (RULES if is_small else SPREADING).get(equation.primitive.name)
    found = None if rule is None else rule(operation)
    if found is not None:
        return [
            found
            if found.is_small
            else Factored(found.shape, found.whole, None, found.scale is None and found.is_plain)
        ]
    whole = [value.whole if isinstance(value, Factored) else value for value in values]
    is_plain = stays_plain(operation) and all(x.scale is None for x in values if isinstance(x, Factored))
    return [Factored(out.shape, out, None, is_plain) for out in bind(equation, whole)]

"""The only place that touches what JAX does not promise to keep, each with a test that fails by name when it moves.

`bind` uses ``Primitive.get_bind_params``, which says how an equation that calls functions (custom derivatives) is bound
again: the official guide to jaxpr interpreters shows it, but it changed its result between releases.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import JaxprEqn


def bind(equation: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The outputs of one equation at other inputs, whatever is tracing."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = equation.primitive.bind(*functions, *values, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]

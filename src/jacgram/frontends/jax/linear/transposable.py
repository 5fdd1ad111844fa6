"""Equations of the live pass as they are best transposed, for the live pass is never run forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn


def live_outputs(equation: JaxprEqn, known: Sequence[bool], values: Sequence[Any], bind: Callable[..., Any]) -> Any:
    """The outputs of an equation, some of whose inputs are known and held fixed when it is transposed."""
    if equation.primitive.name == "conv_general_dilated" and list(known) == [False, True]:
        x, kernel = values
        return [_convolution(x, kernel, equation.params)]
    return bind(equation, values)


def _convolution(x: Any, kernel: Any, params: dict[str, Any]) -> Any:
    """A convolution whose transpose reads its kernel with input channels ahead of output channels, as this one does.

    JAX transposes it by exchanging the names of the two axes. XLA on CPUs has no fast convolution for that order within
    a loop (measured: 1090 ms in place of 41 ms), so the axes themselves are exchanged here.
    """
    numbers = params["dimension_numbers"]
    if params["feature_group_count"] == params["batch_group_count"] == 1:
        out, into, *space = numbers.rhs_spec
        kernel = jnp.swapaxes(kernel, out, into)
        numbers = jax.lax.ConvDimensionNumbers(numbers.lhs_spec, (into, out, *space), numbers.out_spec)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        numbers,
        params["feature_group_count"],
        params["batch_group_count"],
        params["precision"],
        params["preferred_element_type"],
    )

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
        made = _product if _is_product(kernel, equation.params) else _convolution
        return [made(x, kernel, equation.params)]
    return bind(equation, values)


def _is_product(kernel: Any, params: dict[str, Any]) -> bool:
    """Whether windows have one entry, in one group, and nothing is put around or between what they read."""
    window = [kernel.shape[axis] for axis in params["dimension_numbers"].rhs_spec[2:]]
    is_whole = params["feature_group_count"] == params["batch_group_count"] == 1
    return is_whole and {*window, *params["lhs_dilation"]} <= {1} and not any(map(any, params["padding"]))


def _product(x: Any, kernel: Any, params: dict[str, Any]) -> Any:
    """Such a convolution as a product over channels, at the positions that are read.

    XLA on CPUs transposes that up to five times as fast (JAX 0.10.2, two cores), most where positions are skipped.
    """
    numbers = params["dimension_numbers"]
    batch, channels, *space = numbers.lhs_spec
    out, into, *window = numbers.rhs_spec
    steps = dict(zip(space, params["window_strides"], strict=True))
    read = x[tuple(slice(None, None, steps.get(axis)) for axis in range(x.ndim))]
    product = jax.lax.dot_general(
        read,
        jax.lax.squeeze(kernel, window),
        (((channels,), (int(into > out),)), ((), ())),
        precision=params["precision"],
        preferred_element_type=params["preferred_element_type"],
    )
    kept = [axis for axis in range(x.ndim) if axis != channels]  # in the product's order, ahead of its new channels
    lies = [kept.index(batch), x.ndim - 1, *map(kept.index, space)]
    return product.transpose([lies[numbers.out_spec.index(axis)] for axis in range(x.ndim)])


def _convolution(x: Any, kernel: Any, params: dict[str, Any]) -> Any:
    """A convolution whose transpose reads its kernel with input channels ahead of output channels, as this one does.

    JAX transposes it by exchanging the names of the two axes. XLA on CPUs has no fast convolution for that order within
    a loop (measured: 1090 ms in place of 41 ms), so the axes themselves are exchanged here.
    """
    numbers, padding = params["dimension_numbers"], params["padding"]
    if params["feature_group_count"] == params["batch_group_count"] == 1:
        out, into, *space = numbers.rhs_spec
        if _gains_by_a_column(x, kernel, params):
            column = numbers.lhs_spec[-1]
            x = jnp.pad(x, [(0, int(axis == column)) for axis in range(x.ndim)])
            padding = (*padding[:-1], (padding[-1][0], padding[-1][1] - 1))
        kernel = jnp.swapaxes(kernel, out, into)
        numbers = jax.lax.ConvDimensionNumbers(numbers.lhs_spec, (into, out, *space), numbers.out_spec)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        params["window_strides"],
        padding,
        params["lhs_dilation"],
        params["rhs_dilation"],
        numbers,
        params["feature_group_count"],
        params["batch_group_count"],
        params["precision"],
        params["preferred_element_type"],
    )


_SHORTEST, _WIDEST = 8, 128  # columns that make one more a small share; channels from which XLA is fast either way


def _gains_by_a_column(x: Any, kernel: Any, params: dict[str, Any]) -> bool:
    """Whether the transpose is faster with one more column of results, which is then dropped.

    XLA on CPUs has two convolutions. The one it takes where results are no larger than what is read, as those of most
    networks are, is the slower one at fewer than 128 channels (JAX 0.10.2, two cores, 32 to 64 channels: 67 to 98
    GFLOP/s in place of 103 to 154). The other has no vectors in double precision.
    """
    numbers = params["dimension_numbers"]
    if jax.default_backend() != "cpu" or x.dtype != jnp.float32 or len(params["padding"]) != 2:
        return False
    if any(step != 1 for name in ("window_strides", "lhs_dilation") for step in params[name]):
        return False
    spans = [
        1 + (kernel.shape[axis] - 1) * step
        for axis, step in zip(numbers.rhs_spec[2:], params["rhs_dilation"], strict=True)
    ]
    grows = [low + high - span + 1 for (low, high), span in zip(params["padding"], spans, strict=True)]
    channels = [kernel.shape[axis] for axis in numbers.rhs_spec[:2]]
    columns = x.shape[numbers.lhs_spec[-1]]
    return min(grows) >= 0 and params["padding"][-1][1] > 0 and columns >= _SHORTEST and min(channels) < _WIDEST

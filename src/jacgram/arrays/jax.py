"""Array primitives in JAX. Loops are ``lax.scan``: small programs, and memory that is reused from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jacgram.arrays.base import Arrays, Buffer, Windows
from jacgram.arrays.host import host_free_bytes, host_name, least_seconds, usable_cores
from jacgram.arrays.jax_products import contract


class JaxArrays(Arrays):
    """JAX arrays and tracers."""

    name = "jax"

    @property
    def views(self) -> bool:
        return False

    @property
    def abreast(self) -> int:
        return 4 if jax.default_backend() == "cpu" and usable_cores() > 1 else 1

    def einsum(self, spec: str, *operands: Any, buffer: Buffer | None = None) -> Any:
        del buffer
        if len(operands) == 2:
            return contract(spec, *operands)
        return jnp.einsum(spec, *operands, precision=jax.lax.Precision.HIGHEST)

    def asarray(self, value: Any, like: Any) -> Any:
        return jnp.asarray(value)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def astype(self, array: Any, dtype: str) -> Any:
        return array.astype(dtype)

    def zeros(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        return jnp.zeros(tuple(shape), dtype)

    def reshape(self, array: Any, shape: Sequence[int]) -> Any:
        return jnp.reshape(array, tuple(shape))

    def transpose(self, array: Any, order: Sequence[int]) -> Any:
        return jnp.transpose(array, tuple(order))

    def concatenate(self, arrays: Sequence[Any], axis: int) -> Any:
        return arrays[0] if len(arrays) == 1 else jnp.concatenate(list(arrays), axis)

    def sum(self, array: Any, axes: Sequence[int]) -> Any:
        return jnp.sum(array, tuple(axes)) if axes else array

    def conj(self, array: Any) -> Any:
        return jnp.conj(array) if jnp.iscomplexobj(array) else array

    def real(self, array: Any) -> Any:
        return jnp.real(array)

    def flip(self, array: Any, axes: Sequence[int]) -> Any:
        return jnp.flip(array, tuple(axes)) if axes else array

    def slice(self, array: Any, axis: int, start: Any, size: int) -> Any:
        return jax.lax.dynamic_slice_in_dim(array, start, size, axis)

    def window(self, array: Any, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Any:
        pads: list[tuple[int, int, int]] = []
        first: list[int] = []
        limits: list[int] = []
        for length, start, size, step in zip(array.shape, starts, sizes, steps, strict=True):
            stop = start + (size - 1) * step + 1 if size else start
            low, high = max(-start, 0), max(stop - length, 0)
            pads.append((low, high, 0))
            first.append(start + low)
            limits.append(stop + low)
        padded = jax.lax.pad(array, jnp.zeros((), array.dtype), pads)
        return jax.lax.slice(padded, first, limits, steps)

    def patches(self, array: Any, axes: Sequence[Windows]) -> Any:
        # One gather compiles in half the time of pieces side by side, and runs slower in its loop.
        for at, axis in reversed(list(enumerate(axes, 1))):
            sizes = [axis.count if d == at else n for d, n in enumerate(array.shape)]
            steps = [axis.stride if d == at else 1 for d in range(array.ndim)]
            first = (axis.start + w * axis.dilation for w in range(axis.size))
            starts = ([start if d == at else 0 for d in range(array.ndim)] for start in first)
            array = jnp.stack([self.window(array, each, sizes, steps) for each in starts], 1 + len(axes))
        return array

    def spread(self, array: Any, axis: int, spacing: int) -> Any:
        config = [(0, 0, spacing - 1 if a == axis else 0) for a in range(array.ndim)]
        return jax.lax.pad(array, jnp.zeros((), array.dtype), config)

    def place(self, rows: Any, index: Any, size: int) -> Any:
        return jnp.zeros((*rows.shape[:-1], size), rows.dtype).at[..., index].set(rows, unique_indices=True)

    def scatter_rows(self, index: Any, values: Any, size: int) -> Any:
        index = jnp.where((index >= 0) & (index < size), index, size)

        def one(i: Any, v: Any) -> Any:
            return jnp.zeros((v.shape[0], size, v.shape[2]), v.dtype).at[:, i].add(v, mode="drop")

        return jax.vmap(one)(index, values)

    def equal(self, left: Any, right: Any, dtype: str) -> Any:
        return (left == right).astype(dtype)

    def fold(self, body: Callable[[Any, Any], Any], initial: Any, starts: Sequence[int]) -> Any:
        if len(starts) == 1:
            return body(starts[0], initial)

        def step(carry: Any, start: Any) -> tuple[Any, None]:
            return body(start, carry), None

        return jax.lax.scan(step, initial, np.asarray(starts))[0]

    def collect(self, body: Callable[[Any], list[Any]], starts: Sequence[int]) -> list[Any]:
        if len(starts) == 1:
            return body(starts[0])
        found = jax.lax.map(body, np.asarray(starts))
        return [jnp.reshape(array, (array.shape[0] * array.shape[1], *array.shape[2:])) for array in found]

    def vmap(self, function: Callable[[list[Any]], list[Any]], arguments: list[Any]) -> list[Any]:
        return jax.vmap(function)(arguments)

    def when(self, condition: Any, body: Callable[[Any], Any], carry: Any) -> Any:
        if isinstance(condition, bool):
            return body(carry) if condition else carry
        return jax.lax.cond(condition, body, lambda unchanged: unchanged, carry)

    def add_block(self, buffer: Any, block: Any, starts: Sequence[Any]) -> Any:
        if buffer.shape == block.shape:
            return buffer + block
        old = jax.lax.dynamic_slice(buffer, starts, block.shape)
        return jax.lax.dynamic_update_slice(buffer, old + block, starts)

    def free_bytes(self) -> int:
        stats = jax.local_devices()[0].memory_stats()
        if stats and "bytes_limit" in stats:
            return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        return host_free_bytes()

    def device_name(self) -> str:
        kind = jax.local_devices()[0].device_kind
        return f"{kind} {jax.__version__} {host_name()}"

    def seconds(self, function: Callable[..., Any], *arguments: Any) -> float:
        compiled = jax.jit(function)
        held = [jnp.asarray(argument) for argument in arguments]
        return least_seconds(lambda: jax.block_until_ready(compiled(*held)))

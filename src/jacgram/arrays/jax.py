"""Array primitives in JAX. Loops are ``lax.scan``: small programs, and memory that is reused from step to step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jacgram.arrays.base import ON_GPU, Arrays, Buffer, Traits, Windows
from jacgram.arrays.host import host_free_bytes, host_name, least_seconds, usable_cores
from jacgram.arrays.jax_products import contract
from jacgram.arrays.long_sums import in_blocks

_ON_ONE_CORE = Traits(views=False, compiled=True)
_ON_CORES = replace(_ON_ONE_CORE, abreast=4)
_ON_GPU = replace(ON_GPU, views=False, measured_sides=(1, 16, 256), measured_sums=())  # each takes XLA seconds to tune


@dataclass(frozen=True)
class JaxArrays(Arrays):
    """JAX arrays and tracers.

    Attributes:
        device: where they lie, or None for where JAX puts new arrays.
    """

    device: Any = None

    name = "jax"

    def at(self, arrays: Sequence[Any]) -> JaxArrays:
        # What is traced is nowhere yet; of an array in pieces, one device stands for all.
        held = (x for x in arrays if isinstance(x, jax.Array) and not isinstance(x, Tracer))
        devices = (min(x.devices(), key=lambda device: device.id) for x in held)
        return JaxArrays(next(devices, self.device))

    @property
    def _device(self) -> Any:
        chosen = self.device or cast(Any, jax.config).jax_default_device
        return chosen if isinstance(chosen, jax.Device) else jax.local_devices(backend=chosen)[0]

    @property
    def _on_cpu(self) -> bool:
        return self._device.platform == "cpu"

    @property
    def traits(self) -> Traits:
        if not self._on_cpu:
            return _ON_GPU
        return _ON_CORES if usable_cores() > 1 else _ON_ONE_CORE

    def einsum(self, spec: str, *operands: Any, buffer: Buffer | None = None) -> Any:
        del buffer
        if len(operands) == 2:
            left, right = operands
            is_single = left.dtype in (jnp.float32, jnp.complex64) and not self._on_cpu  # there XLA keeps its digits
            blocks = in_blocks(spec, (left.shape, right.shape)) if is_single else None
            if blocks is None:
                return contract(spec, left, right)
            words, (shape1, shape2) = blocks
            return jnp.sum(contract(words, jnp.reshape(left, shape1), jnp.reshape(right, shape2)), 0)
        return jnp.einsum(spec, *operands, precision=jax.lax.Precision.HIGHEST)

    def asarray(self, value: Any, like: Any) -> Any:
        return jnp.asarray(value)

    def to_numpy(self, array: Any) -> Any:
        return np.asarray(array)

    def has(self, dtype: str) -> bool:
        return str(jax.dtypes.canonicalize_dtype(dtype)) == dtype

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

    def add(self, total: Any, part: Any) -> Any:
        return total + part

    def add_block(self, buffer: Any, block: Any, starts: Sequence[Any]) -> Any:
        if buffer.shape == block.shape:
            return buffer + block
        old = jax.lax.dynamic_slice(buffer, starts, block.shape)
        return jax.lax.dynamic_update_slice(buffer, old + block, starts)

    def free_bytes(self) -> int:
        stats = self._device.memory_stats()
        if stats and "bytes_limit" in stats:
            return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        return host_free_bytes()

    def device_name(self) -> str:
        return f"{self._device.device_kind} {jax.__version__} {host_name()}"

    def seconds(self, function: Callable[..., Any], *arguments: Any) -> float:
        compiled = jax.jit(function)
        held = [jax.device_put(argument, self._device) for argument in arguments]
        return least_seconds(lambda: jax.block_until_ready(compiled(*held)))

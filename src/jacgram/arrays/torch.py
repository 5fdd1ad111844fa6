"""Array primitives in PyTorch, eager: loops are Python loops, one step's arrays freed before the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from jacgram.arrays.allocator import LARGEST_PIECE, environment_fixes_thresholds, set_thresholds
from jacgram.arrays.base import ON_GPU, Arrays, Buffer, Traits, Windows
from jacgram.arrays.host import host_free_bytes, host_name, least_seconds
from jacgram.arrays.long_sums import in_blocks
from jacgram.arrays.torch_products import contract, taking

_KEPT_BYTES = 256 << 20


@cache
def reuse_freed_memory() -> None:
    """Has glibc keep up to 256 MiB of what is freed, in pieces of up to 32 MiB; what the environment says comes first.

    Left to itself it returns what lies free behind all that is in use once that is twice the largest piece freed so far
    (mallopt(3), M_TRIM_THRESHOLD). Where arrays of a few megabytes come and go, that is at every call, and the system
    clears each page anew: a convolution of 20 MiB runs at half of its rate.
    """
    if not environment_fixes_thresholds():
        set_thresholds(_KEPT_BYTES, LARGEST_PIECE)


_ON_GPU = replace(ON_GPU, overhead=1.5)  # operands are laid out anew where they do not lie as matrices


@cache
def _on_cpu(threads: int) -> Traits:
    return Traits(
        # Measured with glibc: tensors of a few megabytes come and go, and leave holes that the next ones do not fit.
        overhead=1.6,
        # Every call of a pass is made from Python, so that fewer and larger ones win over what cache would save.
        pass_bytes=2.0**27,
        patch_entries=1 << 21,
        shares=threads,
    )


@dataclass(frozen=True)
class TorchArrays(Arrays):
    """PyTorch tensors.

    Attributes:
        device: where they lie, or None for where PyTorch puts new tensors.
    """

    device: torch.device | None = None

    name = "torch"

    def at(self, arrays: Sequence[Any]) -> TorchArrays:
        places = (array.device for array in arrays if array.device.type != "meta")
        return TorchArrays(next(places, self.device))

    @property
    def _device(self) -> torch.device:
        return self.device or torch.get_default_device()

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    @property
    def traits(self) -> Traits:
        return _ON_GPU if self._on_gpu else _on_cpu(torch.get_num_threads())

    def einsum(self, spec: str, *operands: Any, buffer: Buffer | None = None) -> Any:
        if len(operands) != 2:
            return torch.einsum(spec, *operands)
        take = None if any(map(_is_followed, operands)) else taking(buffer)
        is_single = operands[0].dtype in (torch.float32, torch.complex64)
        left, right = operands
        blocks = in_blocks(spec, (left.shape, right.shape)) if is_single else None
        if blocks is None:
            return contract(spec, left, right, take)
        words, (shape1, shape2) = blocks
        first = left.reshape(shape1)
        second = first if right is left and shape1 == shape2 else right.reshape(shape2)
        return contract(words, first, second, take).sum(0)

    def buffer(self, arrays: Sequence[Any]) -> Buffer | None:
        return None if any(map(_is_followed, arrays)) else Buffer()

    def asarray(self, value: Any, like: Any) -> Any:
        return torch.as_tensor(np.array(value), device=like.device)  # a copy: tensors need writable memory

    def to_numpy(self, array: Any) -> Any:
        return array.detach().cpu().resolve_conj().numpy()

    def has(self, dtype: str) -> bool:
        return hasattr(torch, dtype)

    def astype(self, array: Any, dtype: str) -> Any:
        return array.to(getattr(torch, dtype))

    def zeros(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        return torch.zeros(tuple(shape), dtype=getattr(torch, dtype), device=like.device)

    def reshape(self, array: Any, shape: Sequence[int]) -> Any:
        return array.reshape(tuple(shape))

    def transpose(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(tuple(order))

    def lay_out(self, array: Any, order: Sequence[int]) -> Any:
        return array.permute(tuple(order)).contiguous()

    def concatenate(self, arrays: Sequence[Any], axis: int) -> Any:
        return arrays[0] if len(arrays) == 1 else torch.cat(list(arrays), axis)

    def sum(self, array: Any, axes: Sequence[int]) -> Any:
        return array.sum(dim=tuple(axes)) if axes else array

    def conj(self, array: Any) -> Any:
        return array.conj() if array.is_complex() else array

    def real(self, array: Any) -> Any:
        return torch.real(array) if array.is_complex() else array

    def slice(self, array: Any, axis: int, start: Any, size: int) -> Any:
        return array.narrow(axis, start, size)

    def window(self, array: Any, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Any:
        pads: list[int] = []
        slices: list[slice] = []
        for length, start, size, step in zip(array.shape, starts, sizes, steps, strict=True):
            stop = start + (size - 1) * step + 1 if size else start
            low, high = max(-start, 0), max(stop - length, 0)
            pads = [low, high, *pads]  # functional.pad counts axes from the last
            slices.append(slice(start + low, stop + low, step))
        padded = functional.pad(array, pads) if any(pads) else array
        return padded[tuple(slices)]

    def patches(self, array: Any, axes: Sequence[Windows]) -> Any:
        pads: list[int] = [0, 0]  # functional.pad counts axes from the last
        for length, axis in zip(reversed(array.shape[1:-1]), reversed(axes), strict=True):
            pads += [max(-axis.start, 0), max(axis.start + axis.read - length, 0)]
        seen = functional.pad(array, pads) if any(pads) else array
        for at, axis in reversed(list(enumerate(axes, 1))):
            seen = _windows(seen, at, axis).movedim(-1, 1 + len(axes))
        return seen.contiguous() if math.prod(axis.size for axis in axes) > 1 else seen

    def spread(self, array: Any, axis: int, spacing: int) -> Any:
        shape = list(array.shape)
        shape[axis] = max((shape[axis] - 1) * spacing + 1, 0)
        out = array.new_zeros(shape)
        out[(slice(None),) * axis + (slice(None, None, spacing),)] = array
        return out

    def place(self, rows: Any, index: Any, size: int) -> Any:
        out = rows.new_zeros((*rows.shape[:-1], size))
        return out.index_copy(rows.ndim - 1, self.asarray(index, rows), rows)

    def scatter_rows(self, index: Any, values: Any, size: int) -> Any:
        n, s, _, k = values.shape
        index = torch.where((index >= 0) & (index < size), index, size).to(torch.int64)
        out = values.new_zeros((n, s, size + 1, k))
        where = index[:, None, :, None].expand(values.shape)
        return out.scatter_add(2, where, values)[:, :, :size]

    def equal(self, left: Any, right: Any, dtype: str) -> Any:
        return (left == right).to(getattr(torch, dtype))

    def fold(self, body: Callable[[Any, Any], Any], initial: Any, starts: Sequence[int]) -> Any:
        carry = initial
        for start in starts:
            carry = body(start, carry)
        return carry

    def collect(self, body: Callable[[Any], list[Any]], starts: Sequence[int]) -> list[Any]:
        if len(starts) == 1:
            return body(starts[0])
        return [torch.cat(pieces) for pieces in zip(*map(body, starts), strict=True)]

    def vmap(self, function: Callable[[list[Any]], list[Any]], arguments: list[Any]) -> list[Any]:
        # One at a time: forward mode under vmap lacks batching rules for too many operations.
        results = [function([leaf[i] for leaf in arguments]) for i in range(arguments[0].shape[0])]
        return [torch.stack(leaves) for leaves in zip(*results, strict=True)]

    def when(self, condition: Any, body: Callable[[Any], Any], carry: Any) -> Any:
        return body(carry) if condition else carry

    def add(self, total: Any, part: Any) -> Any:
        return total + part if _is_followed(total) or _is_followed(part) else total.add_(part)

    def add_block(self, buffer: Any, block: Any, starts: Sequence[Any]) -> Any:
        place = buffer
        for axis, (start, size) in enumerate(zip(starts, block.shape, strict=True)):
            place = place.narrow(axis, start, size)
        place.add_(block)
        return buffer

    def free_bytes(self) -> int:
        if self._on_gpu:
            return int(torch.cuda.mem_get_info(self._device)[0])
        return host_free_bytes()

    def device_name(self) -> str:
        if self._on_gpu:
            return f"{torch.cuda.get_device_name(self._device)} {torch.__version__}"
        return f"cpu {torch.__version__} {torch.get_num_threads()} threads {host_name()}"

    def seconds(self, function: Callable[..., Any], *arguments: Any) -> float:
        held = [torch.from_numpy(argument).to(self._device) for argument in arguments]

        def call() -> None:
            function(*held)
            if self._on_gpu:
                torch.cuda.synchronize(self._device)

        with torch.no_grad():
            return least_seconds(call)


def _is_followed(tensor: torch.Tensor) -> bool:
    """Whether something differentiates or maps over what is done to a tensor: it then cannot be written into memory."""
    if tensor.requires_grad or torch.func.debug_unwrap(tensor) is not tensor:
        return True
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


def _windows(padded: Any, at: int, axis: Windows) -> Any:
    """A view of the windows on an axis, their entries along a new last one."""
    if not axis.read:
        shape = list(padded.shape)
        shape[at] = axis.count
        return padded.new_zeros((*shape, axis.size))
    windows = padded.narrow(at, max(axis.start, 0), axis.read).unfold(
        at, (axis.size - 1) * axis.dilation + 1, axis.stride
    )
    return windows[..., :: axis.dilation]

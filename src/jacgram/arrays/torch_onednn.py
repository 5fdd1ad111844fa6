"""Products of float32 matrices by oneDNN, where it is faster than the library that PyTorch has multiply matrices.

PyTorch's convolutions on x86 are oneDNN's, its matrix products MKL's, and on processors of other makers than its own
MKL leaves the widest instructions alone: on AMD's Zen 5 it multiplies at 210 GFLOP/s, oneDNN at 440. Nothing in the
public interface has oneDNN multiply ordinary tensors, but a product is a convolution of size one: rows are the pixels,
the summed axis is their channels. Or, for a batch, columns are the pixels, and each product has a group of channels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch.nn import functional

_LEAST_FLOPS = 1 << 25  # of one product, or of a batch in groups, from which copies and calls are made up for
_LEAST_GROUP_FLOPS = 1 << 22  # of one among a batch
_LEAST_SUMMED, _LEAST_COLUMNS = 64, 32
_LEAST_ROWS = 64, 256  # where the right factor is copied once, as a kernel; where it has to be turned before
_LEAST_PIXELS = 32  # at once
_CHANNELS = 16  # that oneDNN has together: groups of channels are filled up to multiples
_MOST_COPIED = 1 << 22  # entries, by one call
_ADVANTAGE = 1.25  # below which two libraries may be taken for equally fast
_ROUNDS = 5


def multiplied(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> bool:
    """``torch.bmm(x, y, out=out)`` of tensors on a CPU that nothing follows.

    Beside the result it takes up to 16 MiB, for oneDNN lays out a convolution's kernel anew, and in groups all of it.

    Returns:
        False, and nothing is done, where ``torch.bmm`` is likely to be as fast.
    """
    (batch, rows, summed), columns = x.shape, y.shape[2]
    if x.dtype != torch.float32 or x.stride(2) != 1 or summed < _LEAST_SUMMED or columns < _LEAST_COLUMNS:
        return False
    flops = 2 * rows * summed * columns
    groups = _most_groups(x, y) if batch * flops >= _LEAST_FLOPS and flops >= _LEAST_GROUP_FLOPS else 0
    pixels = _most_pixels(x, y) if batch and flops >= _LEAST_FLOPS else 0
    if (groups < 2 and pixels < min(rows, _LEAST_PIXELS)) or not is_faster():
        return False
    if groups > 1:
        _in_groups(x, y, out, groups)
    else:
        _by_pixels(x, y, out, pixels)
    return True


def _most_groups(x: torch.Tensor, y: torch.Tensor) -> int:
    """Products of a batch that one convolution may do; 0 of what is no batch, or is not fit for it."""
    batch, rows, summed = x.shape
    if batch < 2 or y.stride(2) != 1 or rows < _LEAST_ROWS[0] or summed % _CHANNELS:
        return 0
    copied = sum(tensor[0].numel() * (1 if tensor.is_contiguous() else 2) for tensor in (x, y))
    return _MOST_COPIED // (copied + 2 * rows * y.shape[2])


def _most_pixels(x: torch.Tensor, y: torch.Tensor) -> int:
    """Rows of a product that one convolution may do; 0 where these are too few for it."""
    summed, columns = y.shape[1:]
    kernels = 1 if y[0].T.is_contiguous() else 2
    if x.shape[1] < _LEAST_ROWS[kernels - 1]:
        return 0
    copied = columns if x[0].is_contiguous() else columns + summed
    return max(_MOST_COPIED - kernels * summed * columns, 0) // copied


def _in_groups(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor, at_once: int) -> None:
    """So many products of the batch at once."""
    for left, right, result in zip(x.split(at_once), y.split(at_once), out.split(at_once), strict=True):
        groups, rows, summed = left.shape
        pixels, kernel = right.reshape(1, groups * summed, -1), left.reshape(groups * rows, summed, 1)
        result.copy_(functional.conv1d(pixels, kernel, groups=groups).view_as(result))


def _by_pixels(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor, at_once: int) -> None:
    """So many rows at once, as an image one pixel wide whose channels lie together."""
    for left, right, result in zip(x, y, out, strict=True):
        kernel = _image(right.T.contiguous()).permute(2, 1, 0, 3)
        for some, place in zip(left.split(at_once), result.split(at_once), strict=True):
            place.copy_(functional.conv2d(_image(some.contiguous()), kernel)[0, :, :, 0].T)


def _image(rows: torch.Tensor) -> torch.Tensor:
    """Rows of channels as ``(1, channels, rows, 1)``, with the strides by which PyTorch sees that they lie together."""
    count, channels = rows.shape
    return rows.as_strided((1, channels, count, 1), (count * channels, 1, channels, channels))


def is_faster() -> bool:
    """Whether oneDNN is enabled and multiplies matrices faster, by some, with so many threads; measured once."""
    is_there = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled
    return is_there and _is_faster(torch.get_num_threads())


@cache
def _is_faster(_threads: int) -> bool:
    x, y = (torch.ones(1, 256, 2048, dtype=torch.float32, device="cpu") for _ in range(2))
    out = torch.empty(1, 256, 256, dtype=torch.float32, device="cpu")
    theirs: Callable[[], object] = lambda: torch.bmm(x, y.mT, out=out)  # noqa: E731
    ours: Callable[[], object] = lambda: _by_pixels(x, y.mT, out, 256)  # noqa: E731
    timed = [(_seconds(theirs), _seconds(ours)) for _ in range(_ROUNDS)]
    return min(one for one, _ in timed) > _ADVANTAGE * min(other for _, other in timed)


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start

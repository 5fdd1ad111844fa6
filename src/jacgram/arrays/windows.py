"""A convolution's activation as seen through its window: one offset at a time, or all of them as patches.

Offset ``w`` of the window reads the input at ``p·stride + w·dilation - low``: a strided block of the padded input. So
a convolution's rows are one matrix product per offset, and patches are those blocks side by side.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

from jacgram.arrays.base import Arrays, Windows
from jacgram.core.uses import Conv


def spread_input(xp: Arrays, conv: Conv, activation: Any) -> Any:
    """The input with zeros between neighbours, as a transposed convolution reads it."""
    for axis, spacing in enumerate(conv.input_dilation):
        if spacing > 1:
            activation = xp.spread(activation, 1 + axis, spacing)
    return activation


def at_offset(xp: Arrays, conv: Conv, spread: Any, offset: tuple[int, ...], out_space: tuple[int, ...]) -> Any:
    """What one window offset reads for every output position: ``(n, *out_space, c_in)``."""
    starts = [w * d - low for w, d, (low, _) in zip(offset, conv.dilation, conv.padding, strict=True)]
    n, *_, channels = spread.shape
    return xp.window(spread, (0, *starts, 0), (n, *out_space, channels), (1, *conv.strides, 1))


def offsets(conv: Conv) -> list[tuple[int, ...]]:
    """Every offset of the window, the last axis fastest."""
    return list(itertools.product(*(range(size) for size in conv.window)))


def patches(xp: Arrays, conv: Conv, activation: Any, out_space: tuple[int, ...]) -> Any:
    """All offsets side by side: ``(n, *out_space, *window, c_in)``."""
    spread = spread_input(xp, conv, activation)
    if _is_tiling(conv, spread.shape[1:-1], out_space):
        return _tiles(xp, conv, spread, out_space)
    sizes = zip(spread.shape[1:], out_space, conv.window, strict=False)
    if not xp.traits.views and any(s > o * w for s, o, w in sizes):
        # Of what strides leave out, nothing is to be copied.
        n, *_, channels = spread.shape
        blocks = [
            xp.reshape(at_offset(xp, conv, spread, w, out_space), (n, *out_space, 1, channels)) for w in offsets(conv)
        ]
        return xp.reshape(xp.concatenate(blocks, 1 + len(out_space)), (n, *out_space, *conv.window, channels))
    settings = zip(out_space, conv.window, conv.padding, conv.strides, conv.dilation, strict=True)
    return xp.patches(spread, [Windows(count, size, -low, *steps) for count, size, (low, _), *steps in settings])


def _is_tiling(conv: Conv, space: tuple[int, ...], out_space: tuple[int, ...]) -> bool:
    """Whether windows cut the input into pieces, as in 1 × 1 convolutions and patch embeddings: a reshape will do."""
    return (
        conv.strides == conv.window
        and all(low == 0 for low, _ in conv.padding)
        and all(d == 1 or w == 1 for d, w in zip(conv.dilation, conv.window, strict=True))
        and all(o * w == s for o, w, s in zip(out_space, conv.window, space, strict=True))
    )


def _tiles(xp: Arrays, conv: Conv, spread: Any, out_space: tuple[int, ...]) -> Any:
    n, *_, channels = spread.shape
    rank = len(out_space)
    cut = [size for pair in zip(out_space, conv.window, strict=True) for size in pair]
    pieces = xp.reshape(spread, (n, *cut, channels))
    if math.prod(conv.window) == 1:
        return xp.reshape(pieces, (n, *out_space, *conv.window, channels))
    order = (0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)
    return xp.transpose(pieces, order)

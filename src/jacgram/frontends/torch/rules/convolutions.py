"""Rules for convolutions, transposed ones too, of one to three spatial axes.

Records are channels last, so activations and cotangents are permuted views. A batch axis of more than one within an
example (frames of a film, say) becomes a first spatial axis with a window of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from jacgram.core.uses import Conv, Einsum
from jacgram.core.views import View
from jacgram.frontends.torch.rules.call import Call, Rule, Used, axes
from jacgram.frontends.torch.tape import Reading

MAX_GROUPS_TRANSPOSED = 16
"""A transposed convolution in groups is one use per group; above this many its weight is read whole."""

_CONV = (functional.conv1d, functional.conv2d, functional.conv3d)
_TRANSPOSED = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)


def convolution(dims: int) -> Rule:
    """The rule of ``conv{dims}d``.

    Positions that a window of one entry skips are left out first, for back through a convolution with strides PyTorch
    takes twice as long as through both.
    """

    def rule(call: Call) -> Used | None:
        x, weight, bias, stride, padding, dilation, groups = call.bind(
            "input", "weight", bias=None, stride=1, padding=0, dilation=1, groups=1
        )
        if call.is_weight(x):
            return None
        window, strides, spacing = tuple(weight.shape[2:]), _each(stride, dims), _each(dilation, dims)
        pads = _pads(padding, window, spacing)
        if _skips(window, strides, pads) and padding != "same":  # which PyTorch refuses beside strides
            x, strides = x[(..., *(slice(None, None, step) for step in strides))], (1,) * dims
        output = _CONV[dims - 1](x, weight, bias, strides, padding, dilation, groups)
        kind = Conv(window, strides, pads, (1,) * dims, spacing, groups)
        layout = _Layout(x, dims)
        readings: list[Reading] = []
        if call.is_weight(weight):
            order = (*range(2, dims + 2), 1, 0)
            view = layout.view(lambda whole: whole.transpose(order))
            readings.append(Reading(weight, layout.kind(kind), layout.channels_last(x), layout.cotangent, view))
        if call.is_weight(bias):
            readings.append(layout.bias(bias))
        return Used(output, readings)

    return rule


def _skips(window: Sequence[int], strides: Sequence[int], pads: Sequence[tuple[int, int]]) -> bool:
    """Whether there are positions that no window reads, for it has one entry."""
    return math.prod(window) == 1 < math.prod(strides) and len(strides) == len(window) and not any(map(any, pads))


def transposed_convolution(dims: int) -> Rule:
    """The rule of ``conv_transpose{dims}d``: a convolution of the flipped kernel over inputs spaced by the stride."""

    def rule(call: Call) -> Used | None:
        x, weight, bias, stride, padding, extra, groups, dilation = call.bind(
            "input", "weight", bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
        )
        if call.is_weight(x) or groups > MAX_GROUPS_TRANSPOSED:
            return None
        output = _TRANSPOSED[dims - 1](x, weight, bias, stride, padding, extra, groups, dilation)
        window, spacing = tuple(weight.shape[2:]), _each(dilation, dims)
        reach = [d * (w - 1) for d, w in zip(spacing, window, strict=True)]
        low = [r - p for r, p in zip(reach, _each(padding, dims), strict=True)]
        pads = tuple((a, a + e) for a, e in zip(low, _each(extra, dims), strict=True))
        kind = Conv(window, (1,) * dims, pads, _each(stride, dims), spacing, 1)
        layout = _Layout(x, dims)
        readings: list[Reading] = []
        if call.is_weight(weight):
            readings = [_group(layout, kind, weight, x, group, groups) for group in range(groups)]
        if call.is_weight(bias):
            readings.append(layout.bias(bias))
        return Used(output, readings)

    return rule


def _group(layout: _Layout, kind: Conv, weight: torch.Tensor, x: torch.Tensor, group: int, groups: int) -> Reading:
    """One group of a transposed convolution, whose weight is ``(c_in, c_out / groups, *window)``."""
    channel = x.ndim - layout.dims - 1
    c_in, c_out = x.shape[channel] // groups, weight.shape[1]
    activation = layout.channels_last(x).narrow(-1, group * c_in, c_in)
    flipped = tuple(range(2, layout.dims + 2))
    sizes = (c_in, *weight.shape[1:])
    starts = (group * c_in, *(0,) * (weight.ndim - 1))

    def part(whole: View) -> View:
        return whole.slice(starts, sizes).flip(flipped).transpose((*flipped, 0, 1))

    def cotangent(g: torch.Tensor) -> torch.Tensor:
        return layout.cotangent(g).narrow(-1, group * c_out, c_out)

    arranged = layout.cotangent if groups == 1 else cotangent
    return Reading(weight, layout.kind(kind), activation, arranged, layout.view(part))


class _Layout:
    """How the axes of one call become those of a record, which holds no batch axis of its own."""

    def __init__(self, x: torch.Tensor, dims: int) -> None:
        self.dims = dims
        self.batch = x.shape[0] if x.ndim == dims + 2 else None
        self.folded = self.batch is not None and self.batch != 1

    def channels_last(self, x: torch.Tensor) -> torch.Tensor:
        """``(*space, c)``."""
        last = x.movedim(-self.dims - 1, -1)
        return last[0] if self.batch is not None and not self.folded else last

    def cotangent(self, g: torch.Tensor) -> torch.Tensor:
        """``(..., *out_space, c)``."""
        last = g.movedim(-self.dims - 1, -1)
        return last.squeeze(-self.dims - 2) if self.batch is not None and not self.folded else last

    def kind(self, kind: Conv) -> Conv:
        """With the batch as a first spatial axis, where there is one."""
        if not self.folded:
            return kind
        return Conv(
            (1, *kind.window), (1, *kind.strides), ((0, 0), *kind.padding), (1, *kind.input_dilation),
            (1, *kind.dilation), kind.groups,
        )  # fmt: skip

    def view(self, arranged: Callable[[View], View]) -> Callable[[View], View]:
        """The weight's view with that axis."""
        return (lambda whole: arranged(whole).expand(0)) if self.folded else arranged

    def bias(self, bias: torch.Tensor) -> Reading:
        """Added at every position."""
        space = axes("p", self.dims + self.folded)
        return Reading(bias, Einsum(None, (*space, "k"), ("k",)), None, self.cotangent)


def _each(value: Any, dims: int) -> tuple[int, ...]:
    values: Sequence[int] = (value,) if isinstance(value, int) else tuple(value)
    return tuple(values) * dims if len(values) == 1 else tuple(values)


def _pads(padding: Any, window: Sequence[int], dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    if padding == "valid":
        return ((0, 0),) * len(window)
    if padding == "same":
        totals = [d * (w - 1) for d, w in zip(dilation, window, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((pad, pad) for pad in _each(padding, len(window)))

"""Rules for operations entry by entry, with broadcasting: sums, products, quotients, choices, norms' affine part."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from jacgram.core.uses import Einsum
from jacgram.frontends.torch.rules.call import Call, Used, axes
from jacgram.frontends.torch.tape import Reading

Number = float | complex


def entrywise(
    weight: torch.Tensor, output: torch.Tensor, activation: torch.Tensor | None, scale: Number = 1.0
) -> Reading:
    """A use ``u̇ = scale · activation · Ẇ``, all broadcast to the output."""
    d = axes("d", output.ndim)
    labels = None if activation is None else d[output.ndim - activation.ndim :]
    return Reading(weight, Einsum(labels, d, d[output.ndim - weight.ndim :]), activation, scale=scale)


def add(call: Call) -> Used | None:
    """``a + alpha · b``."""
    a, b, alpha = call.bind("input", "other", alpha=1)
    return _sum(call, a, b, 1, alpha, torch.add(a, b, alpha=alpha))


def subtract(call: Call) -> Used | None:
    """``a - alpha · b``."""
    a, b, alpha = call.bind("input", "other", alpha=1)
    return _sum(call, a, b, 1, -alpha, torch.sub(a, b, alpha=alpha))


def reversed_subtract(call: Call) -> Used | None:
    """``b - a``, called on a."""
    a, b = call.bind("input", "other")
    return _sum(call, a, b, -1, 1, b - a)


def _sum(call: Call, a: Any, b: Any, scale_a: Number, scale_b: Number, output: torch.Tensor) -> Used:
    pairs = ((a, scale_a), (b, scale_b))
    return Used(output, [entrywise(part, output, None, scale) for part, scale in pairs if call.is_weight(part)])


def multiply(call: Call) -> Used | None:
    """``a · b`` with one weight."""
    a, b = call.bind("input", "other")
    if call.is_weight(a) and call.is_weight(b):
        return None
    output = torch.mul(a, b)
    weight, other = (a, b) if call.is_weight(a) else (b, a)
    return Used(output, [entrywise(weight, output, other)])


def divide(call: Call) -> Used | None:
    """``a / b``: linear in a; in b the derivative is ``-a / b²``."""
    a, b = call.bind("input", "other")
    if call.is_weight(a) and call.is_weight(b):
        return None
    output = torch.div(a, b)
    if call.is_weight(a):
        return Used(output, [entrywise(a, output, torch.reciprocal(b))])
    return Used(output, [entrywise(b, output, -output / b)])


def where(call: Call) -> Used | None:
    """``a`` where a condition holds, ``b`` elsewhere."""
    condition, a, b = call.bind("condition", "input", "other")
    output = torch.where(condition, a, b)
    readings = [entrywise(a, output, condition.to(output.dtype))] if call.is_weight(a) else []
    if call.is_weight(b):
        readings.append(entrywise(b, output, (~condition).to(output.dtype)))
    return Used(output, readings)


def addcmul(call: Call) -> Used | None:
    """``c + value · a · b`` with weights among c and one of a and b."""
    c, a, b, value = call.bind("input", "tensor1", "tensor2", value=1)
    if call.is_weight(a) and call.is_weight(b):
        return None
    output = c + value * a * b
    readings = [entrywise(c, output, None)] if call.is_weight(c) else []
    for weight, other in ((a, b), (b, a)):
        if call.is_weight(weight):
            readings.append(entrywise(weight, output, other, value))
    return Used(output, readings)


# ------------------------------------------------------------------------------------------------- affine parts


def _affine(call: Call, normal: torch.Tensor, weight: Any, bias: Any, d: tuple[str, ...]) -> Used:
    """``normal · weight + bias``, the parameters along the axes ``d`` of the normalised input."""
    every = axes("d", normal.ndim)
    shape = [size if label in d else 1 for label, size in zip(every, normal.shape, strict=True)]
    output = normal if weight is None else normal * weight.reshape(shape)
    output = output if bias is None else output + bias.reshape(shape)
    readings: list[Reading] = []
    if weight is not None and call.is_weight(weight):
        readings.append(Reading(weight, Einsum(every, every, d), normal))
    if bias is not None and call.is_weight(bias):
        readings.append(Reading(bias, Einsum(None, every, d)))
    return Used(output, readings)


def layer_norm(call: Call) -> Used | None:
    """Normalised over the last axes, then scaled and shifted along them."""
    x, shape, weight, bias, eps = call.bind("input", "normalized_shape", weight=None, bias=None, eps=1e-5)
    if call.is_weight(x):
        return None
    normal = functional.layer_norm(x, shape, eps=eps)
    return _affine(call, normal, weight, bias, axes("d", x.ndim)[x.ndim - len(shape) :])


def torch_layer_norm(call: Call) -> Used | None:
    """The same by `torch.layer_norm`, which takes one argument more."""
    x, shape, weight, bias, eps, _ = call.bind(
        "input", "normalized_shape", weight=None, bias=None, eps=1e-5, cudnn_enable=True
    )
    return layer_norm(Call(call.func, (x, shape, weight, bias, eps), {}, call.is_weight))


def rms_norm(call: Call) -> Used | None:
    """Divided by the root mean square over the last axes, then scaled along them."""
    x, shape, weight, eps = call.bind("input", "normalized_shape", weight=None, eps=None)
    if call.is_weight(x):
        return None
    normal = functional.rms_norm(x, shape, eps=eps)
    return _affine(call, normal, weight, None, axes("d", x.ndim)[x.ndim - len(shape) :])


def group_norm(call: Call) -> Used | None:
    """Normalised within groups of channels, then scaled and shifted by channel."""
    x, groups, weight, bias, eps = call.bind("input", "num_groups", weight=None, bias=None, eps=1e-5)
    if call.is_weight(x):
        return None
    return _affine(call, functional.group_norm(x, groups, eps=eps), weight, bias, ("d1",))


def torch_group_norm(call: Call) -> Used | None:
    """The same by `torch.group_norm`, which takes one argument more."""
    *args, _ = call.bind("input", "num_groups", weight=None, bias=None, eps=1e-5, cudnn_enabled=True)
    return group_norm(Call(call.func, tuple(args), {}, call.is_weight))


def instance_norm(call: Call) -> Used | None:
    """Normalised within each channel, by its own or by running statistics, then scaled and shifted by channel."""
    x, mean, variance, weight, bias, use_input, momentum, eps = call.bind(
        "input",
        running_mean=None,
        running_var=None,
        weight=None,
        bias=None,
        use_input_stats=True,
        momentum=0.1,
        eps=1e-5,
    )
    if call.is_weight(x):
        return None
    running = (None, None) if use_input else (mean, variance)  # they would be written to, and are not read
    normal = functional.instance_norm(x, *running, None, None, use_input, momentum, eps)
    return _affine(call, normal, weight, bias, ("d1",))


def batch_norm(call: Call) -> Used | None:
    """Normalised by running statistics, then scaled and shifted by channel."""
    x, mean, variance, weight, bias, training, _, eps = call.bind(
        "input", "running_mean", "running_var", weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
    )
    if call.is_weight(x) or training:
        return None
    shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    normal = (x - mean.reshape(shape)) * torch.rsqrt(variance.reshape(shape) + eps)
    return _affine(call, normal, weight, bias, ("d1",))

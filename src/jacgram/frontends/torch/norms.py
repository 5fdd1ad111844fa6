"""Norm layers in elementary operations, whose derivatives of every order are right.

PyTorch's own (2.13) are wrong in silence from the third backward derivative on, and in the backward derivative of the
forward one: those that a differentiable ``J @ u`` needs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.compat import WEIGHT_NORM


def _normalised(x: torch.Tensor, axes: Sequence[int], eps: float) -> torch.Tensor:
    centred = x - x.mean(tuple(axes), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(tuple(axes), keepdim=True) + eps)


def _affine(normal: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, shape: Sequence[int]) -> Any:
    scaled = normal if weight is None else normal * weight.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)


def layer_norm(
    input: torch.Tensor,  # noqa: A002  (the name in PyTorch)
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enable: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.layer_norm`, and `torch.layer_norm`."""
    del cudnn_enable
    axes = range(-len(normalized_shape), 0)
    return _affine(_normalised(input, axes, eps), weight, bias, tuple(normalized_shape))


def group_norm(
    input: torch.Tensor,  # noqa: A002
    num_groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """`torch.nn.functional.group_norm`, and `torch.group_norm`."""
    del cudnn_enabled
    grouped = input.reshape(input.shape[0], num_groups, -1)
    normal = _normalised(grouped, (2,), eps).reshape(input.shape)
    return _affine(normal, weight, bias, (-1, *(1,) * (input.ndim - 2)))


def instance_norm(
    input: torch.Tensor,  # noqa: A002
    running_mean: torch.Tensor | None = None,
    running_var: torch.Tensor | None = None,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    """`torch.nn.functional.instance_norm`; running statistics are read where it reads them, and not updated."""
    del momentum
    shape = (-1, *(1,) * (input.ndim - 2))
    if use_input_stats or running_mean is None or running_var is None:
        normal = _normalised(input, range(2, input.ndim), eps)
    else:
        normal = (input - running_mean.reshape(shape)) * torch.rsqrt(running_var.reshape(shape) + eps)
    return _affine(normal, weight, bias, shape)


def weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """What `torch.nn.utils.parametrizations.weight_norm` calls: ``g v / |v|``, of the entries at each place of an axis.

    All of v has one norm where ``dim`` is -1.
    """
    axes = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    return v * (g / v.square().sum(axes, keepdim=dim != -1).sqrt())


ELEMENTARY: dict[Callable[..., Any], Callable[..., Any]] = {
    function: written_out
    for name, written_out in (
        ("layer_norm", layer_norm),
        ("group_norm", group_norm),
        ("instance_norm", instance_norm),
        (WEIGHT_NORM, weight_norm),
    )
    for function in named(name)
    if function is not torch.instance_norm
}
"""What stands for which function where derivatives of higher orders are wanted."""

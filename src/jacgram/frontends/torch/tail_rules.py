"""Nodes of autograd's graph past which a cotangent stays a small core times a scale.

Sums over axes leave the core as it is, entrywise functions go to the scale, products with matrices to the core alone.
Each rule gives None where it does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import Node

from jacgram.frontends.torch.atoms import InAtoms, Shape
from jacgram.frontends.torch.compat import gradient_like, gradients_past, saved, signed
from jacgram.frontends.torch.nodes import INDEX, PERMUTED, RANGE, TRANSPOSED, order_before, taken


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node, and the cotangent of its one output.

    Attributes:
        node: the node.
        value: its cotangent.
        wanted: of which inputs the cotangents are wanted; of one at least.
    """

    node: Node
    value: InAtoms
    wanted: Sequence[bool]

    @property
    def shape(self) -> Shape:
        """The output's."""
        return self.value.shape

    def source_shape(self, place: int = 0) -> Shape:
        """An input's."""
        return gradient_like(*self.node.next_functions[place])[0]

    @property
    def keeps_dtype(self) -> bool:
        """Whether all that is wanted is of the output's dtype."""
        edges = [
            (self.node, 0),
            *(e for e, wanted in zip(self.node.next_functions, self.wanted, strict=True) if wanted),
        ]
        return all(gradient_like(*edge)[1] == self.value.core.dtype for edge in edges)

    @property
    def keeps_shape(self) -> bool:
        """Whether no input is repeated to the shape of the output."""
        return all(self.source_shape(place) == self.shape for place, wanted in enumerate(self.wanted) if wanted)


Parts = Sequence["InAtoms | None"]


def _as_it_is(step: Step) -> Parts | None:
    return [step.value]


def _sum_of_two(step: Step) -> Parts | None:
    """``a + alpha b`` and ``a - alpha b``."""
    factor = saved(step.node, "alpha") * (-1 if step.node.name() == "SubBackward0" else 1)
    if not step.keeps_shape:
        return None
    return [step.value, step.value.times(factor)]


def _entrywise(step: Step) -> Parts | None:
    """A function of each entry by itself: its node is given the scale."""
    if not step.keeps_shape:
        return None
    scale = step.value.scale_in_axes
    parts = gradients_past(step.node, step.value.core.new_ones(step.shape) if scale is None else scale.contiguous())
    scales = [part if wanted else None for part, wanted in zip(parts, step.wanted, strict=True)]
    return [None if found is None else step.value.with_scale(found.expand(step.shape)) for found in scales]


def _multiplied(step: Step) -> Parts | None:
    """``a * b``, as much repeated as the other operand is."""
    names = zip(("other", "self"), step.wanted, strict=True)
    return _times(step, [saved(step.node, name) if wanted else None for name, wanted in names])


def _divided(step: Step) -> Parts | None:
    """``a / b``, likewise where b is not wanted."""
    if step.wanted[1]:
        return _entrywise(step)
    divisor = saved(step.node, "other")
    return _times(step, [None if divisor is None else divisor.detach().to(step.value.core.dtype).reciprocal(), None])


def _times(step: Step, factors: Sequence[torch.Tensor | None]) -> Parts | None:
    missing = any(wanted and factor is None for wanted, factor in zip(step.wanted, factors, strict=True))
    if missing or not step.keeps_shape:
        return None
    return [None if factor is None else step.value.times(_factor(step, factor.detach())) for factor in factors]


def _factor(step: Step, known: torch.Tensor) -> torch.Tensor | float:
    if known.ndim == 0 and known.device.type == "cpu":  # where it costs nothing to read
        return float(known)
    return known.to(step.value.core.dtype).expand(step.shape)


def _reshaped(step: Step) -> Parts | None:
    found = step.value.regrouped(step.source_shape())
    return None if found is None else [found]


def _turned(step: Step) -> Parts | None:
    """``a.t()``, of two axes."""
    return [step.value.moved((1, 0))] if len(step.shape) == 2 else None


def _permuted(step: Step) -> Parts | None:
    return [step.value.moved(order_before(step.node, len(step.shape)))]


def _summed_over(step: Step) -> Parts | None:
    """Sums and means over axes: repeated along them."""
    shape, keeps = step.source_shape(), saved(step.node, "keepdim")
    axes = sorted(signed(axis) % len(shape) for axis in saved(step.node, "dim") or range(len(shape)))
    found = step.value
    for axis in axes:
        found = found.repeated(axis, shape[axis], is_new=not keeps)
    is_sum = step.node.name() == "SumBackward1"
    return [found if is_sum else found.times(1 / max(math.prod(shape[axis] for axis in axes), 1))]


def _one_of_many(step: Step) -> Parts | None:
    """One position: every position, times one there and zero elsewhere."""
    shape, is_slice = step.source_shape(), step.node.name() == RANGE
    if is_slice and step.shape == shape:
        return [step.value]
    axis, at, *_ = taken(step.node, shape)
    if is_slice and step.shape[axis] != 1:
        return None
    size = shape[axis]
    kept = (torch.arange(size, device=step.value.core.device) == at).to(step.value.core.dtype)
    found = step.value.repeated(axis, size, is_new=not is_slice)
    return [found.times(kept.reshape(-1, *(1,) * (len(shape) - 1 - axis)).expand(shape))]


def _matrix_product(step: Step) -> Parts | None:
    """``a @ b`` of matrices, one of which is wanted."""
    first = len(step.wanted) - 2  # addmm has a summand ahead of them
    if sum(step.wanted) != 1 or not any(step.wanted[first:]) or (first and saved(step.node, "alpha") != 1):
        return None
    if step.wanted[first]:
        found = step.value.times_matrix(saved(step.node, "mat2").t())
    else:
        turned = step.value.moved((1, 0)).times_matrix(saved(step.node, "mat1" if first else "self"))
        found = None if turned is None else turned.moved((1, 0))
    return None if found is None else [found if wanted else None for wanted in step.wanted]


_ENTRYWISE = (
    "Abs", "Celu", "Cos", "Elu", "Erf", "Exp", "Gelu", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu",
    "Log", "LogSigmoid", "MaskedFill", "Mish", "Neg", "Pow", "Relu", "Sigmoid", "Silu", "Sin", "Softplus",
    "Sqrt", "Tanh",
)  # fmt: skip

Rule = Callable[[Step], "Parts | None"]

RULES: dict[str, Rule] = {
    "AddBackward0": _sum_of_two,
    "AddmmBackward0": _matrix_product,
    "AliasBackward0": _as_it_is,
    "CloneBackward0": _as_it_is,
    "DivBackward0": _divided,
    "MeanBackward1": _summed_over,
    "MmBackward0": _matrix_product,
    "MulBackward0": _multiplied,
    PERMUTED: _permuted,
    "ReshapeAliasBackward0": _reshaped,
    INDEX: _one_of_many,
    RANGE: _one_of_many,
    "SqueezeBackward0": _reshaped,
    "SqueezeBackward1": _reshaped,
    "SqueezeBackward2": _reshaped,
    "SubBackward0": _sum_of_two,
    "SumBackward1": _summed_over,
    "TBackward0": _turned,
    TRANSPOSED: _permuted,
    "UnsafeViewBackward0": _reshaped,
    "UnsqueezeBackward0": _reshaped,
    "ViewBackward0": _reshaped,
    **{f"{name}Backward0": _entrywise for name in _ENTRYWISE},
}
"""By name of a node: from its cotangent to those of its inputs."""

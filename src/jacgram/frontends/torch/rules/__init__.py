"""How calls read the weights among their arguments: one function per operation, and one line of `RULES` for it.

A third party adds its own with `register`; see ``docs/extending-torch.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.rules import convolutions, elementwise, gathers, products
from jacgram.frontends.torch.rules.call import Call, Rule, UnreadableCallError, Used, axes
from jacgram.frontends.torch.tape import Reading

RULES: dict[Callable[..., Any], Rule] = {}
"""The rule of each function."""

ABSORBING: set[Callable[..., Any]] = set()
"""Functions whose rule applies to constants too: their results go on as data, not as weights."""

COUNTERPARTS: dict[Callable[..., Any], Callable[..., Any]] = {}
"""In-place functions and what they write."""


def register(*functions: Callable[..., Any], rule: Rule, absorbs_constants: bool = False) -> None:
    """Use a rule for these functions.

    Args:
        functions: as a `torch.overrides.TorchFunctionMode` sees them.
        rule: runs a call and says how it reads its weights.
        absorbs_constants: whether it is used too where everything but the weights is constant; otherwise the result is
            then itself a weight.
    """
    for function in functions:
        RULES[function] = rule
        if absorbs_constants:
            ABSORBING.add(function)


def _register(names: tuple[str, ...], rule: Rule, *, absorbs_constants: bool = False) -> None:
    register(*named(*names), rule=rule, absorbs_constants=absorbs_constants)
    for name in names:
        for function in named(f"{name}_", f"__i{name.strip('_')}__"):
            COUNTERPARTS[function] = next(iter(named(name)))


for _names, _rule in (
    (("matmul", "__matmul__", "mm", "bmm", "mv", "dot"), products.matmul),
    (("__rmatmul__",), products.reversed_matmul),
    (("addmm",), products.addmm),
    (("addmv",), products.addmv),
    (("baddbmm",), products.baddbmm),
    (("addbmm",), products.addbmm),
    (("einsum",), products.einsum),
    (("outer", "ger"), products.outer),
    (("tensordot",), products.tensordot),
):
    _register(_names, _rule)

# Tables read at constant positions, and layers applied to constants, go on as data. Plain matrix products do not, for
# they stand in what is computed from parameters alone: a spectral norm, say.
for _names, _rule in (
    (("linear",), products.linear),
    (("conv1d",), convolutions.convolution(1)),
    (("conv2d",), convolutions.convolution(2)),
    (("conv3d",), convolutions.convolution(3)),
    (("conv_transpose1d",), convolutions.transposed_convolution(1)),
    (("conv_transpose2d",), convolutions.transposed_convolution(2)),
    (("conv_transpose3d",), convolutions.transposed_convolution(3)),
    (("embedding",), gathers.embedding),
    (("index_select",), gathers.index_select),
    (("__getitem__",), gathers.indexed),
):
    _register(_names, _rule, absorbs_constants=True)

for _names, _rule in (
    (("add", "__add__", "__radd__"), elementwise.add),
    (("sub", "subtract", "__sub__"), elementwise.subtract),
    (("rsub", "__rsub__"), elementwise.reversed_subtract),
    (("mul", "multiply", "__mul__", "__rmul__"), elementwise.multiply),
    (("div", "divide", "true_divide", "__truediv__"), elementwise.divide),
    (("where",), elementwise.where),
    (("addcmul",), elementwise.addcmul),
    (("layer_norm",), elementwise.layer_norm),
    (("rms_norm",), elementwise.rms_norm),
    (("group_norm",), elementwise.group_norm),
    (("instance_norm",), elementwise.instance_norm),
    (("batch_norm",), elementwise.batch_norm),
):
    _register(_names, _rule)

register(torch.layer_norm, rule=elementwise.torch_layer_norm)
register(torch.group_norm, rule=elementwise.torch_group_norm)

CARRIED = named(
    "cat", "concat", "concatenate", "stack", "hstack", "vstack", "dstack", "__setitem__", "copy_", "index_put",
    "index_put_", "masked_fill", "masked_scatter", "scatter", "pad", "roll", "flip", "repeat", "tile",
    "repeat_interleave", "slice_scatter", "select_scatter", "column_stack",
)  # fmt: skip
"""Functions that move entries about: reading their weights whole loses no structure."""

__all__ = [
    "ABSORBING",
    "CARRIED",
    "COUNTERPARTS",
    "RULES",
    "Call",
    "Reading",
    "Rule",
    "UnreadableCallError",
    "Used",
    "axes",
    "register",
]

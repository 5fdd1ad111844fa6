"""Derivatives of entrywise functions, computed once for all seeds.

Under ``vmap`` over seeds the node of a GELU, which is one fused operation of x and its cotangent, computes its
exponentials anew for each of them. Here it is given ones, without seeds, and what it makes of them times its cotangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.graph import Node

from jacgram.frontends.torch.nodes import repeated

FUSED = frozenset(f"{name}Backward0" for name in ("Celu", "Elu", "Gelu", "LogSigmoid", "Mish", "Silu", "Softplus"))
"""Names of the nodes. Of a sine, say, autograd multiplies by what it computes of x alone, and so once as it is."""

_HALF = (torch.float16, torch.bfloat16)  # whose derivatives would be rounded before they are multiplied


def watch(node: Node) -> list[Any]:
    """Hooks ahead of and behind a node whose name is among `FUSED`."""
    cotangents: list[torch.Tensor] = []

    def given_ones(given: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor] | None:
        (cotangent,) = given
        if cotangent is None or cotangent.dtype in _HALF:
            return None
        cotangents.append(cotangent)
        return (repeated(1, cotangent, cotangent.shape),)

    def multiplied(made: Sequence[torch.Tensor | None], _: Any) -> tuple[torch.Tensor] | None:
        (derivative,) = made
        return None if derivative is None or not cotangents else (derivative * cotangents.pop(),)

    return [node.register_prehook(given_ones), node.register_hook(multiplied)]

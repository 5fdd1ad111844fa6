"""Derivatives of entrywise functions, computed once for all seeds.

Under ``vmap`` over seeds the node of a GELU, which is one fused operation of x and its cotangent, computes its
exponentials anew for each of them. Here it is given ones, without seeds, and what it makes of them times its cotangent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.autograd.graph import Node

FUSED = frozenset(f"{name}Backward0" for name in ("Celu", "Elu", "Gelu", "LogSigmoid", "Mish", "Silu", "Softplus"))
"""Names of the nodes; other functions' are products with what is computed from x alone, and once as it is."""


def watch(node: Node) -> list[Any]:
    """Hooks ahead of and behind a node whose name is among `FUSED`."""
    cotangents: list[torch.Tensor] = []

    def given_ones(given: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor] | None:
        (cotangent,) = given
        if cotangent is None:
            return None
        cotangents.append(cotangent)
        return (torch.ones((), dtype=cotangent.dtype, device=cotangent.device).expand(cotangent.shape),)

    def multiplied(made: Sequence[torch.Tensor | None], _: Any) -> tuple[torch.Tensor] | None:
        derivative = made[0]
        return None if derivative is None else (derivative * cotangents.pop(),)

    return [node.register_prehook(given_ones), node.register_hook(multiplied)]

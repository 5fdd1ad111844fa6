"""The same side at other values: what a check says of one point need not hold at another.

Behind a head of zeros, or at inputs of zeros, gradients vanish, and anything agrees with anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_SHARE = 0.1  # of a tensor's own scale, by which its entries are moved: little, for f may hold at such values alone


def disturbed(side: TorchSide) -> TorchSide | None:
    """The side with every parameter and input moved a little, none of them zero; None where f cannot run there."""
    generator = torch.Generator().manual_seed(2)
    leaves, x = ([_moved(tensor, generator) for tensor in part] for part in (side.leaves, side.x))
    moved = replace(side, leaves=leaves, x=x, create_graph=False, notes=[], shared=type(side.shared)())
    try:
        with torch.no_grad(), moved.calling():
            outputs = moved.flat(moved.leaves)
            moved.require_shapes(outputs if moved.has_examples else [y[None] for y in outputs])
            return moved if any(bool(y.isfinite().any()) for y in outputs) else None
    except Exception:  # f holds at other values than these, and its own are compared in any case
        return None


def _moved(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Numbers are moved; integers, which choose, and truth values are as they were."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or not tensor.numel():
        return tensor
    tensor = tensor.detach()
    scale = float(tensor.abs().double().square().mean().sqrt())
    scale = scale if 0 < scale < float("inf") else 1.0
    wide = torch.complex128 if tensor.is_complex() else torch.float64
    noise = torch.randn(tensor.shape, generator=generator, dtype=wide).to(tensor.device)
    return tensor + (_SHARE * scale * noise).to(tensor.dtype)

"""Rules for reading rows of a table by index: embeddings and advanced indexing. No one-hot vector is formed."""

from __future__ import annotations

from typing import Any

import torch

from jacgram.core.uses import Gather
from jacgram.frontends.torch.rules.call import Call, Used
from jacgram.frontends.torch.tape import Reading


def embedding(call: Call) -> Used | None:
    """Rows of a table. Calls with ``padding_idx`` are opened before."""
    index, table, padding, max_norm, _, by_frequency, _ = call.bind(
        "input", "weight", padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False
    )
    if padding is not None or max_norm is not None or by_frequency or call.is_weight(index):
        return None
    return _rows(table, index, 0)


def index_select(call: Call) -> Used | None:
    """Slices of a table along one axis."""
    table, axis, index = call.bind("input", "dim", "index")
    return None if call.is_weight(index) else _rows(table, index.reshape(-1), axis % table.ndim)


def indexed(call: Call) -> Used | None:
    """``table[..., index, ...]`` with one integer tensor among whole slices; anything else is read whole."""
    table, key = call.args
    keys = list(key) if isinstance(key, tuple) else [key]
    if not call.is_weight(table) or any(part is None for part in keys):
        return None
    keys = _without_ellipsis(keys, table.ndim)
    chosen = [axis for axis, part in enumerate(keys) if not (isinstance(part, slice) and part == slice(None))]
    if len(chosen) != 1 or not isinstance(keys[chosen[0]], torch.Tensor):
        return None
    index: Any = keys[chosen[0]]
    if index.dtype == torch.bool or index.dtype.is_floating_point:
        return None
    if index.ndim:
        return _rows(table, index, chosen[0])
    one = _rows(table, index[None], chosen[0])
    return Used(one.output, one.readings, lambda read: read.select(chosen[0], 0))


def _without_ellipsis(keys: list[Any], ndim: int) -> list[Any]:
    places = [k for k, part in enumerate(keys) if part is Ellipsis]
    for at in places:
        return [*keys[:at], *[slice(None)] * (ndim - len(keys) + 1), *keys[at + 1 :]]
    return keys


def _rows(table: torch.Tensor, index: torch.Tensor, axis: int) -> Used:
    """``table`` read at ``index`` along ``axis``: axes before it, those of the index, axes after it."""
    output = table[(*(slice(None),) * axis, index)]
    before, positions, after = axis, index.ndim, table.ndim - axis - 1
    known = torch.remainder(index.to(torch.int64), table.shape[axis])
    order = (axis, *(k for k in range(table.ndim) if k != axis))

    def cotangent(g: torch.Tensor) -> torch.Tensor:
        """Positions in front of all features."""
        if not before:
            return g
        lead = g.ndim - before - positions - after
        middle = [lead + before + k for k in range(positions)]
        return g.permute((*range(lead), *middle, *range(lead, lead + before), *range(g.ndim - after, g.ndim)))

    reading = Reading(table, Gather(positions), known, cotangent, lambda whole: whole.transpose(order))
    return Used(output, [reading])

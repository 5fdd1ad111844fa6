"""Rows of a use, whole or for a slice of one weight axis: what unlike uses of a leaf are summed as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, einsum
from jacgram.arrays.windows import at_offset, offsets, patches, spread_input
from jacgram.contract.loops import collected
from jacgram.core.uses import Conv, Use
from jacgram.core.views import View
from jacgram.plan.factors import Factor

_FEW = 1 << 20  # entries of patches that stay in cache: one product over them is faster than one for each offset


@dataclass(frozen=True, slots=True)
class Part:
    """A slice of one weight axis: its label, its first entry (which may be traced) and its size."""

    label: str
    start: Any
    size: int


def side_rows(
    xp: Arrays,
    factors: Sequence[Factor],
    uses: Sequence[Use],
    seeds: tuple[int, int],
    dtype: str,
    view: View | None,
    leaf_size: int,
    part: Part | None,
) -> Any:
    """Rows of all uses of one side, summed.

    Args:
        view: the view that all uses have in common, or None: rows are then laid out over the whole leaf.
        leaf_size: entries of the leaf.
        part: slice of the common view, or None for all of it.

    Returns:
        ``(n, s, entries)``.
    """
    total = None
    for factor in factors:
        use = uses[factor.use]
        g = xp.astype(xp.slice(use.cotangent, 1, seeds[0], seeds[1] - seeds[0]), dtype)
        rows = _rows(xp, factor, use, g, part)
        flat = xp.reshape(rows, (*rows.shape[:2], math.prod(rows.shape[2:])))
        if view is None and factor.view.reshape((leaf_size,)) != View.of((leaf_size,)):
            flat = xp.place(flat, factor.view.indices().reshape(-1), leaf_size)
        total = flat if total is None else total + flat
    return total


def _rows(xp: Arrays, factor: Factor, use: Use, g: Any, part: Part | None) -> Any:
    """Rows ``(n, s, *view)`` of one use, in canonical axes."""
    labels = tuple(f"w{axis}" for axis in range(len(factor.view.shape)))
    cotangent = Labelled(("n", "s", *factor.cotangent), xp.reshape(g, (*g.shape[:2], *factor.cotangent_sizes)))
    if factor.table is not None:
        return _table_rows(xp, factor, use.activation, cotangent, labels, part)
    if part is not None:
        cotangent = cotangent.slice(xp, part.label, part.start, part.size)
    if factor.activation is None:
        return einsum(xp, ("n", "s", *labels), cotangent).array
    if isinstance(use.kind, Conv):
        return _window_rows(xp, factor, use, use.kind, cotangent, labels, part)
    a = Labelled(("n", *factor.activation), xp.astype(use.activation, str(g.dtype).removeprefix("torch.")))
    if part is not None:
        a = a.slice(xp, part.label, part.start, part.size)
    return einsum(xp, ("n", "s", *labels), cotangent, a).array


def _window_rows(
    xp: Arrays, factor: Factor, use: Use, conv: Conv, cotangent: Labelled, labels: tuple[str, ...], part: Part | None
) -> Any:
    assert factor.activation is not None
    out_space = tuple(use.cotangent.shape[2:-1])
    activation = xp.astype(use.activation, str(cotangent.array.dtype).removeprefix("torch."))
    n, of_one = use.activation.shape[0], math.prod(factor.activation_sizes)
    every = ("n", *factor.activation)
    # Many patches take the place of what the pass has freed: arrays like cotangents.
    most = max(_FEW, min(xp.traits.patch_entries, math.prod(cotangent.array.shape)))
    if part is None and n and 0 < of_one <= most:

        def of_block(start: Any, size: int) -> list[Any]:
            array = patches(xp, conv, xp.slice(activation, 0, start, size), out_space)
            seen = Labelled(every, xp.reshape(array, (size, *factor.activation_sizes)))
            return [einsum(xp, ("n", "s", *labels), cotangent.slice(xp, "n", start, size), seen).array]

        return collected(xp, n, _block(n, most // of_one, xp.traits.shares), of_block)[0]
    inner = tuple(x for x in labels if x not in factor.window)
    read = tuple(x for x in factor.activation if x not in factor.window)
    spread = spread_input(xp, conv, activation)
    groups = (conv.groups, use.activation.shape[-1] // conv.groups)
    blocks: list[Any] = []
    for offset in offsets(conv):
        seen = at_offset(xp, conv, spread, offset, out_space)
        a = Labelled(("n", *read), xp.reshape(seen, (*seen.shape[:-1], *groups)))
        if part is not None:
            a = a.slice(xp, part.label, part.start, part.size)
        block = einsum(xp, ("n", "s", *inner), cotangent, a).array
        blocks.append(xp.reshape(block, (*block.shape[:2], 1, *block.shape[2:])))
    stacked = xp.concatenate(blocks, 2)
    sizes = (*stacked.shape[:2], *conv.window, *stacked.shape[3:])
    arranged = Labelled(("n", "s", *factor.window, *inner), xp.reshape(stacked, sizes))
    return einsum(xp, ("n", "s", *labels), arranged).array


def _block(n: int, most: int, shares: int) -> int:
    """Examples in a block of no more than ``most``: blocks alike, and where they can be, divided among the cores."""
    even = math.ceil(n / math.ceil(n / most))
    for size in (math.ceil(even / shares) * shares, even // shares * shares):
        if 0 < size <= min(most, n):
            return size
    return even


def _table_rows(
    xp: Arrays, factor: Factor, index: Any, cotangent: Labelled, labels: tuple[str, ...], part: Part | None
) -> Any:
    assert factor.table is not None
    positions = factor.positions
    features = tuple(x for x in labels if x != factor.table)
    if part is not None:
        cotangent = cotangent.slice(xp, part.label, part.start, part.size)
    values = einsum(xp, ("n", "s", *positions, *features), cotangent).array
    n, s = values.shape[:2]
    kept = values.shape[2 + len(positions) :]
    values = xp.reshape(values, (n, s, math.prod(values.shape[2 : 2 + len(positions)]), math.prod(kept)))
    index = xp.reshape(index, (n, math.prod(index.shape[1:])))
    size = factor.view.shape[labels.index(factor.table)]
    if part is not None and part.label == factor.table:
        index, size = index - part.start, part.size
    rows = xp.reshape(xp.scatter_rows(index, values, size), (n, s, size, *kept))
    return einsum(xp, ("n", "s", *labels), Labelled(("n", "s", factor.table, *features), rows)).array

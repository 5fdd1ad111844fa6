"""A plan as text: a table of leaves, the totals, and the papers behind the orders that were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jacgram.core.sizes import format_bytes

if TYPE_CHECKING:
    from jacgram.plan.plan import LeafPlan, Plan

_HEAD = ("leaf", "uses", "order", "slices", "GFLOP", "MiB", "ms")
_NOVAK = "Novak, Sohl-Dickstein & Schoenholz, Fast Finite Width Neural Tangent Kernel, ICML 2022"
_CITATIONS = {
    "rows": f"rows: Jacobian contraction ({_NOVAK}), a slice at a time",
    "Gram-Gram": f"Gram-Gram: structured derivatives ({_NOVAK})",
    "one-sided": f"one-sided: NTK-vector products on factors ({_NOVAK})",
    "matrix-free": f"matrix-free: NTK-vector products ({_NOVAK}), in blocks of rows",
}


def plan_table(plan: Plan) -> str:
    """The whole plan as text."""
    lines = [_summary(plan)]
    for position, pair in enumerate(plan.leaves):
        if len(plan.leaves) > 1:
            lines.append(f"pair of outputs {position}")
        lines += _grid([_HEAD, *(_row(leaf) for leaf in pair)])
    lines.append(_totals(plan))
    if plan.condensed:
        lines.append(_condensed(plan))
    orders = [plan.method, *(leaf.choice.order for pair in plan.leaves for leaf in pair)]
    lines += [_CITATIONS[order] for order in dict.fromkeys(orders) if order in _CITATIONS]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines)


def _summary(plan: Plan) -> str:
    n1, n2 = plan.examples
    tiles = " × ".join(str(-(-n // t)) for n, t in zip(plan.examples, plan.tile, strict=True))
    shape = f"{n1} × {n2} examples, {tiles} tiles of {plan.tile[0]} × {plan.tile[1]}"
    panels = f" in {plan.panels} panels" if plan.panels > 1 else ""
    half = f", upper triangle{panels}" if plan.hermitian else ""
    block = f", {plan.block} rows at a time" if plan.block else ""
    joined = ", both sides in one pass" if plan.joined else ""
    return f"{plan.method}: {shape}{half}{block}{joined}, products in {plan.dtype}"


def _row(leaf: LeafPlan) -> tuple[str, ...]:
    choice = leaf.choice
    whole = "example by example" if choice.by_example else "whole"
    slices = whole if choice.slice_label is None else f"{choice.slice_label} by {choice.slice_size}"
    slices += "" if choice.parted is None else f", {choice.parted} in {choice.parts} parts"
    slices += "" if choice.dealt is None else f", {choice.shares} shares of {choice.dealt}"
    uses = "+".join(leaf.kinds) + (" (fallback)" if leaf.fallbacks else "")
    order = choice.order + (", window by window" if choice.loop_windows else "")
    figures = (f"{choice.flops / 1e9:.3g}", f"{choice.peak_bytes / 2**20:.3g}", f"{choice.seconds * 1e3:.3g}")
    return (leaf.path or "(the variable)", uses, order, slices, *figures)


def _totals(plan: Plan) -> str:
    return (
        f"total {plan.flops / 1e9:.3g} GFLOP, {plan.seconds * 1e3:.3g} ms, peak {format_bytes(plan.peak_bytes)} "
        f"of {format_bytes(plan.budget_bytes)}; figures of leaves are per tile"
    )


def _condensed(plan: Plan) -> str:
    count, (block1, block2) = len(plan.condensed), plan.pass_blocks
    which = "one leaf is" if count == 1 else f"{count} leaves are"
    return f"{which} condensed to rows as cotangents come, {block1} and {block2} examples at a time"


def _grid(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    text_columns = 4
    return [
        "  ".join(
            cell.ljust(width) if column < text_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]

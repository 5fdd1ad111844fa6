"""Makes a plan: prices the methods that were asked for, and takes the cheapest that fits the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jacgram.core.dtypes import itemsize
from jacgram.core.sizes import format_bytes
from jacgram.core.uses import Identity, Kind
from jacgram.errors import BudgetError, UnsupportedError
from jacgram.plan.choice import Choice
from jacgram.plan.choose import choose
from jacgram.plan.components import Component
from jacgram.plan.condensing import SHARES, condensable, condensed, pass_blocks
from jacgram.plan.device import Device
from jacgram.plan.factors import Factor
from jacgram.plan.plan import LeafPlan, Plan
from jacgram.plan.strategies import Auto, Materialize, MatrixFree, Method, Structured
from jacgram.plan.task import SideShapes, Task, struct_bytes
from jacgram.plan.triangle import PANELS, Triangle
from jacgram.plan.wanted import Wanted

_PASS_SHARE = 1 / 8  # of the budget, that a pass over a few examples may take: smaller passes cost less than more tiles
_PANELS_WORTH = 1.05  # how much faster more panels have to be: they are more calls, and products that are less wide
_BESIDE_WORTH = 1.03  # the same where they run side by side and lose less by that, but are a larger program
_WORKSPACE = 3  # live copies of the largest per-example array during a backward pass, beside what is kept


def make_plan(task: Task, method: Method, budget_bytes: int, device: Device) -> Plan:
    """The plan for a task.

    Raises:
        BudgetError: nothing that ``method`` allows fits; the message names the smallest budget that would.
        UnsupportedError: ``Structured(strict=True)`` and a use without structure.
    """
    held_bytes = int(budget_bytes / device.overhead)
    options = _options(task, method, held_bytes, device)
    fitting = [plan for plan in options if plan.peak_bytes <= held_bytes]
    if not fitting:
        smallest = math.ceil((min(plan.peak_bytes for plan in options) + 1) * device.overhead)
        raise BudgetError(
            f"no plan by {method} fits memory={format_bytes(budget_bytes)}: the smallest needs {smallest} bytes. "
            f'Fix: pass memory="{math.ceil(smallest / 2**20)}MiB" or more, or method=Auto().'
        )
    best = min(fitting, key=lambda plan: plan.seconds)
    return replace(
        best, peak_bytes=min(math.ceil(best.peak_bytes * device.overhead), budget_bytes), budget_bytes=budget_bytes
    )


def _options(task: Task, method: Method, budget_bytes: int, device: Device) -> list[Plan]:
    """Every plan that the method allows, within the budget where it can be."""
    match method:
        case Structured(strict=strict):
            if strict:
                _refuse_fallbacks(task)
            return _structured_options(task, budget_bytes, device)
        case Materialize():
            return [_structured(task, "materialize", budget_bytes, device)]
        case MatrixFree(block=block):
            if _is_widened(task):
                raise UnsupportedError(
                    f"MatrixFree() sums within f, in {task.inner_dtype}, and cannot accumulate in {task.dtype}. Fix: "
                    "leave accumulate out, pass f its parameters and x in that precision, or use method=Auto()."
                )
            return [_matrix_free(task, block, budget_bytes, device)]
        case Auto():
            found = _structured_options(task, budget_bytes, device)
            return found if _is_widened(task) else [*found, _matrix_free(task, None, budget_bytes, device)]


def _is_widened(task: Task) -> bool:
    """Whether products are to be summed in another precision than that of f."""
    return task.dtype != (task.inner_dtype or task.dtype)


def _structured_options(task: Task, budget_bytes: int, device: Device) -> list[Plan]:
    """With the pass over all examples of a tile at once, and, where that could help, over a few at a time."""
    options = [_structured(task, "structured", budget_bytes, device)]
    blocks = pass_blocks(task, min(device.pass_bytes, budget_bytes * _PASS_SHARE))
    for leaves in dict.fromkeys(condensable(task, share) for share in SHARES):
        if not leaves:
            continue
        plan = _structured(condensed(task, leaves, blocks), "structured", budget_bytes, device)
        options.append(replace(plan, condensed=leaves))
    return options


def _structured(task: Task, name: str, budget_bytes: int, device: Device) -> Plan:
    """Tiles as large as the budget allows; then, if one example's factors exceed it, blocks of its seeds."""
    tile = max(task.sides[0].n, 1), max(task.sides[1].n, 1)
    seeds = (0, 0)
    panels = [b for b in PANELS if b <= tile[0]] if task.triangle else [int(task.hermitian)]
    worth = _BESIDE_WORTH if device.abreast > 1 and not device.views else _PANELS_WORTH
    plans = [_tiled(task, name, tile, seeds, budget_bytes, device, b) for b in panels]
    plan = _worth_its_panels(plans, budget_bytes, worth)
    while plan.peak_bytes > budget_bytes:
        smaller = _smaller_tile(task, tile)
        if smaller == tile:
            fewer = _fewer_seeds(task, seeds)
            if fewer == seeds:
                break
            seeds = fewer
        tile = smaller
        plan = _tiled(task, name, tile, seeds, budget_bytes, device)
    return plan


def _worth_its_panels(plans: Sequence[Plan], budget_bytes: int, worth: float) -> Plan:
    """Of the plans that fit, if any does, the one with the fewest panels, or one that is faster by enough."""
    best, *others = [plan for plan in plans if plan.peak_bytes <= budget_bytes] or plans
    for plan in others:
        best = plan if plan.seconds * worth < best.seconds else best
    return best


def _smaller_tile(task: Task, tile: tuple[int, int]) -> tuple[int, int]:
    """Fewer examples on the side whose factors take more, or on both where tiles lie on a diagonal."""
    n1, n2 = (side.n for side in task.sides)
    if task.triangle or task.pairs[0].wanted.paired:
        fewer = _fewer(n1, max(tile))
        return fewer, fewer
    held = [factor_bytes(side, t, 1.0) if t > 1 else -1 for side, t in zip(task.sides, tile, strict=True)]
    if held[0] >= held[1]:
        return _fewer(n1, tile[0]), tile[1]
    return tile[0], _fewer(n2, tile[1])


def _fewer(n: int, size: int) -> int:
    """The next smaller block that splits n evenly, up to rounding; 1 stays 1."""
    if size <= 1:
        return 1
    blocks = math.ceil(n / size)
    while math.ceil(n / blocks) >= size:
        blocks += 1
    return math.ceil(n / blocks)


def _fewer_seeds(task: Task, seeds: tuple[int, int]) -> tuple[int, int]:
    """Smaller blocks of seeds on both sides; unchanged where they cannot be cut further."""
    wanted = task.pairs[0].wanted
    sizes = dict(wanted.sizes)
    if len(task.pairs) > 1 or None in wanted.blocked:
        return seeds
    totals = [sizes[label] for label in wanted.blocked if label is not None]
    now = [block or total for block, total in zip(seeds, totals, strict=True)]
    fewer = [_fewer(total, block) for total, block in zip(totals, now, strict=True)]
    return seeds if fewer == now else (fewer[0], fewer[1])


def _tiled(
    task: Task,
    name: str,
    tile: tuple[int, int],
    seeds: tuple[int, int],
    budget_bytes: int,
    device: Device,
    panels: int = 0,
) -> Plan:
    size = itemsize(task.dtype)
    shares = _seed_shares(task, seeds)
    held = [factor_bytes(side, t, share) for side, t, share in zip(task.sides, tile, shares, strict=True)]
    whole = all(t >= side.n for side, t in zip(task.sides, tile, strict=True)) and seeds == (0, 0)
    held_bytes = held[0] if task.hermitian and whole else sum(held)
    leaf_device = device.with_held(held_bytes)
    leaves: list[tuple[LeafPlan, ...]] = []
    every = [p.wanted.with_sizes(_seed_sizes(p.wanted, seeds)).with_examples(*tile) for p in task.pairs]
    blocks = [math.prod(wanted.block_shape) * size for wanted in every]
    made_bytes = max(blocks) if whole else task.copies * sum(blocks)  # the whole is the result itself
    # A tile on the diagonal is added together with its adjoint.
    peak, flops, seconds = 0 if whole or not task.triangle else 3 * made_bytes, 0, 0.0
    for pair, wanted, block in zip(task.pairs, every, blocks, strict=True):
        allowed = max(budget_bytes - held_bytes - made_bytes - block, 0)
        triangle = Triangle.of(wanted, panels, one=panels > 0 and pair.output1 == pair.output2, blocks=not device.views)
        chosen = tuple(
            _leaf_plan(task, position, component, choose(component, wanted, leaf_device, size, allowed, triangle))
            for position, component in enumerate(task.components)
        )
        leaves.append(chosen)
        peak = max(peak, made_bytes + block + max((leaf.choice.peak_bytes for leaf in chosen), default=0))
        flops += sum(leaf.choice.flops for leaf in chosen)
        seconds += sum(leaf.choice.seconds for leaf in chosen)
    counts = _counts(task, tile, seeds)
    made = [round(side.pass_flops * n) for side, n in zip(task.sides, counts.examples, strict=True)]
    passes = [
        n * _pass_s(side, t, share, device)
        for side, n, t, share in zip(task.sides, counts.examples, tile, shares, strict=True)
    ]
    pass_flops, pass_s = (made[0], passes[0]) if task.hermitian and whole else (sum(made), sum(passes))
    apart_bytes = _joined_bytes(task, device) if whole else None
    joined = apart_bytes is not None and peak + held_bytes + apart_bytes <= budget_bytes
    return Plan(
        method=name,
        examples=(task.sides[0].n, task.sides[1].n),
        tile=tile,
        seed_block=seeds,
        block=0,
        leaves=tuple(leaves),
        hermitian=task.hermitian,
        flops=flops * counts.tiles + pass_flops,
        seconds=seconds * counts.tiles + pass_s,
        peak_bytes=peak + held_bytes + (apart_bytes or 0) * joined,
        budget_bytes=budget_bytes,
        dtype=task.dtype,
        pass_blocks=(task.sides[0].pass_block, task.sides[1].pass_block),
        notes=tuple(dict.fromkeys(reason for row in leaves for leaf in row for reason in leaf.fallbacks)),
        panels=panels,
        joined=joined,
        shape_key=task.shape_key,
    )


_JOINED_BYTES = 16 << 20  # examples and factors of both sides up to which one pass for both is faster than two


def _joined_bytes(task: Task, device: Device) -> int | None:
    """Bytes that one pass for both sides takes beside two passes' factors, where it is faster; else None.

    Where leaves are condensed it has to be a pass over all examples of either side as well, and one that is no slower
    for being larger.
    """
    if task.joined_bytes is None or not all(side.n for side in task.sides):
        return None
    sources = [side.made_of or side for side in task.sides]
    made = task.joined_bytes + sum(s.n * (s.activation_bytes + s.cotangent_bytes) for s in sources)
    condenses = any(side.made_of is not None for side in task.sides)
    if made > max(0 if condenses else _JOINED_BYTES, device.pass_bytes):
        return None
    if any(0 < side.pass_block < side.n for side in task.sides):
        return None
    # Both sides' examples and factors once more: together, and apart.
    beside = task.joined_bytes + sum(s.n * (s.activation_bytes + s.cotangent_bytes) for s in task.sides)
    if condenses:
        beside += sum(factor_bytes(source, source.n, 1.0) for source in sources)
    return beside


@dataclass(frozen=True, slots=True)
class _Counts:
    """How often things happen in a plan: tiles, and per side the examples whose factors are made, repeats included."""

    tiles: int
    examples: tuple[float, float]


def _counts(task: Task, tile: tuple[int, int], seeds: tuple[int, int]) -> _Counts:
    n1, n2 = (side.n for side in task.sides)
    rows, columns = (math.ceil(n / t) for n, t in zip((n1, n2), tile, strict=True))
    share1, share2 = _seed_shares(task, seeds)
    wanted = task.pairs[0].wanted
    joint = seeds != (0, 0) and wanted.blocked[0] == wanted.blocked[1]
    blocks = round(1 / share1) if joint else round(1 / share1) * round(1 / share2)
    if wanted.paired:
        return _Counts(rows * blocks, (n1 * blocks * share1, n2 * blocks * share2))
    if task.triangle and rows > 1:
        return _Counts(rows * (rows + 1) // 2 * blocks, (n1 * blocks * share1, n2 * (rows + 1) / 2 * blocks * share2))
    again = rows if columns > 1 else 1
    return _Counts(rows * columns * blocks, (n1 * blocks * share1, n2 * again * blocks * share2))


def _seed_sizes(wanted: Wanted, seeds: tuple[int, int]) -> dict[str, int]:
    """Sizes of the output axes that are cut into blocks."""
    return {label: size for label, size in zip(wanted.blocked, seeds, strict=True) if label is not None and size}


def _seed_shares(task: Task, seeds: tuple[int, int]) -> tuple[float, float]:
    """Share of each side's seeds that a block holds."""
    wanted = task.pairs[0].wanted
    sizes = dict(wanted.sizes)
    first, second = (
        size / sizes[label] if size and label is not None else 1.0
        for label, size in zip(wanted.blocked, seeds, strict=True)
    )
    return first, second


def factor_bytes(side: SideShapes, n: int, seed_share: float) -> int:
    """Bytes of the factors of n examples for a share of their seeds, with the workspace of the pass that makes them."""
    if side.made_of is not None:
        held = int(n * (2 * side.activation_bytes + side.cotangent_bytes * seed_share))
        # Blocks are laid side by side at the end, when the pass is over.
        return held + max(factor_bytes(side.made_of, min(n, side.pass_block or n), seed_share), held)
    cotangents = side.cotangent_bytes + _WORKSPACE * side.largest_bytes
    return int(n * (2 * side.activation_bytes + cotangents * seed_share))


_CALLS_PER_USE = 40  # array operations of a pass, forward and backward, for each use of a leaf


def _pass_s(side: SideShapes, tile: int, seed_share: float, device: Device) -> float:
    """Seconds of one example's share of a pass: its arithmetic, what it leaves in memory, and its calls.

    Cotangents of all examples of a pass are written and read again; where the pass takes a few examples only, they stay
    in cache.
    """
    source = side.made_of or side
    block = max(min(tile, side.pass_block or tile), 1)
    one = source.activation_bytes + source.cotangent_bytes * seed_share
    traffic_s = device.copy_s(2 * one, block * one)
    return side.pass_flops / device.flops_per_s + traffic_s + _CALLS_PER_USE * len(source.uses) * device.call_s / block


def _leaf_plan(task: Task, position: int, component: Component, choice: Choice) -> LeafPlan:
    path = task.leaves[component.leaf][0]
    kinds: dict[str, None] = {}
    fallbacks: dict[str, None] = {}
    for side, factors in zip(task.sides, (component.left, component.right), strict=True):
        for kind in _kinds(side, component, factors):
            kinds[type(kind).__name__] = None
            if isinstance(kind, Identity):
                fallbacks[f"{path}: {kind.reason}"] = None
    return LeafPlan(path, position, choice, tuple(kinds), tuple(fallbacks))


def _kinds(side: SideShapes, component: Component, factors: Sequence[Factor]) -> list[Kind]:
    """Kinds of the uses of a component; of a condensed leaf, those of the uses that its rows are made of."""
    uses = [side.uses[factor.use] for factor in factors]
    is_condensed = side.made_of is not None and not any(use in side.made_of.uses for use in uses)
    if side.made_of is not None and is_condensed:
        uses = [use for use in side.made_of.uses if use.leaf == component.leaf]
    return [use.kind for use in uses]


def _refuse_fallbacks(task: Task) -> None:
    found = [
        f"{task.leaves[use.leaf][0]}: {use.kind.reason}"
        for side in task.sides
        for use in side.uses
        if isinstance(use.kind, Identity)
    ]
    if found:
        listed = "; ".join(dict.fromkeys(found))
        raise UnsupportedError(
            f"Structured(strict=True), but these parameters are used in ways that have no structured rule: {listed}. "
            "Fix: pass Structured() to compute their rows per example, which is exact, or register a rule."
        )


def _matrix_free(task: Task, block: int | None, budget_bytes: int, device: Device) -> Plan:
    """Rows of side 2 in blocks, each one backward pass through it and one forward pass through side 1's tiles."""
    side1, side2 = task.sides
    longest = max(1, *(_last_axis(pair.wanted) for pair in task.pairs))
    tile = max(side1.n, 1)
    while tile > 1 and min(block or 1, longest) * _pushed_bytes(task, tile) > budget_bytes:
        tile = _fewer(side1.n, tile)
    per_row = _pushed_bytes(task, tile)
    rows = min(block or max(1, budget_bytes // max(2 * per_row, 1)), longest)
    passes = max(side2.n, 1) * max(side2.seed_total, 1)
    pass_flops = (side1.n * side1.pass_flops) // (side1.seed_total + 1) + side2.pass_flops // (side2.seed_total + 1)
    flops = 2 * passes * max(pass_flops, task.variable_bytes)
    calls = math.ceil(passes / rows) * math.ceil(max(side1.n, 1) / tile) * 2 * _CALLS_PER_USE * (len(side1.uses) + 1)
    moved_s = passes * device.copy_s(6 * task.variable_bytes, task.variable_bytes)
    return Plan(
        method="matrix-free",
        examples=(side1.n, side2.n),
        tile=(tile, 1),
        seed_block=(0, 0),
        block=rows,
        leaves=(),
        hermitian=False,
        flops=flops,
        seconds=2 * flops / device.flops_per_s + moved_s + calls * device.call_s,
        peak_bytes=rows * per_row,
        budget_bytes=budget_bytes,
        dtype=task.dtype,
        shape_key=task.shape_key,
    )


def _last_axis(wanted: Wanted) -> int:
    """Size of the last output axis that side 2's seeds span: blocks of rows are cut along it."""
    return dict(wanted.sizes)[wanted.seeds2[-1]] if wanted.seeds2 else 1


def _pushed_bytes(task: Task, tile: int) -> int:
    """Bytes of one row on its way: pulled back to the variable, and pushed forward through a tile of side 1."""
    side = task.sides[0]
    outputs = sum(struct_bytes(struct) for struct in side.outputs) // max(side.n, 1)
    # What lies between uses is there with its tangent.
    within = 2 * _WORKSPACE * side.within_bytes
    forward = (side.cotangent_bytes + within) // max(side.seed_total, 1) + 2 * side.activation_bytes
    return 4 * task.variable_bytes + tile * (forward + 4 * outputs)

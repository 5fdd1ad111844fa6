"""Makes a plan: prices the methods that were asked for, and takes the cheapest that fits the budget."""

from __future__ import annotations

import math

from jacgram.core.dtypes import itemsize
from jacgram.core.sizes import format_bytes
from jacgram.core.uses import Identity
from jacgram.errors import BudgetError, UnsupportedError
from jacgram.plan.choose import Choice, choose
from jacgram.plan.components import Component
from jacgram.plan.device import Device
from jacgram.plan.plan import LeafPlan, Plan
from jacgram.plan.strategies import Auto, Materialize, MatrixFree, Method, Structured
from jacgram.plan.task import SideShapes, Task, struct_bytes

_WORKSPACE = 3  # live copies of the largest per-example array during a backward pass, beside what is kept


def make_plan(task: Task, method: Method, budget_bytes: int, device: Device) -> Plan:
    """The plan for a task.

    Raises:
        BudgetError: nothing that ``method`` allows fits; the message names the smallest budget that would.
        UnsupportedError: ``Structured(strict=True)`` and a use without structure.
    """
    match method:
        case Structured(strict):
            if strict:
                _refuse_fallbacks(task)
            options = [_structured(task, "structured", budget_bytes, device)]
        case Materialize():
            options = [_structured(task, "materialize", budget_bytes, device)]
        case MatrixFree(block):
            options = [_matrix_free(task, block, budget_bytes, device)]
        case Auto():
            options = [
                _structured(task, "structured", budget_bytes, device),
                _matrix_free(task, None, budget_bytes, device),
            ]
    fitting = [plan for plan in options if plan.peak_bytes <= budget_bytes]
    if not fitting:
        smallest = min(plan.peak_bytes for plan in options)
        raise BudgetError(
            f"no plan by {method} fits memory={format_bytes(budget_bytes)}: the smallest needs {smallest} bytes. "
            f'Fix: pass memory="{math.ceil(smallest / 2**20)}MiB" or more, or method=Auto().'
        )
    return min(fitting, key=lambda plan: plan.seconds)


def _structured(task: Task, name: str, budget_bytes: int, device: Device) -> Plan:
    """Tiles as large as the budget allows, contractions chosen for what it leaves."""
    n1, n2 = (side.n for side in task.sides)
    tile = (max(n1, 1), max(n2, 1))
    plan = _tiled(task, name, tile, budget_bytes, device)
    while plan.peak_bytes > budget_bytes and max(tile) > 1:
        tile = (_fewer(n1, tile[0]), tile[1]) if tile[0] >= tile[1] else (tile[0], _fewer(n2, tile[1]))
        if task.hermitian:
            tile = (tile[0], tile[0]) if n1 else tile
        plan = _tiled(task, name, tile, budget_bytes, device)
    return plan


def _fewer(n: int, size: int) -> int:
    """The next smaller tile that splits n examples evenly, up to rounding."""
    tiles = math.ceil(n / size)
    while math.ceil(n / tiles) >= size:
        tiles += 1
    return math.ceil(n / tiles)


def _tiled(task: Task, name: str, tile: tuple[int, int], budget_bytes: int, device: Device) -> Plan:
    size = itemsize(task.dtype)
    counts = [math.ceil(side.n / t) for side, t in zip(task.sides, tile, strict=True)]
    one_tile = counts == [1, 1] or counts == [0, 0]
    held = factor_bytes(task.sides[0], tile[0])
    if not (task.hermitian and one_tile):
        held += factor_bytes(task.sides[1], tile[1])
    leaves: list[tuple[LeafPlan, ...]] = []
    peak, flops, seconds = 0, 0, 0.0
    for pair in task.pairs:
        wanted = pair.wanted.with_examples(*tile)
        block = math.prod(wanted.block_shape) * size
        allowed = max(budget_bytes - held - 2 * block, 0)
        chosen = [
            _leaf_plan(task, position, component, choose(component, wanted, device, size, allowed))
            for position, component in enumerate(task.components)
        ]
        leaves.append(tuple(chosen))
        peak = max(peak, 2 * block + max((leaf.choice.peak_bytes for leaf in chosen), default=0))
        flops += sum(leaf.choice.flops for leaf in chosen)
        seconds += sum(leaf.choice.seconds for leaf in chosen)
    tiles = counts[0] * counts[1]
    if task.triangle and counts[0] > 1:
        tiles = counts[0] * (counts[0] + 1) // 2
    notes = tuple(dict.fromkeys(reason for row in leaves for leaf in row for reason in leaf.fallbacks))
    return Plan(
        name,
        (task.sides[0].n, task.sides[1].n),
        tile,
        (0, 0),
        0,
        tuple(leaves),
        task.hermitian,
        flops * tiles,
        seconds * tiles,
        peak + held,
        budget_bytes,
        task.dtype,
        notes,
    )


def factor_bytes(side: SideShapes, n: int) -> int:
    """Bytes of the factors of n examples, with the workspace of the backward pass that makes them."""
    return n * (side.example_bytes + _WORKSPACE * side.largest_bytes)


def _leaf_plan(task: Task, position: int, component: Component, choice: Choice) -> LeafPlan:
    path = task.leaves[component.leaf][0]
    kinds: dict[str, None] = {}
    fallbacks: dict[str, None] = {}
    for side, factors in zip(task.sides, (component.left, component.right), strict=True):
        for factor in factors:
            assert side.uses is not None
            kind = side.uses[factor.use].kind
            kinds[type(kind).__name__] = None
            if isinstance(kind, Identity):
                fallbacks[f"{path}: {kind.reason}"] = None
    return LeafPlan(path, position, choice, tuple(kinds), tuple(fallbacks))


def _refuse_fallbacks(task: Task) -> None:
    found = [
        f"{task.leaves[use.leaf][0]}: {use.kind.reason}"
        for side in task.sides
        for use in side.uses or ()
        if isinstance(use.kind, Identity)
    ]
    if found:
        listed = "; ".join(dict.fromkeys(found))
        raise UnsupportedError(
            f"Structured(strict=True), but these parameters are used in ways that have no structured rule: {listed}. "
            "Fix: pass Structured() to compute their rows per example, which is exact, or register a rule."
        )


def _matrix_free(task: Task, block: int | None, budget_bytes: int, device: Device) -> Plan:
    """Rows of side 2 in blocks, each one backward pass through it and one forward pass through side 1."""
    side1, side2 = task.sides
    rows = max(side2.seed_total, 1)
    per_row = 3 * task.variable_bytes + 4 * _output_bytes(side1)
    chosen = block or max(1, min(rows, budget_bytes // (2 * max(per_row, 1))))
    chosen = min(chosen, rows)
    passes = max(side2.n, 1) * rows
    entries = task.variable_bytes // 4 + 1
    flops = 6 * passes * entries * (max(side1.n, 1) + 1)
    seconds = 4 * flops / device.flops_per_s + math.ceil(passes / chosen) * 20 * device.call_s
    return Plan(
        "matrix-free",
        (side1.n, side2.n),
        (max(side1.n, 1), 1),
        (0, 0),
        chosen,
        (),
        False,
        flops,
        seconds,
        chosen * per_row,
        budget_bytes,
        task.dtype,
    )


def _output_bytes(side: SideShapes) -> int:
    return sum(struct_bytes(struct) for struct in side.outputs)



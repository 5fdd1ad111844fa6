"""Which examples make one tile of a stored kernel, and by which Plan each tile is computed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jacgram.core.dtypes import itemsize
from jacgram.errors import ArgumentError, BudgetError
from jacgram.operator.compute import figures, make_task
from jacgram.operator.tiles import LazyKernel, sized
from jacgram.plan.device import Device
from jacgram.plan.make import make_plan
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import MatrixFree, Structured
from jacgram.plan.task import Task
from jacgram.store.grid import TileGrid

_TILE_BYTES = 12 << 20
"""Largest tile that is chosen: what a kill can cost, and what workers share out, should be small beside the kernel."""
_COPIES = 2
"""Copies of a tile, beside those of its computation, while it is written: its mirror image, and what is encoded."""

_ARRAYS_SHARE = 0.6
"""Share of the budget that goes to arrays. The rest is what frameworks take beside them: packed operands of products,
which may be as large as the operands, compiled programs, freed memory not returned yet. (Measured on two cores: 1.5
times the arrays of a convolutional network, and 45 MiB for programs.)"""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How a kernel is cut.

    Attributes:
        tile: examples of side 1 and of side 2 in one tile.
        plan: the plan of one tile.
        task: the task of one example of each side.
        examples: number of examples of side 1 and of side 2.
    """

    tile: tuple[int, int]
    plan: Plan
    task: Task
    examples: tuple[int, int]

    @property
    def symmetric(self) -> bool:
        """Whether tiles below the diagonal are mirror images."""
        return self.task.triangle and self.tile[0] == self.tile[1]

    @property
    def grid(self) -> TileGrid:
        """The tiles."""
        return TileGrid(self.examples, self.tile, self.symmetric, self.task.pairs[0].wanted.paired)

    def clipped(self, tile: int | tuple[int, int]) -> tuple[int, int]:
        """A tile as the caller gives it, as it would be for these examples."""
        return _checked(tile, self.examples, self.task)

    @property
    def needed_bytes(self) -> int:
        """Memory by which a process grows that computes and writes tiles."""
        arrays = self.plan.peak_bytes + _COPIES * tile_bytes(self.task, self.tile)
        return math.ceil(arrays / _ARRAYS_SHARE)


def tile_bytes(task: Task, tile: tuple[int, int]) -> int:
    """Bytes of one tile."""
    return math.prod(task.pairs[0].wanted.with_examples(*tile).shape) * itemsize(task.dtype)


def choose_tiling(kernel: LazyKernel, tile: int | tuple[int, int] | None, memory_bytes: int) -> Tiling:
    """The tiling for a budget.

    Args:
        kernel: what to compute.
        tile: examples per side; None for the largest tile, up to 12 MiB, that is computed in one piece within budget.
        memory_bytes: the budget, the writing of a tile included.

    Raises:
        BudgetError: no tile fits.
        ArgumentError: ``tile`` is no positive number or pair of them.
    """
    n = (kernel.left.n, kernel.right.n)
    request = kernel.request()
    task, device = make_task(request, kernel.method), figures(request, kernel.method)
    if tile is not None:
        return _planned(kernel, device, task, _checked(tile, n, task), memory_bytes)
    chosen = _largest(task, n)
    while True:
        smallest = max(chosen) <= 1
        try:
            tiling = _planned(kernel, device, task, chosen, memory_bytes)
            if smallest or _is_whole(kernel, device, tiling, memory_bytes):
                return tiling
        except BudgetError:
            if smallest:
                raise
        chosen = _smaller(n, chosen)


def given_tiling(kernel: LazyKernel, tile: tuple[int, int], plan: Plan) -> Tiling:
    """A tiling decided before."""
    return Tiling(tile, plan, make_task(kernel.request(), kernel.method), (kernel.left.n, kernel.right.n))


def _planned(kernel: LazyKernel, device: Device, task: Task, tile: tuple[int, int], memory_bytes: int) -> Tiling:
    plan = make_plan(sized(task, tile), kernel.method, _allowed(task, tile, memory_bytes), device)
    return Tiling(tile, plan, task, (kernel.left.n, kernel.right.n))


def _allowed(task: Task, tile: tuple[int, int], memory_bytes: int) -> int:
    """What is left of a budget for the computation of a tile."""
    return max(1, math.floor(memory_bytes * _ARRAYS_SHARE) - _COPIES * tile_bytes(task, tile))


def _is_whole(kernel: LazyKernel, device: Device, tiling: Tiling, memory_bytes: int) -> bool:
    """Whether tiles need not be smaller: they are computed in one piece, or piece by piece because that is faster."""
    if tiling.plan.one_tile or isinstance(kernel.method, MatrixFree):
        return True
    if tiling.plan.method != "matrix-free":
        return False
    allowed = _allowed(tiling.task, tiling.tile, memory_bytes)
    try:
        other = make_plan(sized(tiling.task, tiling.tile), Structured(), allowed, device)
    except BudgetError:
        return False
    return other.one_tile


def _checked(tile: int | tuple[int, int], n: tuple[int, int], task: Task) -> tuple[int, int]:
    pair = tile if isinstance(tile, tuple) else (tile, tile)
    if len(pair) != 2 or not all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in pair):
        raise ArgumentError(f"tile must be a positive number of examples, or a pair of them, got {tile!r}.")
    if task.pairs[0].wanted.paired and pair[0] != pair[1]:
        raise ArgumentError(f"tile={tile!r}: the pattern pairs examples of both sides. Fix: pass one number.")
    return _clipped(pair, n)


def _clipped(tile: tuple[int, int], n: tuple[int, int]) -> tuple[int, int]:
    return max(1, min(tile[0], n[0])), max(1, min(tile[1], n[1]))


def _largest(task: Task, n: tuple[int, int]) -> tuple[int, int]:
    """The largest even tile within `_TILE_BYTES`; square, but for a side with fewer examples."""
    tile = _clipped((max(n), max(n)), n)
    while tile_bytes(task, tile) > _TILE_BYTES and max(tile) > 1:
        tile = _smaller(n, tile)
    return tile


def _smaller(n: tuple[int, int], tile: tuple[int, int]) -> tuple[int, int]:
    """A tile of about seven tenths of the larger side, cutting its examples evenly."""
    size = max(tile)
    total = max(n)
    pieces = max(math.ceil(total / size) + 1, math.ceil(total / max(1, 0.7 * size)))
    smaller = min(math.ceil(total / pieces), size - 1)
    return _clipped((smaller, smaller), n)

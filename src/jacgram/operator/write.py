"""Kernels written tile by tile: find or begin the store, run what is missing, and leave nothing half done.

What is stored is decided once, when the store is begun: the tiles and their Plan are in its header, and a resumed or
distributed run follows them, so that every tile has the same bits whoever computes it.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jacgram.core.dtypes import real_dtype
from jacgram.core.patterns import Labels, Pattern, full_labels
from jacgram.core.sizes import format_bytes, parse_bytes
from jacgram.errors import ArgumentError, BudgetError, IncompleteKernelError, PatternError, StoreError
from jacgram.execute.events import Listener, RunFinished, RunStarted, broadcast, listeners_of
from jacgram.execute.progress import ProgressBar
from jacgram.execute.work import Executor, Failure, describe
from jacgram.operator.blocks import Examples
from jacgram.operator.fingerprint import fingerprint, require_same, versions
from jacgram.operator.stored import plan_of
from jacgram.operator.tile_work import TileWork
from jacgram.operator.tiles import LazyKernel, sized
from jacgram.operator.tiling import Tiling, choose_tiling, given_tiling
from jacgram.plan.strategies import Auto, Materialize, Method, check_method
from jacgram.store.grid import Tile, TileGrid
from jacgram.store.header import Header
from jacgram.store.select import kernel_store

if TYPE_CHECKING:
    from jacgram.store.kernel_store import KernelStore


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How a kernel is written; see `GramOperator.write`."""

    tile: int | tuple[int, int] | None
    memory: int | str | None
    executor: Executor
    resume: bool
    overwrite: bool
    verify: bool
    progress: Any


def write_kernel(store: Any, kernel: LazyKernel, pattern: str | None, options: WriteOptions) -> Any:
    """Writes a kernel, or what is missing of it; the complete `zarr.Array`, opened for reading."""
    if isinstance(options.executor, type) or not hasattr(options.executor, "run"):
        raise ArgumentError(f"executor must be Serial() or Dask(client), got {options.executor!r}.")
    emit = broadcast(listeners_of(options.progress, ProgressBar))
    stores = kernel_store()
    found = stores.find(store, read_only=False)
    if found is not None and options.overwrite:
        found.clear()
        found = None
    work = _begun(store, kernel, pattern, options) if found is None else _resumed(found, kernel, options)
    if options.verify:
        for tile in work.stored.damaged():
            work.stored.manifest.forget(tile)
    _run(work, options.executor, emit)
    finished = stores.find(store, read_only=True)
    assert finished is not None
    return finished.array


def lazy_kernel(
    framework: str,
    sides: tuple[Examples, Examples],
    pattern: str | None,
    *,
    conjugate: bool,
    outer: bool,
    accumulate: str | None,
    method: Method,
) -> LazyKernel:
    """A kernel to be written, checked.

    Raises:
        ArgumentError: y is a tree, or J is taken with respect to x.
        PatternError: the pattern does not fit, or sums over examples.
        InteractingExamplesError: an example's output depends on another example.
    """
    samples = [examples.sample() for examples in (sides[:1] if sides[0] is sides[1] else sides)]
    for side in samples:
        if not side.has_examples:
            raise ArgumentError(
                "write() stores kernels of examples, and J is taken with respect to x here. Fix: dense() or matrix()."
            )
        if len(side.outputs) != 1:
            raise ArgumentError(
                f"write() stores one array, and y has {len(side.outputs)} leaves ({', '.join(side.output_paths)}). "
                "Fix: let f return one of them, and write each to a store of its own."
            )
        side.check_examples()
    shapes = [(e.n, *samples[min(k, len(samples) - 1)].outputs[0].shape[1:]) for k, e in enumerate(sides)]
    labels = (
        full_labels(len(shapes[0]), len(shapes[1]), examples=True)
        if pattern is None
        else Pattern.parse(pattern).fit(shapes[0], shapes[1], examples=True)
    )
    if labels.left[0] not in labels.out or labels.right[0] not in labels.out:
        raise PatternError(
            f"pattern {pattern!r} sums over examples, and a stored kernel is tiled by them. "
            "Fix: dense(pattern), whose result is small."
        )
    if isinstance(method, Auto) and not all(side.steady for side in samples):
        method = Materialize()  # each tile may have uses of its own, and all are planned for alike
    return LazyKernel(framework, *sides, labels, conjugate, outer, accumulate, check_method(method))


# Beginning and going on ---------------------------------------------------------------------------------------------


def _begun(store: Any, kernel: LazyKernel, pattern: str | None, options: WriteOptions) -> TileWork:
    budget = _budget(kernel, options)
    tiling = choose_tiling(kernel, options.tile, budget)
    stored = kernel_store().create(store, _header(kernel, pattern, tiling))
    return TileWork(kernel, tiling.plan, budget - tiling.needed_bytes, stored)


def _resumed(stored: KernelStore, kernel: LazyKernel, options: WriteOptions) -> TileWork:
    """Goes on with what the store says, once it is known to be this kernel."""
    header, where = stored.header, stored.where
    if not options.resume:
        raise StoreError(
            f"{where} holds a kernel already. Fix: pass resume=True to go on with it, or overwrite=True to replace it."
        )
    plan = plan_of(stored)
    require_same(header, kernel, plan, where)
    tiling = given_tiling(kernel, header.tile, plan)
    if options.tile is not None and tiling.clipped(options.tile) != header.tile:
        raise StoreError(
            f"{where} is cut into tiles of {header.tile}, and tile is {options.tile!r}. Fix: leave tile out, or pass "
            "overwrite=True to begin anew."
        )
    budget = _budget(kernel, options)
    if options.memory is not None and tiling.needed_bytes > budget:
        raise BudgetError(
            f"{where} was planned for tiles that need {format_bytes(tiling.needed_bytes)}, and memory is "
            f"{format_bytes(budget)}. Fix: allow as much, or pass overwrite=True for smaller tiles."
        )
    return TileWork(kernel, plan, max(0, budget - tiling.needed_bytes), stored)


def _budget(kernel: LazyKernel, options: WriteOptions) -> int:
    if options.memory is None:
        return kernel.request().xp.free_bytes() // 2
    return parse_bytes(options.memory)


def _header(kernel: LazyKernel, pattern: str | None, tiling: Tiling) -> Header:
    n = (kernel.left.n, kernel.right.n)
    wanted = sized(tiling.task, n).pairs[0].wanted
    request = kernel.request()
    real = any(side.real_part for side in request.sides)
    names = _names(kernel.labels)
    return Header(
        kernel_id=uuid.uuid4().hex,
        pattern=pattern,
        left=tuple(names[x] for x in kernel.labels.left),
        right=tuple(names[x] for x in kernel.labels.right),
        out=tuple(names[x] for x in kernel.labels.out),
        shape=wanted.shape,
        dtype=real_dtype(request.result_dtype) if real else request.result_dtype,
        examples=n,
        tile=tiling.tile,
        mirror=wanted.swapped(wanted) if tiling.symmetric else None,
        conjugate=kernel.conjugate,
        plan=tiling.plan.to_json(),
        fingerprint=fingerprint(kernel, tiling.plan),
        versions=versions(kernel.framework),
    )


def _names(labels: Labels) -> dict[str, str]:
    """Names of the array's dimensions: the pattern's own; without one, n and m for examples, i and j for outputs."""
    if labels.left[0] != "l0":
        return {x: x.replace("...", "axis") for x in (*labels.left, *labels.right)}
    many = max(len(labels.left), len(labels.right)) > 2
    named = {"l0": "n", "r0": "m"}
    for letter, mine in (("i", labels.left), ("j", labels.right)):
        named |= {x: f"{letter}{axis}" if many else letter for axis, x in enumerate(mine[1:], start=1)}
    return named


# Running ------------------------------------------------------------------------------------------------------------


def _run(work: TileWork, executor: Executor, emit: Listener) -> None:
    stored, grid = work.stored, work.stored.header.grid
    stored.settle_all()
    done = set(stored.done())
    pending = [tile for tile in grid.tiles() if tile not in done]
    emit(RunStarted(stored.where, len(grid), len(done), type(executor).__name__))
    begun = time.perf_counter()
    failures: Sequence[Failure] = ()
    try:
        if pending:
            failures = executor.run(work, pending, emit)
        stored.settle_all()
    finally:
        left = _missing(stored, grid)
        emit(RunFinished(len(grid), len(grid) - len(left), len(failures), time.perf_counter() - begun))
    if failures:
        raise _failed(stored, grid, failures) from failures[0].cause
    if left:
        raise IncompleteKernelError(f"{stored.where}: {len(left)} of {len(grid)} tiles were not computed: {left[:3]}.")


def _missing(stored: KernelStore, grid: TileGrid) -> list[Tile]:
    recorded = set(stored.manifest.tiles())
    return [tile for tile in grid.tiles() if tile not in recorded]


def _failed(stored: KernelStore, grid: TileGrid, failures: Sequence[Failure]) -> IncompleteKernelError:
    first = failures[0]
    (start1, size1), (start2, size2) = grid.block(1, first.tile[0]), grid.block(2, first.tile[1])
    more = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return IncompleteKernelError(
        f"{len(failures)} of {len(grid)} tiles of {stored.where} failed; the others are stored. Tile "
        f"{first.tile}{more}, examples {start1} to {start1 + size1 - 1} of x1 and {start2} to {start2 + size2 - 1} of "
        f"x2: {describe(first.cause)}. Fix: mend the cause, and run the same call again: it resumes."
    )

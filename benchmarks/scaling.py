"""What a large stored kernel costs on 1, 8 and 64 devices: from plans, by formula, and by simulating the scheduler.

    python -m benchmarks.scaling            figures of docs/scale.md: plans for a device given by its figures
    python -m benchmarks.scaling measure    the same simulation on tile times measured here, beside a measured run

The simulation hands out tiles with the queue that `jacgram.Dask` uses, and keeps factors by the rule of
`jacgram.operator.tiles`: blocks beside the two at hand as far as the budget goes, least recently used dropped first.
"""

from __future__ import annotations

import heapq
import sys
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

import jacgram
from benchmarks.models_jax import MODELS
from jacgram.api import tile_plan
from jacgram.core.sizes import format_bytes
from jacgram.execute.rows import RowQueue
from jacgram.store.grid import TileGrid

# A data-centre accelerator by its data sheet: 60 TFLOP/s of float32 products, 3 TB/s.
ACCELERATOR = jacgram.Device(
    "60 TFLOP/s, 3 TB/s",
    products=((1, 6e11), (4, 2.4e12), (16, 9e12), (64, 3e13), (256, 5e13), (1024, 6e13)),
    copies=((1e6, 1e12), (1e8, 3e12)),
    call_s=5e-6,
)
HOST_BYTES_PER_S = 3e9  # a tile leaves the device, is turned, and goes to the page cache; the disk works meanwhile
TASK_S = 2e-3  # what a worker loses between two tasks


@dataclass(frozen=True)
class Costs:
    """Seconds of one block's factors, of one tile's contraction, and of what else a tile takes."""

    factor_s: float
    tile_s: float
    write_s: float

    def of(self, grid: TileGrid, factors: int, workers: int) -> float:
        """The formula: all the work there is, shared evenly."""
        return (len(grid) * (self.tile_s + self.write_s) + factors * self.factor_s) / workers


def simulate(grid: TileGrid, costs: Costs, workers: int, kept: int) -> tuple[float, int]:
    """Seconds until the last tile is written, and how many times factors of a block were computed.

    ``kept`` blocks fit beside the two at hand.
    """
    rows = RowQueue(grid.tiles())
    caches: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(workers)]
    free = [(0.0, worker) for worker in range(workers)]
    computed, end = 0, 0.0
    while free:
        now, worker = heapq.heappop(free)
        tile = rows.take(worker)
        if tile is None:
            end = max(end, now)
            continue
        cache, seconds = caches[worker], costs.tile_s + costs.write_s
        for block in dict.fromkeys(tile):
            if block not in cache:
                computed += 1
                seconds += costs.factor_s
            cache[block] = None
            cache.move_to_end(block)
            for spare in [b for b in cache if b not in tile][: max(0, len(cache) - len(set(tile)) - kept)]:
                del cache[spare]
        heapq.heappush(free, (now + seconds, worker))
    return end, computed


def paper(name: str, n: int, pattern: str | None, **sizes: Any) -> None:
    """One kernel on a device given by its figures."""
    f, params, make_x = MODELS[name](**sizes)
    x = np.broadcast_to(make_x(1, 0), (n, *make_x(1, 0).shape[1:]))
    tiling, shape, n_bytes = tile_plan(
        f, x, params=params, pattern=pattern, method=jacgram.Auto(device=ACCELERATOR), memory="60GiB"
    )
    plan, grid, side = tiling.plan, tiling.grid, tiling.task.sides[0]
    factor_s = side.pass_flops * grid.tile[0] / ACCELERATOR.flops_per_s
    block_bytes = (side.activation_bytes + side.cotangent_bytes) * grid.tile[0]
    spare = int((60 << 30) * 0.6 - plan.peak_bytes)
    kept = max(0, spare // block_bytes)
    costs = Costs(factor_s, plan.seconds - 2 * factor_s, 2 * n_bytes / grid.counts[0] ** 2 / HOST_BYTES_PER_S + TASK_S)
    print(f"{name}, {shape}: {format_bytes(n_bytes)}, {grid.counts[0]}² tiles of {grid.tile[0]}², {len(grid)} computed")
    print(f"  tile {plan.flops / 1e12:.3g} TFLOP, {costs.tile_s * 1e3:.3g} ms, {format_bytes(plan.peak_bytes)}")
    print(
        f"  factors of a block {factor_s * 1e3:.3g} ms, {format_bytes(block_bytes)}; {kept} blocks are kept beside two"
    )
    per_byte = side.pass_flops / (side.activation_bytes + side.cotangent_bytes)
    print(f"  {per_byte:.3g} operations for each byte of factors; {format_bytes(_sent_bytes(params))} of parameters")
    x_bytes = x[0].nbytes * grid.tile[0]
    for workers in (1, 8, 64):
        nothing = 2 * len(grid) - grid.counts[0]
        print(f"  {workers} devices: {costs.of(grid, nothing, workers):.4g} s with {nothing} factors if none were kept")
        for label, keep in (("two blocks", 0), ("what fits", kept)):
            seconds, factors = simulate(grid, costs, workers, keep)
            ratio = seconds / costs.of(grid, factors, workers)
            print(f"    {label}: {seconds:.4g} s, {factors} factors, {ratio:.3f} of the formula, "
                  f"reads {format_bytes(factors * x_bytes)}, writes {format_bytes(n_bytes / seconds)}/s")  # fmt: skip


def _sent_bytes(params: Any) -> int:
    leaves: list[Any] = [params]
    total = 0
    while leaves:
        item = leaves.pop()
        if hasattr(item, "nbytes"):
            total += item.nbytes
        else:
            leaves.extend(item.values() if isinstance(item, dict) else item)
    return total


def measure(n: int = 1797, memory: str = "256MiB") -> None:
    """The demo's network on all digits: a measured run, and the simulation of it from its own times."""
    from jacgram.demo import digits
    from jacgram.operator.tiles import TileKernel

    times: dict[str, list[float]] = {"factors": [], "tile": []}
    compute = TileKernel._computed

    def timed(self: TileKernel, position: int, block: tuple[int, int]) -> object:
        begun = time.perf_counter()
        found = compute(self, position, block)
        for array in found.arrays:
            array.block_until_ready()
        times["factors"].append(time.perf_counter() - begun)
        return found

    TileKernel._computed = timed
    events: list[object] = []
    x = digits.load(0, train=n, held_out=0).images
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        jacgram.write_ntk(
            f"{folder}/k.zarr", digits.network, x, params=digits.initialise(0), memory=memory, progress=events.append
        )
        took = time.perf_counter() - begun
        kernel = jacgram.open_kernel(f"{folder}/k.zarr")
    finished = [event for event in events if isinstance(event, jacgram.execute.events.TileFinished)]
    factor_s = float(np.mean(times["factors"]))
    whole_s = float(np.mean([event.seconds for event in finished]))
    write_s = float(np.mean([event.write_seconds for event in finished]))
    grid = kernel.header.grid
    share = len(times["factors"]) / len(grid)
    costs = Costs(factor_s, whole_s - write_s - share * factor_s, write_s)
    print(f"{grid.counts[0]}² tiles of {grid.tile[0]}²: {costs}; {len(times['factors'])} factors computed")
    print(f"measured {took:.1f} s, of which tiles {sum(e.seconds for e in finished):.1f} s")
    for workers in (1, 2, 8, 64):
        for keep in (0, 3, grid.counts[0]):
            seconds, factors = simulate(grid, costs, workers, keep)
            ratio = seconds / costs.of(grid, factors, workers)
            figures = f"{seconds:.2f} s, {factors} factors, {ratio:.3f} of the formula"
            print(f"  {workers:>2} workers, {keep} kept: {figures}")


if __name__ == "__main__":
    if sys.argv[1:] == ["measure"]:
        measure()
    else:
        paper("resnet", 100_000, "n i, m i -> n m", stages=(32, 64, 128))
        paper("resnet", 10_000, None, stages=(32, 64, 128))

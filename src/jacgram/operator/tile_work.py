"""Tiles computed and stored: what an executor is given, and what it makes of that in each process."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jacgram.execute.events import TileFinished
from jacgram.execute.memory import give_back, peak_bytes
from jacgram.operator.tiles import LazyKernel, TileKernel
from jacgram.plan.plan import Plan
from jacgram.store.grid import Tile
from jacgram.store.manifest import Entry
from jacgram.store.settling import Settler

if TYPE_CHECKING:
    from jacgram.store.kernel_store import KernelStore


@dataclass(frozen=True, slots=True)
class TileWork:
    """All that is needed to compute and store tiles: a `jacgram.execute.work.Work`.

    Attributes:
        kernel: what to compute.
        plan: how, for one tile.
        cache_bytes: what factors of blocks may take beyond the plan's figure.
        stored: where to.
    """

    kernel: LazyKernel
    plan: Plan
    cache_bytes: int
    stored: KernelStore

    @property
    def is_shared(self) -> bool:
        """Whether other processes can reach the store."""
        return self.stored.is_shared

    def open(self) -> TileWorker:
        """The live state of one process."""
        return TileWorker(TileKernel(self.kernel, self.plan, self.cache_bytes), self.stored, Settler(self.stored))

    def outcome(self, tile: Tile) -> TileFinished | None:
        """What is recorded of a tile."""
        entry = self.stored.manifest.entry(tile)
        if entry is None:
            return None
        return TileFinished(tile, entry.seconds, entry.write_seconds, entry.n_bytes, entry.peak_bytes, entry.worker)


@dataclass(frozen=True, slots=True)
class TileWorker:
    """Computes and stores tiles in one process: a `jacgram.execute.work.Worker`."""

    kernel: TileKernel
    stored: KernelStore
    settler: Settler

    def run(self, tile: Tile) -> None:
        """Computes a tile, writes it, and records it; it settles while the next one is computed.

        Nothing is done where it is recorded: a cluster may have lost the news that it was finished.
        """
        if self.stored.manifest.entry(tile) is not None:
            return
        grid = self.stored.header.grid
        begun = time.perf_counter()
        block = np.ascontiguousarray(self.kernel.block(grid.block(1, tile[0]), grid.block(2, tile[1])))
        computed = time.perf_counter()
        n_bytes = self.stored.write(tile, block)
        written = time.perf_counter()
        entry = Entry(
            tile=tile,
            kernel_id=self.stored.header.kernel_id,
            checksum=self.stored.checksum(block),
            seconds=written - begun,
            write_seconds=written - computed,
            n_bytes=n_bytes,
            peak_bytes=peak_bytes(),
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )
        self.stored.record(entry)
        self.settler.add(entry)
        del block
        give_back()

    def close(self) -> None:
        """Waits until everything is durable."""
        self.settler.close()

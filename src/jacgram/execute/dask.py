"""Tiles on a Dask cluster that the caller brings: local processes, SSH, SLURM, Kubernetes.

The client hands out tiles, a few at a time to each worker thread, so that a worker stays on its block row. Tasks return
ids alone, and whether a tile is done is a question to the store's manifest: a worker that dies takes nothing with it
but the tiles it was at.
"""

from __future__ import annotations

import queue
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from jacgram.errors import ArgumentError, StoreError, StructureError
from jacgram.execute.events import Listener, Tile, TileFailed, TileRetried
from jacgram.execute.rows import RowQueue
from jacgram.execute.select import tile_plugin
from jacgram.execute.work import Failure, Work, describe

if TYPE_CHECKING:
    from jacgram.execute.plugin import TilePlugin

_POLL_S = 0.5  # how often workers that came or went are looked for
_AHEAD = 2  # tiles handed to a thread at once: it works at one while the next is on its way
_LOST = ("cancelled", "lost")

Lane = tuple[str, int]
"""A worker's address and one of its threads."""


@final
@dataclass(frozen=True, slots=True)
class Dask:
    """Tiles on the workers of a `dask.distributed` client.

    ``memory`` is then that of each worker thread. Workers need jacgram, the framework, and the store under the same
    path; data given as memory maps are reopened there by their path, all else is sent to each worker once.

    Attributes:
        client: a `distributed.Client`.
        resources: what one tile needs, as in ``{"GPU": 1}``; only workers that declare it get tiles.
        retries: how often a tile that raises is tried again before it is reported and the others go on.

    Raises:
        StructureError: client is no Dask client.

    Example:
        >>> import jacgram
        >>> from distributed import Client
        >>> with Client(n_workers=1, processes=False, dashboard_address=":0") as client:
        ...     jacgram.Dask(client, resources={"GPU": 1}).retries
        2
    """

    client: Any
    resources: Mapping[str, float] | None = None
    retries: int = 2

    def __post_init__(self) -> None:
        if not hasattr(self.client, "register_plugin") or not hasattr(self.client, "submit"):
            raise StructureError(f"client is {type(self.client).__name__}, expected a distributed.Client.")

    def run(self, work: Work, tiles: Sequence[Tile], emit: Listener) -> list[Failure]:
        """See `jacgram.execute.work.Executor`."""
        if not work.is_shared:
            raise ArgumentError("a store in memory cannot be reached by Dask workers. Fix: pass a path or a URL.")
        plugin_class, run_tile, pickled = tile_plugin()
        plugin: TilePlugin = plugin_class(f"jacgram-{uuid.uuid4().hex}", pickled(work))
        run = _Run(self, work, emit, plugin.name, run_tile, RowQueue(tiles))
        try:
            self.client.register_plugin(plugin, name=plugin.name)
            return run.all()
        except StoreError:
            raise
        except (OSError, TimeoutError) as error:
            raise run.lost(error) from error
        finally:
            run.close()


@dataclass(slots=True)
class _Run:
    """One run: what is in flight, and on which lanes."""

    executor: Dask
    work: Work
    emit: Listener
    name: str
    task: Any
    waiting: RowQueue
    in_flight: dict[Any, tuple[Tile, Lane]] = field(default_factory=dict[Any, tuple[Tile, Lane]])
    attempts: dict[Tile, int] = field(default_factory=dict[Tile, int])
    failures: list[Failure] = field(default_factory=list[Failure])
    lanes: list[Lane] = field(default_factory=list[Lane])
    finished: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue[Any])
    looked_s: float = float("-inf")

    def all(self) -> list[Failure]:
        """Runs until nothing is waiting or in flight."""
        while self.waiting or self.in_flight:
            if time.monotonic() - self.looked_s > _POLL_S:
                self._look_for_workers()
            self._hand_out()
            try:
                future = self.finished.get(timeout=_POLL_S)
            except queue.Empty:
                self._require_scheduler()
                continue
            self._settle(future)
        return self.failures

    # Lanes ----------------------------------------------------------------------------------------------------------

    def _look_for_workers(self) -> None:
        self._require_scheduler()
        workers = self.executor.client.scheduler_info(n_workers=-1)["workers"]
        found = [(address, k) for address, info in workers.items() for k in range(self._capacity(info))]
        if workers and not found and not self.in_flight:
            raise ArgumentError(
                f"none of the {len(workers)} Dask workers has the resources {dict(self.executor.resources or {})}. "
                "Fix: start workers with them, as in dask worker … --resources 'GPU=1'."
            )
        for lane in self.lanes:
            if lane not in found:
                self.waiting.release(lane)
        self.lanes = found
        self.looked_s = time.monotonic()

    def _capacity(self, info: Mapping[str, Any]) -> int:
        """How many tiles a worker can be at."""
        has = info.get("resources") or {}
        wanted = (self.executor.resources or {}).items()
        return min([info["nthreads"], *(int(has.get(name, 0) // amount) for name, amount in wanted if amount > 0)])

    def _hand_out(self) -> None:
        busy = dict.fromkeys(self.lanes, 0)
        for _, lane in self.in_flight.values():
            if lane in busy:
                busy[lane] += 1
        for depth in range(_AHEAD):
            for lane, count in busy.items():
                if count <= depth and (tile := self.waiting.take(lane)) is not None:
                    self._submit(tile, lane)
                    busy[lane] += 1

    def _submit(self, tile: Tile, lane: Lane) -> None:
        future = self.executor.client.submit(
            self.task,
            self.name,
            tile,
            key=f"{self.name}-{tile[0]}-{tile[1]}-{self.attempts.get(tile, 0)}",
            workers=[lane[0]],
            allow_other_workers=True,  # should that worker die
            resources=dict(self.executor.resources) if self.executor.resources else None,
            pure=False,
        )
        self.in_flight[future] = (tile, lane)
        future.add_done_callback(self.finished.put)

    # Outcomes -------------------------------------------------------------------------------------------------------

    def _settle(self, future: Any) -> None:
        if future not in self.in_flight:
            return
        tile, _ = self.in_flight.pop(future)
        if future.status in _LOST:
            raise self.lost(None)
        error = future.exception() if future.status == "error" else None
        future.release()
        if error is None:
            outcome = self.work.outcome(tile)
            if outcome is not None:
                self.emit(outcome)
            return
        if isinstance(error, StoreError | ArgumentError):
            raise error
        self.attempts[tile] = self.attempts.get(tile, 0) + 1
        if self.attempts[tile] <= self.executor.retries:
            self.emit(TileRetried(tile, self.attempts[tile], describe(error)))
            self.waiting.put_back(tile)
        else:
            self.failures.append(Failure(tile, error))
            self.emit(TileFailed(tile, describe(error)))

    def _require_scheduler(self) -> None:
        if self.executor.client.status != "running":
            raise self.lost(None)

    def lost(self, error: BaseException | None) -> StoreError:
        """The error of a cluster that is gone."""
        scheduler = getattr(self.executor.client.scheduler, "address", None) or "the Dask scheduler"
        detail = "" if error is None else f" ({describe(error)})"
        return StoreError(
            f"lost the connection to {scheduler}{detail}. Finished tiles are kept. Fix: start a cluster, and run the "
            "same call again: it resumes."
        )

    def close(self) -> None:
        """Takes back what was not begun, and the work from the workers; a cluster that is gone needs neither."""
        client = self.executor.client
        if client.status != "running":
            return
        try:
            client.cancel(list(self.in_flight), force=True)
            client.unregister_worker_plugin(self.name)
        except (OSError, TimeoutError, ValueError):
            return

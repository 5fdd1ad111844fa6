"""Tiles on a Dask cluster: the bits of one process, whoever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

import jacgram
from jacgram.errors import ArgumentError, IncompleteKernelError, StoreError, StructureError
from jacgram.execute.events import TileFailed, TileFinished, TileRetried
from kit.writing import data, network

pytest.importorskip("zarr")
distributed = pytest.importorskip("distributed")

TILE = 13
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", autouse=True)
def quiet_workers():
    """Workers are processes of their own, and find the tests' kit as this one does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        patch.setenv("JAX_PLATFORMS", "cpu")
        yield


@contextmanager
def local(workers=2, **options):
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", memory_limit=None, **options
    )
    with cluster, Client(cluster) as client:
        yield client


@pytest.fixture
def problem(framework):
    f, params = network(framework)
    return f, data(104), params


def write(store, problem, executor, **options):
    f, x, params = problem
    return jacgram.write_ntk(store, f, x, params=params, executor=executor, **{"tile": TILE} | options)


def entries(store):
    kernel = jacgram.open_kernel(store, allow_incomplete=True)
    found = {path.name: json.loads(path.read_text()) for path in (Path(store) / "manifest").glob("*.json")}
    for entry in found.values():
        entry.pop("durable")  # that comes later, whoever computed
    return found, kernel


def slow(f, framework):
    """The same program, slower to run, so that there is time to kill someone."""
    if framework == "jax":
        from kit.pausing import pause

        return lambda params, x: pause(f(params, x))

    def g(params, x):
        time.sleep(0.05)
        return f(params, x)

    return g


# In one process, where Dask is quick ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    """A cluster within this process: everything but other processes."""
    from distributed import Client

    with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as client:
        yield client


def test_as_in_one_process(tmp_path, problem, client):
    events = []
    found = write(tmp_path / "dask", problem, jacgram.Dask(client), progress=events.append)
    assert (found[...] == write(tmp_path / "serial", problem, jacgram.Serial())[...]).all()
    assert len({event.tile for event in events if isinstance(event, TileFinished)}) == len(events) - 2 == 36
    assert client.run(lambda dask_worker: [n for n in dask_worker.plugins if n.startswith("jacgram")]) == {
        address: [] for address in client.nthreads()
    }, "nothing of the run is left on the workers"


def test_a_tile_that_raises(tmp_path, framework, client):
    if framework == "jax":
        pytest.skip("compiled code cannot raise on values")
    f, params = network(framework)
    x = data(104)
    x[100] = 1e3

    def g(params, x):
        if bool((x > 999).any()):
            raise ValueError("a bad example")
        return f(params, x)

    events = []
    with pytest.raises(IncompleteKernelError, match=r"8 of 36 tiles .*ValueError: a bad example"):
        write(tmp_path / "k", (g, x, params), jacgram.Dask(client, retries=1), progress=events.append)
    kinds = Counter(type(event) for event in events)
    assert kinds[TileFailed] == kinds[TileRetried] == 8 and kinds[TileFinished] == 28
    assert jacgram.open_kernel(tmp_path / "k", allow_incomplete=True).progress == (28, 36)


def test_f_that_cannot_be_pickled(tmp_path, problem, client):
    f, x, params = problem
    lock = threading.Lock()
    with pytest.raises(ArgumentError, match=r"cannot be sent to Dask workers: .*lock.*executor=Serial\(\)"):
        write(tmp_path / "k", (lambda p, x: f(p, x) if lock else None, x, params), jacgram.Dask(client))


def test_f_that_cannot_be_made_again(tmp_path, problem, client):
    f, x, params = problem
    with pytest.raises(
        ArgumentError, match="cannot be made again on a Dask worker: ValueError: I was pickled"
    ) as caught:
        write(tmp_path / "k", (OneWay(f), x, params), jacgram.Dask(client))
    assert caught.value.__cause__ is None or "pickled" in str(caught.value)


class OneWay:
    """A function that pickles, and does not come back."""

    def __init__(self, f):
        self.f = f

    def __call__(self, params, x):
        return self.f(params, x)

    def __reduce__(self):
        return _raise, ()


def _raise():
    raise ValueError("I was pickled")


def test_a_store_in_memory(problem, client):
    from zarr.storage import MemoryStore

    with pytest.raises(ArgumentError, match="a store in memory cannot be reached"):
        write(MemoryStore(), problem, jacgram.Dask(client))


def test_resources_that_nobody_has(tmp_path, problem, client):
    with pytest.raises(ArgumentError, match=r"none of the 2 Dask workers has the resources {'GPU': 1}"):
        write(tmp_path / "k", problem, jacgram.Dask(client, resources={"GPU": 1}))


def test_resources(tmp_path, problem):
    with local(workers=1, resources={"GPU": 1}) as client:
        found = write(tmp_path / "k", problem, jacgram.Dask(client, resources={"GPU": 1}))
        assert jacgram.open_kernel(tmp_path / "k").complete and found.shape[0] == 104


def test_a_full_disk_ends_the_run(tmp_path, problem, client):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True, check=False)
    if mount.returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        with pytest.raises(StoreError, match="disk is full"):
            write(disk / "k", problem, jacgram.Dask(client))
        kernel = jacgram.open_kernel(disk / "k", allow_incomplete=True)
        assert 0 < kernel.progress[0] < 36 and kernel.verify() == {}
    finally:
        subprocess.run(["umount", disk], check=True)


def test_no_client():
    with pytest.raises(StructureError, match=r"client is str, expected a distributed\.Client"):
        jacgram.Dask("tcp://localhost:8786")


# In processes that can be killed ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_killed_worker(tmp_path, framework, problem):
    """The result is that of one process, and no tile that was finished is computed again."""
    f, x, params = problem
    f = slow(f, framework)
    before = {}
    with local() as client:

        def kill(event):
            if isinstance(event, TileFinished) and len(event_tiles) == 8:
                before.update(entries(tmp_path / "dask")[0])
                os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

        event_tiles = []

        def listener(event):
            if isinstance(event, TileFinished):
                event_tiles.append(event.tile)
            kill(event)

        found = write(tmp_path / "dask", (f, x, params), jacgram.Dask(client), progress=listener)
    after, kernel = entries(tmp_path / "dask")
    assert len(before) >= 8
    assert {name: after[name] for name in before} == before, "finished tiles were left alone"
    assert len(event_tiles) == len(set(event_tiles)) == 36
    assert kernel.verify() == {}
    assert (found[...] == write(tmp_path / "serial", (f, x, params), jacgram.Serial())[...]).all()


@contextmanager
def cluster_by_command(workers=2, options=()):
    """A scheduler and workers started by command line, as on a real cluster."""
    started = []

    def start(*arguments):
        started.append(subprocess.Popen([sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
                                        env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))  # fmt: skip
        return started[-1]

    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    scheduler = start("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    for _ in range(workers):
        start("dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", *options)
    try:
        yield address, scheduler
    finally:
        for process in started:
            process.kill()
            process.wait()


def free_port():
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.slow
def test_a_cluster_started_by_command_line(tmp_path, problem):
    from distributed import Client

    with (
        cluster_by_command(options=("--resources", "GPU=1")) as (address, _),
        Client(address, timeout="60s") as client,
    ):
        client.wait_for_workers(2, timeout=60)
        found = write(tmp_path / "dask", problem, jacgram.Dask(client, resources={"GPU": 1}))
    assert (found[...] == write(tmp_path / "serial", problem, jacgram.Serial())[...]).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of a client whose scheduler is gone
def test_a_killed_scheduler(tmp_path, framework, problem):
    from distributed import Client

    f, x, params = problem
    f = slow(f, framework)
    with cluster_by_command() as (address, scheduler), Client(address, timeout="60s") as client:
        client.wait_for_workers(2, timeout=60)

        def kill(event):
            if isinstance(event, TileFinished) and scheduler.poll() is None:
                scheduler.kill()

        with pytest.raises(StoreError, match=r"lost the connection to .*Finished tiles are kept.*it resumes"):
            write(tmp_path / "k", (f, x, params), jacgram.Dask(client), progress=kill)
    done = jacgram.open_kernel(tmp_path / "k", allow_incomplete=True).progress[0]
    assert done >= 1
    events = []
    write(tmp_path / "k", (f, x, params), jacgram.Serial(), progress=events.append)
    assert events[0].done >= done and jacgram.open_kernel(tmp_path / "k").verify() == {}

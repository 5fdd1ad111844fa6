"""All digits' kernel on disk: memory, the price of storing, two workers against one process, and its eigenvalues.

    python -m benchmarks.storing

The demo's network in JAX, (1797, 1797, 10, 10) numbers of float32 (1.3 GB), within 256 MiB.
"""

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import jacgram
from benchmarks.apart import ROOT, apart
from benchmarks.growth import growth
from jacgram.demo import digits
from jacgram.errors import IncompleteKernelError
from jacgram.execute.memory import give_back
from jacgram.operator.tile_work import TileWorker

N, MEMORY, ROUNDS = 1797, "256MiB", 3


def problem():
    """f, its parameters and every image."""
    return digits.network, digits.initialise(0), digits.load(0, train=N, held_out=0).images


def grow(path):
    """Growth of this process while the kernel is written, and the time it takes."""
    f, params, x = problem()
    jacgram.ntk(f, x[:4], params=params)

    def write():
        jacgram.write_ntk(path, f, x, params=params, memory=MEMORY, overwrite=True)

    start = time.perf_counter()
    return {"grown": growth(write), "seconds": time.perf_counter() - start}


def stored(path):
    """Seconds that a whole run takes in a fresh process."""
    f, params, x = problem()
    start = time.perf_counter()
    jacgram.write_ntk(path, f, x, params=params, memory=MEMORY)
    return {"seconds": time.perf_counter() - start}


def unstored(path, trimmed):
    """The same without storing: its tiles in the same order on the host, and dropped.

    Args:
        path: a place for the store's header; no chunk is written.
        trimmed: whether freed memory is given back after each tile, as within a budget it is when they are stored.
    """
    f, params, x = problem()

    def run(self, tile):
        grid = self.stored.header.grid
        block = np.ascontiguousarray(self.kernel.block(grid.block(1, tile[0]), grid.block(2, tile[1])))
        del block
        if trimmed:
            give_back()

    TileWorker.run = run
    start = time.perf_counter()
    with contextlib.suppress(IncompleteKernelError):
        jacgram.write_ntk(path, f, x, params=params, memory=MEMORY)
    return {"seconds": time.perf_counter() - start}


def on_two_workers(path):
    from distributed import Client, LocalCluster

    f, params, x = problem()
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        start = time.perf_counter()
        jacgram.write_ntk(path, f, x, params=params, memory=MEMORY, executor=jacgram.Dask(client))
        return {"seconds": time.perf_counter() - start}


def check(path):
    """Sampled blocks against the kernel in memory."""
    f, params, x = problem()
    kernel = jacgram.open_kernel(path)
    rng, worst = np.random.default_rng(0), 0.0
    for _ in range(5):
        a, b = (np.sort(rng.choice(N, 20, replace=False)) for _ in range(2))
        expected = np.asarray(jacgram.ntk(f, x[a], x[b], params=params))
        found = kernel.array.oindex[a, b]
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
    return worst


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "k.zarr"
        grown = apart(grow, str(path))
        print(f"written in {grown['seconds']:.1f} s; grew by {grown['grown'] / 2**20:.0f} MiB of {MEMORY}")
        print(f"sampled blocks differ from those in memory by {check(path):.0e}")
        code = ROOT / "tests" / "operator" / "top_eigenvalues.py"
        start = time.perf_counter()
        done = subprocess.run([sys.executable, code, path, "10"], capture_output=True, text=True, check=True)
        *values, peak = map(float, done.stdout.split())
        print(f"top 10 eigenvalues in {time.perf_counter() - start:.0f} s, peak {peak / 2**20:.0f} MiB")
        whole = jacgram.open_kernel(path).to_numpy()
        matrix = whole.transpose(0, 2, 1, 3).reshape(N * 10, N * 10)
        from scipy.sparse.linalg import eigsh

        dense = eigsh(matrix, k=10, return_eigenvectors=False)
        print(f"differ from those of the matrix in memory by {np.abs(np.sort(values) / np.sort(dense) - 1).max():.0e}")
        del whole, matrix
        compare_times(Path(folder))


def compare_times(folder):
    """Medians over rounds in which each way has its turn, in a process and a store of its own."""
    ways = {
        "tiles alone": (unstored, True),
        "tiles alone, freed memory kept": (unstored, False),
        "stored": (stored,),
        "stored by Dask, 2 workers": (on_two_workers,),
    }
    seconds = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, (measure, *options) in ways.items():
            path = folder / "timed.zarr"
            seconds[way].append(apart(measure, str(path), *options)["seconds"])
            shutil.rmtree(path)
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    for way, median in medians.items():
        print(f"{way}: {median:.1f} s ({min(seconds[way]):.1f} to {max(seconds[way]):.1f})")
    for way in list(ways)[:2]:
        print(f"stored / {way}: {medians['stored'] / medians[way]:.2f}")
    print(f"Dask / one process: {medians['stored by Dask, 2 workers'] / medians['stored']:.2f}")


if __name__ == "__main__":
    main()

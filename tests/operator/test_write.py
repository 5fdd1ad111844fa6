"""Kernels out of core: equal to those in memory, gone on with after any stop, and refused where they are others."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import jacgram
from jacgram.errors import (
    ArgumentError,
    BudgetError,
    IncompleteKernelError,
    InteractingExamplesError,
    PatternError,
    StoreError,
    StructureError,
)
from jacgram.execute.events import RunFinished, RunStarted, TileFailed, TileFinished
from kit import oracle, zoo
from kit.native import array
from kit.writing import TILE, N, data, network, watch

zarr = pytest.importorskip("zarr")
TILES = -(-N // TILE) * (-(-N // TILE) + 1) // 2
ZOO = [
    "conv",
    "layer_norm",
    "tied_embedding",
    "integer_input",
    "dict_input",
    "unused",
    "constant_output",
    "complex_output",
    "holomorphic",
]
METHODS = [jacgram.Auto(), jacgram.MatrixFree(), jacgram.MatrixFree(block=2), jacgram.Materialize()]
PATTERNS = [
    None,
    "n i, m i -> n m",
    "n i, m i -> m n i",
    "n i, m j -> n m",
    "n i, m j -> i j m n",
    "n i, n j -> n i j",
    "n i, n i -> n",
    "n ..., m ... -> n m ...",
]


@pytest.fixture
def problem(framework):
    f, params = network(framework)
    return f, data(), params


def write(store, problem, **options):
    f, x, params = problem
    return jacgram.write_ntk(store, f, x, params=params, **{"tile": TILE, "memory": "64MiB"} | options)


def agree(found, expected, rtol):
    expected = oracle.to_numpy(expected)
    assert found.shape == expected.shape
    assert np.abs(found[...] - expected).max() <= rtol * np.abs(expected).max()


# Equal to the kernel in memory --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "method"),
    [*((pattern, jacgram.Auto()) for pattern in PATTERNS), *((PATTERNS[k], m) for k in (0, 5) for m in METHODS[1:])],
    ids=str,
)
@pytest.mark.parametrize("tile", [TILE, 9])  # of 26 examples the last block is a small one, or nearly whole
def test_as_in_memory(tmp_path, framework, problem, pattern, method, tile):
    f, x, params = problem
    J1 = jacgram.Jacobian(f, array(framework, x), params=params)
    J2 = jacgram.Jacobian(f, array(framework, data(N if pattern and "n j" in pattern else 9, 5)), params=params)
    if pattern == "n i, n i -> n":
        J2 = jacgram.Jacobian(f, array(framework, data(N, 5)), params=params)
    for name, K in (("same", J1 @ J1.T), ("other", J1 @ J2.T)):
        found = K.write(tmp_path / name, pattern, tile=tile, memory="64MiB", method=method)
        assert isinstance(found, zarr.Array)
        agree(found, K.dense(pattern), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
def test_models_of_the_zoo(tmp_path, framework, name):
    f, params, x = zoo.MODELS[name].on(framework, 7)
    K = jacgram.Jacobian(f, x, params=params)
    for k, G in enumerate((K @ K.H, K @ K.T, (K @ K.H).T, (K @ K.T).H)):
        found = G.write(tmp_path / str(k), tile=4, memory="256MiB")
        agree(found, G.dense(), rtol=1e-10)


def test_exactly_hermitian(tmp_path, problem):
    K = write(tmp_path / "k.zarr", problem)[...]
    assert (K.transpose(1, 0, 3, 2) == K).all()


def test_tiles_need_not_divide_nor_be_square(tmp_path, problem):
    expected = write(tmp_path / "k.zarr", problem)[...]
    for k, tile in enumerate([1, 7, (3, 8), 1000]):
        found = write(tmp_path / str(k), problem, tile=tile)
        np.testing.assert_allclose(found[...], expected, rtol=1e-5, atol=1e-5)


def test_dimensions_have_names(tmp_path, problem):
    names = lambda **options: write(tmp_path / "k.zarr", problem, overwrite=True, **options).metadata.dimension_names
    assert names() == ("n", "m", "i", "j")
    assert names(pattern="a k, b k -> b a") == ("b", "a")
    assert names(pattern="n ..., m ... -> n m ...") == ("n", "m", "axis0")


def test_nothing_to_write(tmp_path, problem):
    f, x, params = problem
    assert jacgram.write_ntk(tmp_path / "k.zarr", f, x[:0], x, params=params).shape == (0, N, 3, 3)
    assert jacgram.open_kernel(tmp_path / "k.zarr").complete


def test_nan_is_a_result(tmp_path, problem):
    f, x, params = problem
    x[20] = np.nan
    K = write(tmp_path / "k.zarr", (f, x, params))
    assert np.isnan(K[20]).all() and not np.isnan(K[:20, :20]).any()
    assert jacgram.open_kernel(tmp_path / "k.zarr").complete


# Data read in blocks -------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """Anything that can be sliced; keeps the largest slice it was asked for."""

    values: np.ndarray
    most: int = 0

    @property
    def shape(self):
        return self.values.shape

    @property
    def dtype(self):
        return self.values.dtype

    def __getitem__(self, key):
        assert isinstance(key, slice)
        self.most = max(self.most, key.stop - key.start)
        return self.values[key]


def test_blocks_alone_are_read(tmp_path, problem, monkeypatch):
    from jacgram.operator import blocks

    monkeypatch.setattr(blocks, "_READ_BYTES", 1000)  # at a time, for the digest of the content
    f, x, params = problem
    many = Watched(np.tile(x, (8, 1)))
    found = jacgram.write_ntk(tmp_path / "k", f, many, params=params, tile=52, pattern="n i, m i -> n m")
    once = write(tmp_path / "once", problem, pattern="n i, m i -> n m", tile=26)
    np.testing.assert_allclose(found[...], np.tile(once[...], (8, 8)), rtol=1e-5, atol=1e-5)
    assert many.most == 64, "the sample on which f is checked is the largest block"


@pytest.mark.parametrize("kind", ["memmap", "cut memmap", "zarr", "tree", "native"])
def test_kinds_of_data(tmp_path, framework, problem, kind):
    f, x, params = problem
    np.save(tmp_path / "x.npy", x)
    match kind:
        case "memmap":
            given, g = np.load(tmp_path / "x.npy", mmap_mode="r"), f
        case "cut memmap":
            np.save(tmp_path / "x.npy", np.concatenate([x[:3], x]))
            given, g = np.load(tmp_path / "x.npy", mmap_mode="r")[3:], f
        case "zarr":
            stored = zarr.create_array(tmp_path / "x.zarr", shape=x.shape, dtype="float32", chunks=(7, 2))
            stored[...] = x
            given, g = stored, f
        case "tree":
            given, g = {"b": [x[:, :2]], "a": (x[:, 2:], None)}, lambda p, t: f(p, _together(framework, t))
        case "native":
            given, g = array(framework, x), f
    found = jacgram.write_ntk(tmp_path / "k.zarr", g, given, params=params, tile=TILE)
    np.testing.assert_allclose(found[...], write(tmp_path / "plain", problem)[...], rtol=1e-6, atol=1e-6)


def _together(framework, tree):
    if framework == "jax":
        import jax.numpy as xp

        return xp.concatenate([tree["b"][0], tree["a"][0]], 1)
    import torch

    return torch.cat([tree["b"][0], tree["a"][0]], 1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (3.0, "x1 holds a float, expected arrays, or anything with shape and dtype"),
        ([np.zeros((2, 3)), np.zeros((3, 3))], "examples on axis 0 of every leaf, as many in each"),
        (np.zeros(()), "examples on axis 0"),
    ],
    ids=["no array", "unequal", "scalar"],
)
def test_data_that_cannot_be_sliced(tmp_path, problem, x, message):
    f, _, params = problem
    with pytest.raises(StructureError, match=message):
        jacgram.write_ntk(tmp_path / "k.zarr", f, x, params=params)


# Going on ------------------------------------------------------------------------------------------------------------


class Stop(Exception):
    """A kill, as far as one process can have one."""


def stop_after(count):
    seen = []

    def listener(event):
        seen.append(event)
        if sum(isinstance(e, TileFinished) for e in seen) == count:
            raise Stop

    return listener


def test_a_stopped_run_is_gone_on_with(tmp_path, problem, monkeypatch):
    begun = []
    watch(monkeypatch, begun.append)
    for count in (1, 5, 2):
        with pytest.raises(Stop):
            write(tmp_path / "k.zarr", problem, progress=stop_after(count))
    events = []
    found = write(tmp_path / "k.zarr", problem, progress=events.append)
    assert Counter(begun) == Counter(jacgram.open_kernel(tmp_path / "k.zarr").header.grid.tiles()), "each tile once"
    assert events[0] == RunStarted(str(tmp_path / "k.zarr"), TILES, 8, "Serial")
    assert len(events) == 2 + TILES - 8 and isinstance(events[-1], RunFinished) and events[-1].done == TILES
    assert (found[...] == write(tmp_path / "whole", problem)[...]).all(), "bit-identical to a run that was not stopped"


def test_a_tile_that_was_written_but_not_recorded_is_computed_again(tmp_path, problem, monkeypatch):
    from jacgram.store.kernel_store import KernelStore

    def killed(self, entry):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(KernelStore, "record", killed)
        with pytest.raises(IncompleteKernelError):
            write(tmp_path / "k.zarr", problem, executor=jacgram.Serial(retries=0))
    assert jacgram.open_kernel(tmp_path / "k.zarr", allow_incomplete=True).progress == (0, TILES)
    begun = []
    watch(monkeypatch, begun.append)
    write(tmp_path / "k.zarr", problem)
    assert len(begun) == TILES


def test_a_tile_that_was_not_settled_is_not_computed_again(tmp_path, problem, monkeypatch):
    """The disk was still at it when the process was killed: its numbers are there, and say so."""
    from jacgram.store.kernel_store import KernelStore

    with monkeypatch.context() as patch:
        patch.setattr(KernelStore, "settle", lambda self, entry: None)
        with pytest.raises(Stop):
            write(tmp_path / "k.zarr", problem, progress=stop_after(5))
    begun = []
    watch(monkeypatch, begun.append)
    write(tmp_path / "k.zarr", problem)
    assert len(begun) == TILES - 5
    stored = jacgram.open_kernel(tmp_path / "k.zarr")._stored
    assert all(stored.manifest.entry(tile).durable for tile in stored.done())


def test_a_finished_kernel_is_found_finished(tmp_path, problem, monkeypatch):
    write(tmp_path / "k.zarr", problem)
    begun, events = [], []
    watch(monkeypatch, begun.append)
    write(tmp_path / "k.zarr", problem, progress=events.append, tile=None, memory=None)
    assert begun == [] and len(events) == 2


def test_names_of_functions_do_not_count_and_programs_do(tmp_path, problem):
    f, x, params = problem
    write(tmp_path / "k.zarr", problem)
    write(tmp_path / "k.zarr", (lambda other, name: f(other, name), x, params))
    with pytest.raises(StoreError, match="which differs from this one in: f\\."):
        write(tmp_path / "k.zarr", (lambda p, x: f(p, x) * 2, x, params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pattern": "n i, m i -> n m"}, "differs from this one in: pattern"),
        ({"accumulate": "float64"}, "differs from this one in: precision"),
        ({"method": jacgram.Materialize()}, "differs from this one in: method"),
        ({"tile": 5}, r"is cut into tiles of \(4, 4\), and tile is 5"),
        ({"resume": False}, "holds a kernel already. Fix: pass resume=True"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_other_requests_are_refused(tmp_path, problem, change, message):
    write(tmp_path / "k.zarr", problem)
    with pytest.raises(StoreError, match=message):
        write(tmp_path / "k.zarr", problem, **change)


def test_other_data_and_parameters_are_refused(tmp_path, framework, problem):
    f, x, params = problem
    write(tmp_path / "k.zarr", problem)
    with pytest.raises(StoreError, match="in: x1"):
        write(tmp_path / "k.zarr", (f, data(seed=3), params))
    with pytest.raises(StoreError, match="in: f, x1"):
        write(tmp_path / "k.zarr", (lambda p, x: f(p, x[:, : data().shape[1]]), np.concatenate([x, x], 1), params))
    with pytest.raises(StoreError, match="in: parameters"):
        write(tmp_path / "k.zarr", (f, x, params | {"b": params["b"] + 1}))
    with pytest.raises(StoreError, match=r"of 26 × 26 examples, and this one has 20 × 20"):
        write(tmp_path / "k.zarr", (f, x[:20], params))
    with pytest.raises(StoreError, match="in: f of side 2, parameters of side 2, x2"):
        jacgram.write_ntk(tmp_path / "k.zarr", f, x, data(seed=3), params=params, tile=TILE)


def test_a_plan_that_was_changed_is_refused(tmp_path, problem):
    write(tmp_path / "k.zarr", problem)
    path = tmp_path / "k.zarr/zarr.json"
    found = json.loads(path.read_text())
    found["attributes"]["jacgram"]["plan"] = "{}"
    path.write_text(json.dumps(found))
    for use in (lambda: write(tmp_path / "k.zarr", problem), lambda: jacgram.open_kernel(tmp_path / "k.zarr").plan):
        with pytest.raises(StoreError, match=r"k\.zarr: the plan in zarr\.json was changed or damaged\. Fix:"):
            use()


def test_less_memory_than_planned_is_refused(tmp_path, problem):
    write(tmp_path / "k.zarr", problem)
    with pytest.raises(BudgetError, match="was planned for tiles that need"):
        write(tmp_path / "k.zarr", problem, memory="1KiB")


def test_beginning_anew(tmp_path, problem):
    f, _x, params = problem
    write(tmp_path / "k.zarr", problem)
    found = write(tmp_path / "k.zarr", (f, data(9), params), overwrite=True, pattern="n i, m i -> n m")
    assert found.shape == (9, 9) and jacgram.open_kernel(tmp_path / "k.zarr").complete


def test_damage_is_mended_on_request(tmp_path, problem, monkeypatch):
    expected = write(tmp_path / "k.zarr", problem)[...]
    (tmp_path / "k.zarr/c.0.1.0.0").write_bytes(b"short")
    (tmp_path / "k.zarr/c.2.1.0.0").unlink()
    (tmp_path / "k.zarr/manifest/3.3.json").write_text("{")
    with pytest.raises(StoreError, match="verify=True"):
        write(tmp_path / "k.zarr", problem)
    begun = []
    watch(monkeypatch, begun.append)
    found = write(tmp_path / "k.zarr", problem, verify=True)
    assert sorted(begun) == [(0, 1), (1, 2), (3, 3)]
    assert (found[...] == expected).all()


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path, framework):
    """SIGKILL: at most one tile is computed twice for each kill, and the bits are those of a run without."""
    kills = 0
    while kills < 3:
        process = start(framework, tmp_path, "killed", slow_s=0.2)
        wait_for(tmp_path / "killed.txt", lines=lines(tmp_path / "killed.txt") + 2, process=process)
        time.sleep(random.uniform(0, 0.2))
        assert process.poll() is None, "the run was over before it was killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert start(framework, tmp_path, "killed").wait() == 0
    assert start(framework, tmp_path, "whole").wait() == 0
    begun = Counter((tmp_path / "killed.txt").read_text().splitlines())
    assert len(begun) == TILES
    assert sum(begun.values()) - TILES <= kills
    killed, whole = (jacgram.open_kernel(tmp_path / name) for name in ("killed", "whole"))
    assert killed.verify() == {}
    assert (killed.to_numpy().view(np.uint32) == whole.to_numpy().view(np.uint32)).all()


def start(framework, folder, name, slow_s=0.0):
    arguments = [framework, folder / name, folder / f"{name}.txt", str(slow_s)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-m", "kit.writing", *arguments], env=environment)


def lines(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def wait_for(path, lines: int, process, limit_s=120):
    deadline = time.monotonic() + limit_s
    while globals()["lines"](path) < lines and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Faults --------------------------------------------------------------------------------------------------------------


def raising(framework, f):
    """f that raises on any batch that holds the number 1e3; only eager code can."""
    if framework == "jax":
        pytest.skip("compiled code cannot raise on values")

    def g(params, x):
        if bool((x > 999).any()):
            raise ValueError("a bad example")
        return f(params, x)

    return g


def test_f_that_raises_on_one_tile(tmp_path, framework, problem):
    f, x, params = problem
    x = np.concatenate([data(80, 2), x])
    x[100] = 1e3
    events = []
    g = raising(framework, f)
    with pytest.raises(
        IncompleteKernelError, match=r"failed; the others are stored\. Tile .*ValueError: a bad example"
    ):
        write(tmp_path / "k.zarr", (g, x, params), tile=26, pattern="n i, m i -> n m", progress=events.append)
    assert {event.tile for event in events if isinstance(event, TileFailed)} == {(0, 3), (1, 3), (2, 3), (3, 3), (3, 4)}
    kernel = jacgram.open_kernel(tmp_path / "k.zarr", allow_incomplete=True)
    assert kernel.progress == (10, 15)


@pytest.mark.parametrize("n", [26, 27])  # with 27, the last block is nearly whole and may be computed as a whole one
def test_data_that_cannot_be_read_on_one_block(tmp_path, problem, n):
    f, _, params = problem
    x = data(n)
    problem = f, x, params

    class Torn(Watched):
        torn = False

        def __getitem__(self, key):
            if self.torn and key.start <= 23 < key.stop:
                raise OSError("bad sector")
            return super().__getitem__(key)

    torn = Torn(x)

    def tear(event):
        torn.torn = isinstance(event, RunStarted) or torn.torn

    with pytest.raises(IncompleteKernelError, match=r"7 of 28 tiles .*OSError: bad sector.*it resumes"):
        write(tmp_path / "k.zarr", (f, torn, params), progress=tear, memory="1MiB")
    torn.torn = False
    assert (write(tmp_path / "k.zarr", (f, torn, params))[...] == write(tmp_path / "whole", problem)[...]).all()


def test_a_full_disk_keeps_what_was_finished(tmp_path, problem):
    from zarr.storage import LocalStore

    class Full(LocalStore):
        room = 20

        async def set(self, key, value):
            type(self).room -= 1
            if type(self).room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            await super().set(key, value)

    with pytest.raises(StoreError, match=r"disk is full\. What was finished is kept"):
        write(Full(tmp_path / "k.zarr"), problem)
    done, _ = jacgram.open_kernel(tmp_path / "k.zarr", allow_incomplete=True).progress
    assert done > 5
    events = []
    found = write(tmp_path / "k.zarr", problem, progress=events.append)
    assert events[0].done == done
    assert (found[...] == write(tmp_path / "whole", problem)[...]).all()


# Arguments -----------------------------------------------------------------------------------------------------------


def test_patterns_that_sum_over_examples(tmp_path, problem):
    with pytest.raises(PatternError, match="sums over examples"):
        write(tmp_path / "k.zarr", problem, pattern="n i, m j -> n")
    assert not (tmp_path / "k.zarr").exists()


def test_trees_and_stacks_and_inputs(tmp_path, framework, problem):
    f, x, params = problem
    with pytest.raises(ArgumentError, match=r"write\(\) stores one array, and y has 2 leaves"):
        write(tmp_path / "k.zarr", (lambda p, x: (f(p, x), f(p, x)), x, params))
    J = jacgram.Jacobian(f, array(framework, x), params=params)
    stacked = jacgram.vstack([J, J])
    with pytest.raises(ArgumentError, match="a store holds one array"):
        (stacked @ stacked.T).write(tmp_path / "k.zarr")
    inner = jacgram.Jacobian(lambda x: f(params, x), array(framework, x))
    with pytest.raises(ArgumentError, match="J is taken with respect to x"):
        (inner @ inner.T).write(tmp_path / "k.zarr")


def test_examples_that_interact(tmp_path, problem):
    f, x, params = problem
    with pytest.raises(InteractingExamplesError, match=r"interact|together"):
        write(tmp_path / "k.zarr", (lambda p, x: f(p, x) / x.sum(), x, params))


@pytest.mark.parametrize("tile", [0, -1, (2,), (2, 0), 1.5, True, "2"])
def test_tiles_that_are_none(tmp_path, problem, tile):
    with pytest.raises(ArgumentError, match="tile must be a positive number"):
        write(tmp_path / "k.zarr", problem, tile=tile)


def test_paired_tiles_are_square(tmp_path, problem):
    with pytest.raises(ArgumentError, match="pairs examples of both sides"):
        write(tmp_path / "k.zarr", problem, tile=(2, 3), pattern="n i, n j -> n i j")


@pytest.mark.parametrize("executor", [jacgram.Serial, None, "dask"])
def test_what_is_no_executor(tmp_path, problem, executor):
    with pytest.raises(ArgumentError, match=r"executor must be Serial\(\) or Dask\(client\)"):
        write(tmp_path / "k.zarr", problem, executor=executor)


def test_a_budget_that_no_tile_fits(tmp_path, problem):
    with pytest.raises(BudgetError, match="fits memory="):
        write(tmp_path / "k.zarr", problem, tile=None, memory=100)


def test_tiles_are_as_large_as_the_budget_allows(tmp_path, problem):
    sizes = [
        jacgram.open_kernel(_place(tmp_path, memory, write, problem)).header.tile[0] for memory in ("40KiB", "1GiB")
    ]
    assert sizes[0] < sizes[1] == N


def _place(folder, memory, write, problem):
    write(folder / memory, problem, tile=None, memory=memory)
    return folder / memory


def branching(torch):
    """f that takes another branch where an example's first entry is negative, its params, and examples of both."""

    def f(p, x):
        return torch.stack([torch.tanh(row @ p["a"]) if row[0] > 0 else torch.sin(row @ p["b"]) for row in x])

    rng = np.random.default_rng(0)
    params = {name: torch.from_numpy(rng.standard_normal((3, 2))) for name in "ab"}
    x = torch.from_numpy(rng.standard_normal((12, 3)))
    x[:, 0] = x[:, 0].abs() * torch.tensor([1.0] * 4 + [-1.0] * 4 + [1.0, -1.0] * 2)
    return f, params, x


@pytest.mark.parametrize("tile", [3, 4, 12])
def test_tiles_of_a_function_that_branches_on_data(tmp_path, tile):
    """The first example's uses are not those of the others."""
    torch = pytest.importorskip("torch")
    f, params, x = branching(torch)
    expected = oracle.gram(oracle.jacobian(f, x, params))
    oracle.check(jacgram.write_ntk(tmp_path / "one", f, x, params=params, tile=tile)[:], expected)
    J1, J2 = (jacgram.Jacobian(f, points, params=params) for points in (x, x.flip(0)))
    expected = oracle.gram(oracle.jacobian(f, x, params), oracle.jacobian(f, x.flip(0), params))
    oracle.check((J1 @ J2.T).write(tmp_path / "two", tile=tile)[:], expected)


@pytest.mark.parametrize("retries", [0, 1])
def test_uses_that_were_not_planned_for_are_never_stored(tmp_path, retries):
    torch = pytest.importorskip("torch")
    f, params, x = branching(torch)
    executor = jacgram.Serial(retries=retries)
    with pytest.raises(jacgram.JacgramError, match=r"(values decide what f does|do not add up).*Materialize"):
        jacgram.write_ntk(tmp_path / "a", f, x, params=params, tile=4, method=jacgram.Structured(), executor=executor)
    more = False

    def g(p, x):
        y = torch.tanh(x @ p["a"])
        return y + torch.sin(x @ p["b"]) if more else y

    J = jacgram.Jacobian(g, x, params=params)
    K = J @ J.T
    K.dense()
    more = True
    with pytest.raises(jacgram.JacgramError, match="values decide what f does, or it has changed"):
        K.write(tmp_path / "b", tile=4, executor=executor)
    oracle.check(K.write(tmp_path / "c", tile=4, executor=executor)[:], oracle.gram(oracle.jacobian(g, x, params)))

"""Commands on kernels: what they print, what they return to a script, and how they can be stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

from kit.writing import data

pytest.importorskip("typer")
pytest.importorskip("rich")
pytest.importorskip("zarr")

MODEL = """
import time
import numpy as np

def make():
    rng = np.random.default_rng(1)
    shapes = {"w": (5, 7), "v": (7, 3)}
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    if FRAMEWORK == "jax":
        import jax.numpy as jnp
        return lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"], {k: jnp.asarray(v) for k, v in values.items()}
    import torch
    return lambda p, x: torch.tanh(x @ p["w"]) @ p["v"], {k: torch.from_numpy(v) for k, v in values.items()}

def make_slow():
    f, params = make()
    def g(p, x):
        time.sleep(0.1)
        return f(p, x)
    return g, params

def make_deaf():
    f, params = make()
    def g(p, x):
        try:
            time.sleep(0.1)
        except KeyboardInterrupt:
            pass
        return f(p, x)
    return g, params

def make_bad():
    f, params = make()
    def g(p, x):
        if bool((x > 999).any()):
            raise ValueError("a bad example")
        return f(p, x)
    return g, params

def make_nothing():
    return 3
"""


@pytest.fixture
def folder(tmp_path, framework):
    (tmp_path / "model.py").write_text(f"FRAMEWORK = {framework!r}\n{MODEL}")
    np.save(tmp_path / "a.npy", data())
    np.save(tmp_path / "b.npy", data(7, 1))
    return tmp_path


def command(*arguments):
    return [sys.executable, "-c", "from jacgram.cli import main; main()", *map(str, arguments)]


def environment():
    return os.environ | {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1", "COLUMNS": "120"}


def jacgram(folder, *arguments):
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )


NTK = ("ntk", "model:make", "--x1", "a.npy", "--out", "k.zarr", "--tile", "4", "--memory", "64MiB")


def test_a_kernel_from_start_to_end(folder):
    planned = jacgram(folder, "plan", "model:make", "--x1", "a.npy", "--tile", "4", "--memory", "64MiB")
    assert planned.returncode == 0 and not (folder / "k.zarr").exists()
    assert "26 × 26 × 3 × 3, 23.8 KiB on disk" in planned.stdout
    assert "7 × 7 of 4 × 4 examples, 28 computed, the others mirrored" in planned.stdout

    written = jacgram(folder, *NTK, "--log", "log.jsonl")
    assert written.returncode == 0, written.stderr
    assert "28 of 28 tiles, 0 before this run, 28 in it" in written.stdout
    assert "Writing k.zarr" in written.stderr
    assert len((folder / "log.jsonl").read_text().splitlines()) == 30

    again = jacgram(folder, *NTK)
    assert again.returncode == 0 and "28 of 28 tiles, 28 before this run, 0 in it" in again.stdout

    said = jacgram(folder, "info", "k.zarr", "--verify")
    assert said.returncode == 0 and said.stderr == ""
    assert "complete     yes, 28 of 28 tiles (100.0%)" in said.stdout and "plan of one tile" in said.stdout
    facts = json.loads(jacgram(folder, "info", "k.zarr", "--json").stdout)
    assert facts["complete"] is True and facts["dimensions"] == {"n": 26, "m": 26, "i": 3, "j": 3}

    pytest.importorskip("matplotlib")
    drawn = jacgram(folder, "spectrum", "k.zarr", "--png", "o.png")
    assert drawn.returncode == 0 and (folder / "o.png").read_bytes().startswith(b"\x89PNG")
    import zarr

    K = zarr.open_array(folder / "k.zarr", mode="r")[...].transpose(0, 2, 1, 3).reshape(78, 78)
    expected = np.linalg.eigvalsh(K.astype(np.float64))[::-1][:10]
    np.testing.assert_allclose([float(line) for line in drawn.stdout.split()], expected, rtol=1e-5)
    few = jacgram(folder, "spectrum", "k.zarr", "--png", "o.png", "--top", "3")
    np.testing.assert_allclose([float(line) for line in few.stdout.split()], expected[:3], rtol=1e-4)


def test_another_side_and_pattern_and_file(folder):
    import zarr

    stored = zarr.create_array(folder / "b.zarr", shape=(7, 5), dtype="float32")
    stored[...] = data(7, 1)
    common = ("--x1", "a.npy", "--pattern", "n i, m i -> n m", "--quiet")
    first = jacgram(folder, "ntk", "model.py:make", "--x2", "b.npy", "--out", "1.zarr", *common)
    second = jacgram(folder, "ntk", "model:make", "--x2", "b.zarr", "--out", "1.zarr", *common)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert first.stdout == first.stderr == second.stdout == second.stderr == ""
    assert zarr.open_array(folder / "1.zarr", mode="r").shape == (26, 7)
    pytest.importorskip("matplotlib")
    refused = jacgram(folder, "spectrum", "1.zarr", "--png", "o.png")
    assert refused.returncode == 1 and "so it has no spectrum" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["info", "nowhere.zarr"], 1, "jacgram: there is no kernel at nowhere.zarr"),
        (["ntk", "model", "--x1", "a.npy", "--out", "k.zarr"], 1, "'model' is no MODULE:FACTORY"),
        (["ntk", "nomodel:make", "--x1", "a.npy", "--out", "k.zarr"], 1, "cannot import 'nomodel'"),
        (["ntk", "model:none", "--x1", "a.npy", "--out", "k.zarr"], 1, "model has no function 'none'"),
        (["ntk", "model:make_nothing", "--x1", "a.npy", "--out", "k.zarr"], 1, "returned int, expected (f, params)"),
        (["ntk", "model:make", "--x1", "c.npy", "--out", "k.zarr"], 1, "--x1 c.npy cannot be read"),
        (["ntk", "model:make", "--x1", "model.py", "--out", "k.zarr"], 1, "neither a .npy file nor a Zarr array"),
        (["ntk", "model:make", "--x1", "a.npy", "--out", "model.py"], 1, "is a file, not a Zarr store"),
        (["ntk", "model:make", "--x1", "a.npy", "--out", "k.zarr", "--memory", "much"], 1, "memory cannot be read"),
        (["ntk", "model:make", "--x1", "a.npy", "--out", "k", "--dask", "tcp://x", "--resources", "GPU"], 2, "GPU=1"),
        (["ntk", "model:make", "--x1", "a.npy"], 2, "--out"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_errors_are_short(tmp_path, arguments, code, message):
    pytest.importorskip("torch")
    (tmp_path / "model.py").write_text(f"FRAMEWORK = 'torch'\n{MODEL}")
    np.save(tmp_path / "a.npy", data())
    done = jacgram(tmp_path, *arguments)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr
    assert code == 2 or len(done.stderr.splitlines()) == 1


def test_data_is_never_unpickled(tmp_path):
    pytest.importorskip("torch")
    np.save(tmp_path / "a.npy", np.array([print], dtype=object), allow_pickle=True)
    (tmp_path / "model.py").write_text(f"FRAMEWORK = 'torch'\n{MODEL}")
    done = jacgram(tmp_path, "ntk", "model:make", "--x1", "a.npy", "--out", "k.zarr")
    assert done.returncode == 1 and "cannot be read" in done.stderr


def test_a_kernel_that_is_not_finished(tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "model.py").write_text(f"FRAMEWORK = 'torch'\n{MODEL}")
    x = np.concatenate([data(80), data()])
    x[100] = 1e3
    np.save(tmp_path / "a.npy", x)
    done = jacgram(tmp_path, "ntk", "model:make_bad", "--x1", "a.npy", "--out", "k.zarr", "--tile", "26")
    assert done.returncode == 3 and "5 of 15 tiles of k.zarr failed" in done.stderr
    said = jacgram(tmp_path, "info", "k.zarr")
    assert said.returncode == 3 and "no, 10 of 15 tiles (66.7%)" in said.stdout
    drawn = jacgram(tmp_path, "spectrum", "k.zarr", "--png", "o.png")
    assert drawn.returncode == 1 and "is not finished: 10 of 15 tiles" in drawn.stderr


@pytest.mark.parametrize("factory", ["make_slow", "make_deaf"])
def test_ctrl_c_leaves_a_kernel_to_go_on_with(factory, tmp_path):
    """At once, or, where f catches it, at the next tile."""
    pytest.importorskip("torch")
    (tmp_path / "model.py").write_text(f"FRAMEWORK = 'torch'\n{MODEL}")
    np.save(tmp_path / "a.npy", data())
    arguments = ("ntk", f"model:{factory}", *NTK[2:])
    process = subprocess.Popen(
        command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    while not len(list((tmp_path / "k.zarr").glob("manifest/*.json"))) >= 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted. k.zarr can be gone on with: run the same command again." in said and "Traceback" not in said
    again = jacgram(tmp_path, *arguments)
    assert again.returncode == 0 and "before this run" in again.stdout and ", 0 before" not in again.stdout


@contextmanager
def scheduler():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", memory_limit=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_on_a_cluster(folder):
    pytest.importorskip("distributed")
    with scheduler() as address:
        done = jacgram(folder, *NTK, "--dask", address)
    assert done.returncode == 0, done.stderr
    assert "with Dask" in done.stdout and "28 in it" in done.stdout

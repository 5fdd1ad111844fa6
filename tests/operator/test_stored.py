"""Stored kernels, read: whole, named, and as a matrix that is streamed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import jacgram
from jacgram.errors import IncompleteKernelError, StoreError
from jacgram.execute.events import TileFinished
from kit.native import array
from kit.writing import TILE, data, network

pytest.importorskip("zarr")
pytest.importorskip("torch")
PATTERNS = [
    None,
    "n i, m i -> n m",
    "n i, m i -> n m i",
    "n i, m j -> j m n i",
    "n i, m j -> n m j",
    "n i, n j -> n i j",
    "n i, n i -> i n",
]


def written(store, pattern=None, *, framework="jax", same=True, dtype="float32", **options):
    f, params = network(framework)
    params = {name: array(framework, np.asarray(leaf, dtype)) for name, leaf in params.items()}
    x2 = None if same else data(26 if pattern and pattern.startswith("n i, n") else 9, 5)
    jacgram.write_ntk(
        store,
        f,
        data().astype(dtype),
        x2,
        params=params,
        pattern=pattern,
        **{"tile": TILE, "memory": "64MiB"} | options,
    )
    return jacgram.open_kernel(store)


def as_matrix(kernel, full):
    """The matrix that a pattern's array stands for, by its definition."""
    header = kernel.header
    letters = {name: chr(ord("a") + k) for k, name in enumerate(dict.fromkeys((*header.left, *header.right)))}
    spell = lambda names: "".join(letters[x] for x in names)
    rows = [x for x in header.left if x in header.out]
    columns = [x for x in header.right if x in header.out]
    other = {x: chr(ord("A") + k) for k, x in enumerate(columns)}
    eyes = [x for x in columns if x in rows]
    terms = [spell(header.out), *(f"{letters[x]}{other[x]}" for x in eyes)]
    result = spell(rows) + "".join(other[x] if x in rows else letters[x] for x in columns)
    sizes = dict(zip(header.out, kernel.shape, strict=True))
    value = np.einsum(f"{','.join(terms)}->{result}", full, *(np.eye(sizes[x], dtype=full.dtype) for x in eyes))
    return value.reshape(int(np.prod([sizes[x] for x in rows])), -1)


@pytest.mark.parametrize("same", [True, False], ids=["same", "other"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=str)
def test_as_an_operator(tmp_path, pattern, same):
    kernel = written(tmp_path / "k", pattern, framework="torch", same=same)
    expected = as_matrix(kernel, kernel.to_numpy())
    operator = kernel.operator()
    assert operator.shape == expected.shape and operator.dtype == expected.dtype
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((expected.shape[1], 3)).astype(np.float32)
    rows = rng.standard_normal((expected.shape[0], 3)).astype(np.float32)
    close = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(operator @ columns, expected @ columns, **close)
    np.testing.assert_allclose(operator @ columns[:, 0], expected @ columns[:, 0], **close)
    np.testing.assert_allclose(operator.rmatmat(rows), expected.conj().T @ rows, **close)
    np.testing.assert_allclose(operator.rmatvec(rows[:, 0]), expected.conj().T @ rows[:, 0], **close)


def test_a_complex_kernel_as_an_operator(tmp_path):
    _, params = network("torch")
    turned = {name: leaf.to(_torch().complex128) * (1 + 0.5j) for name, leaf in params.items()}
    x = array("torch", data()).to(_torch().complex128)
    J = jacgram.Jacobian(lambda p, x: (x @ p["w"] + p["b"]) @ p["v"], x, params=turned)
    for name, K in (("hermitian", J @ J.H), ("symmetric", J @ J.T), ("conjugate", (J @ J.H).T)):
        K.write(tmp_path / name, tile=TILE)
        kernel = jacgram.open_kernel(tmp_path / name)
        assert kernel.header.mirror is not None
        matrix = K.matrix().resolve_conj().numpy()
        v = np.random.default_rng(0).standard_normal((*matrix.shape[:1], 2)) + 1j
        np.testing.assert_allclose(kernel.operator() @ v, matrix @ v, rtol=1e-10)
        np.testing.assert_allclose(kernel.operator().rmatmat(v), matrix.conj().T @ v, rtol=1e-10)


def _torch():
    return pytest.importorskip("torch")


def test_eigenvalues_and_solutions(tmp_path):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    kernel = written(tmp_path / "k", framework="torch", dtype="float64")
    operator, matrix = kernel.operator(), as_matrix(kernel, kernel.to_numpy())
    top = linalg.eigsh(operator, k=4, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(top), np.linalg.eigvalsh(matrix)[-4:], rtol=1e-8)
    b = np.ones(len(matrix))
    regular = operator + 10 * linalg.aslinearoperator(np.eye(len(matrix)))
    solution, info = linalg.cg(regular, b, rtol=1e-10)
    assert info == 0
    np.testing.assert_allclose(solution, np.linalg.solve(matrix + 10 * np.eye(len(matrix)), b), rtol=1e-6)


def test_with_names(tmp_path):
    pytest.importorskip("xarray")
    kernel = written(tmp_path / "k", "a k, b k -> b a", framework="torch")
    named = kernel.to_xarray()
    assert named.dims == ("b", "a") and named.name == "kernel" and named.attrs["pattern"] == "a k, b k -> b a"
    assert (named.sel(b=3, a=slice(5, 7)).values == kernel.to_numpy()[3, 5:8]).all()


def test_what_it_says_of_itself(tmp_path):
    kernel = written(tmp_path / "k", framework="torch")
    assert repr(kernel).endswith("n: 26, m: 26, i: 3, j: 3; float32, 23.8 KiB, 28 of 28 tiles)")
    assert kernel.progress == (28, 28) and kernel.complete and kernel.mask.all() and kernel.mask.shape == (7, 7)
    assert kernel.plan.examples == (TILE, TILE) and kernel.dtype == np.float32
    assert set(kernel.header.versions) == {"jacgram", "numpy", "zarr", "torch"}
    assert (kernel.tile((1, 0)) == kernel.array[4:8, :4]).all() and kernel.verify() == {}


def test_an_incomplete_kernel(tmp_path):
    class Stop(Exception):
        pass

    def stop(event):
        if isinstance(event, TileFinished) and event.tile == (0, 1):
            raise Stop

    with pytest.raises(Stop):
        written(tmp_path / "k", framework="torch", progress=stop)
    with pytest.raises(IncompleteKernelError, match=r"not finished: 2 of 28 tiles are done\. Fix: run the call"):
        jacgram.open_kernel(tmp_path / "k")
    kernel = jacgram.open_kernel(tmp_path / "k", allow_incomplete=True)
    expected = np.zeros((7, 7), bool)
    expected[0, 0] = expected[0, 1] = expected[1, 0] = True
    assert (kernel.mask == expected).all() and not kernel.complete
    found = kernel.to_numpy()
    assert not np.isnan(found[:4, :8]).any() and np.isnan(found[4:8, 4:8]).all()
    with pytest.raises(IncompleteKernelError, match="so it is no matrix"):
        kernel.operator()


def test_what_is_half_written_is_not_read(tmp_path):
    """Chunks without an entry, from a kill between the two, are NaN to us."""
    kernel = written(tmp_path / "k", framework="torch")
    (tmp_path / "k/manifest/0.0.json").unlink()
    kernel = jacgram.open_kernel(tmp_path / "k", allow_incomplete=True)
    assert np.isnan(kernel.to_numpy()[:4, :4]).all() and not kernel.mask[0, 0]


def test_nothing_there(tmp_path):
    with pytest.raises(StoreError, match=r"there is no kernel at .*nowhere"):
        jacgram.open_kernel(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists(), "looking makes nothing"


def test_damage_is_told_when_it_is_read(tmp_path):
    kernel = written(tmp_path / "k", framework="torch")
    path = tmp_path / "k/c.1.2.0.0"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StoreError, match=r"chunk c\.1\.2\.0\.0 .* is damaged"):
        kernel.to_numpy()
    with pytest.raises(StoreError, match=r"chunk c\.1\.2\.0\.0 .* is damaged"):
        kernel.operator() @ np.ones(78, np.float32)


def test_reading_runs_nothing_and_loads_no_framework(tmp_path):
    """No pickle: a store is JSON and numbers; and whoever reads it needs neither JAX nor PyTorch."""
    written(tmp_path / "k", framework="torch")
    for path in (tmp_path / "k").rglob("*"):
        if path.is_file() and not path.name.startswith("c."):
            assert path.read_bytes().startswith(b"{")
    code = (
        "import sys, jacgram, pickle\n"
        "pickle.load = pickle.loads = pickle.Unpickler = None\n"
        f"jacgram.open_kernel({str(tmp_path / 'k')!r}).to_numpy()\n"
        "print([m for m in ('jax', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_eigenvalues_within_little_memory(tmp_path):
    """Top eigenvalues of a kernel of 400 MB, in a process that never holds 300 MiB."""
    pytest.importorskip("scipy")
    torch = _torch()
    x = np.random.default_rng(0).standard_normal((10_000, 4)).astype(np.float32)
    w = torch.ones(4, 2)
    f = lambda w, x: torch.tanh(x @ w)
    jacgram.write_ntk(tmp_path / "k", f, x, params=w, pattern="n i, m i -> n m", tile=1000)
    code = Path(__file__).with_name("top_eigenvalues.py").read_text()
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "k"], capture_output=True, text=True, check=True)
    *values, peak = map(float, done.stdout.split())
    J = torch.func.vmap(torch.func.jacrev(lambda w, x: torch.tanh(x @ w)), (None, 0))(w, torch.from_numpy(x))
    rows = J.permute(1, 0, 2, 3).reshape(2, 10_000, 8).double()
    np.testing.assert_allclose(np.sort(values), np.sort(_top(rows))[-len(values) :], rtol=1e-3)
    assert peak < 300 << 20


def _top(rows):
    """Nonzero eigenvalues of Σ R Rᵀ are those of the small matrix of stacked rows."""
    stacked = np.concatenate([row.numpy() for row in rows], 1)
    return np.linalg.eigvalsh(stacked.T @ stacked)

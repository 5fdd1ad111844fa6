"""Both adapters against NumPy: one suite for every primitive."""

import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jacgram.arrays import Windows, adapter
from jacgram.arrays import measure as measuring
from jacgram.arrays.host import others_busy_s
from jacgram.arrays.measure import cache_folder, device, measure
from jacgram.errors import ArgumentError
from jacgram.plan.device import Device
from kit.native import array

RNG = np.random.default_rng(0)


@pytest.fixture
def xp(framework):
    return adapter(framework)


def test_of_no_framework():
    with pytest.raises(ArgumentError, match="framework must be 'jax' or 'torch', got 'numpy'"):
        adapter("numpy")


def test_window_reaches_outside(xp, framework):
    x = RNG.standard_normal((2, 7, 5, 3))
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))
    for start, size, step in (((-2, 1), (4, 3), (2, 1)), ((3, -3), (3, 5), (3, 2)), ((0, 0), (7, 5), (1, 1))):
        found = xp.to_numpy(xp.window(array(framework, x), (0, *start, 0), (2, *size, 3), (1, *step, 1)))
        rows = 4 + start[0] + step[0] * np.arange(size[0])
        columns = 4 + start[1] + step[1] * np.arange(size[1])
        np.testing.assert_array_equal(found, padded[:, rows][:, :, columns])


@pytest.mark.parametrize("count", [0, 1, 4])
@pytest.mark.parametrize(("size", "stride", "dilation"), [(3, 1, 1), (1, 2, 3), (2, 3, 4), (4, 1, 2)])
@pytest.mark.parametrize("start", [-6, -1, 0, 3, 9])
def test_patches_reach_outside(xp, framework, count, size, start, stride, dilation):
    x = RNG.standard_normal((2, 7, 8, 3))
    padded = np.pad(x, ((0, 0), (40, 40), (40, 40), (0, 0)))
    axes = [Windows(count, size, start, stride, dilation), Windows(5, 2, -1, 2, 1)]
    found = xp.to_numpy(xp.patches(array(framework, x), axes))
    rows, columns = (
        40 + axis.start + axis.stride * np.arange(axis.count)[:, None] + axis.dilation * np.arange(axis.size)
        for axis in axes
    )
    expected = padded[:, rows[:, None, :, None], columns[:, None, :]]
    np.testing.assert_array_equal(found, expected)


def test_spread(xp, framework):
    x = RNG.standard_normal((2, 3))
    found = xp.to_numpy(xp.spread(array(framework, x), 1, 3))
    expected = np.zeros((2, 7))
    expected[:, ::3] = x
    np.testing.assert_array_equal(found, expected)


def test_place_and_scatter(xp, framework):
    rows = RNG.standard_normal((2, 3, 4))
    placed = xp.to_numpy(xp.place(array(framework, rows), np.array([5, 0, 2, 3]), 6))
    assert (placed[..., [5, 0, 2, 3]] == rows).all()
    assert (placed[..., [1, 4]] == 0).all()
    index = np.array([[1, 1, -1], [0, 9, 2]])
    values = RNG.standard_normal((2, 4, 3, 5))
    found = xp.to_numpy(xp.scatter_rows(array(framework, index), array(framework, values), 3))
    expected = np.zeros((2, 4, 3, 5))
    for n in range(2):
        for t in range(3):
            if 0 <= index[n, t] < 3:
                expected[n, :, index[n, t]] += values[n, :, t]
    np.testing.assert_allclose(found, expected)


def test_add_block_and_slice(xp, framework):
    buffer, block = np.ones((4, 5)), RNG.standard_normal((2, 3))
    found = xp.to_numpy(xp.add_block(array(framework, buffer), array(framework, block), [1, 2]))
    expected = buffer.copy()
    expected[1:3, 2:5] += block
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(xp.to_numpy(xp.slice(array(framework, expected), 1, 2, 3)), expected[:, 2:5])


def test_loops(xp, framework):
    x = array(framework, np.arange(6.0))
    total = xp.fold(lambda start, carry: carry + xp.slice(x, 0, start, 2), array(framework, np.zeros(2)), [0, 2, 4])
    np.testing.assert_array_equal(xp.to_numpy(total), [6, 9])
    skipped = xp.fold(
        lambda start, carry: xp.when(start >= 2, lambda c: c + 1, carry), array(framework, np.zeros(1)), [0, 2, 4]
    )
    np.testing.assert_array_equal(xp.to_numpy(skipped), [2])


@pytest.mark.parametrize(("cores", "abreast"), [(1, 1), (2, 4), (64, 4)])
def test_parts_run_side_by_side_where_there_are_cores_for_them(cores, abreast, monkeypatch):
    jax = pytest.importorskip("jax")
    from jacgram.arrays import jax as adapted

    monkeypatch.setattr(adapted, "usable_cores", lambda: cores)
    on_cpu = jax.default_backend() == "cpu"
    traits = adapter("jax").traits
    assert (traits.abreast, traits.compiled) == (abreast if on_cpu else 1, on_cpu)
    pytest.importorskip("torch")
    traits = adapter("torch").traits
    assert (traits.abreast, traits.compiled) == (1, False)


def test_the_device_is_that_of_the_arrays_in_jax():
    jax = pytest.importorskip("jax")
    xp, x = adapter("jax"), jax.numpy.ones(3)
    assert xp.at([x]) == xp.at([x, x]) == type(xp)(jax.local_devices()[0])
    assert xp.at([]) == xp
    assert xp.at([x]).device_name() == xp.device_name()
    with jax.default_device(jax.local_devices()[0]):
        assert xp.device_name() == xp.at([x]).device_name()
    seen = []
    jax.jit(lambda a: seen.append(xp.at([a])) or a)(x)
    assert seen == [xp], "what is traced is nowhere yet"


def test_the_device_is_that_of_the_arrays_in_pytorch():
    torch = pytest.importorskip("torch")
    xp = adapter("torch")
    assert xp.at([torch.ones(3)]).device == torch.device("cpu")
    assert xp.at([torch.ones(3, device="meta")]) == xp, "nothing lies there"
    assert xp.at([torch.ones(3, device="meta"), torch.ones(3)]).device == torch.device("cpu")
    on_host, on_gpu = (type(xp)(torch.device(place)).traits for place in ("cpu", "cuda"))
    assert on_host.patch_entries < on_gpu.patch_entries
    assert on_gpu.pass_bytes > on_host.pass_bytes


def test_laid_out_in_another_order(xp, framework):
    x = RNG.standard_normal((2, 3, 4))
    found = xp.lay_out(array(framework, x), (2, 0, 1))
    np.testing.assert_array_equal(xp.to_numpy(found), x.transpose(2, 0, 1))
    if framework == "torch":
        assert found.is_contiguous()


def test_vmap(xp, framework):
    a, b = RNG.standard_normal((3, 2)), RNG.standard_normal((3, 4))
    found = xp.vmap(lambda leaves: [leaves[0].sum(), leaves[1] * 2], [array(framework, a), array(framework, b)])
    np.testing.assert_allclose(xp.to_numpy(found[0]), a.sum(1))
    np.testing.assert_allclose(xp.to_numpy(found[1]), b * 2)


def test_figures_are_measured_once_and_kept(xp, tmp_path, monkeypatch):
    monkeypatch.setenv("JACGRAM_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "others_busy_s", lambda: 0.0)
    assert cache_folder() == tmp_path
    figures = measure(xp, "here")
    assert figures.flops_per_s > 0
    assert all(rate > 0 for _, rate in (*figures.products, *figures.copies))
    device.__globals__["_device"].cache_clear()
    kept = device(xp)
    assert len(list(tmp_path.glob("device-*.json"))) == 1
    device.__globals__["_device"].cache_clear()
    assert device(xp) == kept, "the second reading comes from disk"
    for path in tmp_path.glob("device-*.json"):
        path.write_text("{")
    device.__globals__["_device"].cache_clear()
    assert device(xp).name == kept.name, "what cannot be read is measured again"


def test_the_best_of_several_measurements_counts():
    slow, fast = (
        Device("here", products=((1, p), (64, q)), copies=((1e6, p),), call_s=1 / p, sums=((1, q),), turns_per_s=q)
        for p, q in ((1.0, 5.0), (2.0, 4.0))
    )
    assert measuring.best([slow, fast]) == Device(
        "here", products=((1, 2.0), (64, 5.0)), copies=((1e6, 2.0),), call_s=0.5, sums=((1, 5.0),), turns_per_s=5.0
    )


def test_figures_of_a_busy_machine_are_kept_for_a_while(xp, tmp_path, monkeypatch):
    monkeypatch.setenv("JACGRAM_CACHE", str(tmp_path))
    spent = itertools.count(0.0, 1000.0)
    monkeypatch.setattr(measuring, "others_busy_s", lambda: next(spent))
    table = ((1.0, 1.0),)
    monkeypatch.setattr(
        measuring, "measure", lambda xp, name: Device(f"{name}, measured at {next(spent)}", table, table, 1.0)
    )

    def figures():
        device.__globals__["_device"].cache_clear()
        return device(xp)

    first = figures()
    assert figures() == first
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    second = figures()
    assert second != first
    monkeypatch.setattr(measuring, "others_busy_s", lambda: 0.0)
    os.utime(path, (0, 0))
    third = figures()
    os.utime(path, (0, 0))
    assert third not in (first, second)
    assert figures() == third, "those of a quiet machine are kept for good"
    assert len(list(tmp_path.iterdir())) == 2
    device.__globals__["_device"].cache_clear()


@pytest.mark.parametrize("text", ["", "null", "[]", '{"products": []}', '{"copies": [[1, 0]]}', '{"shares": Infinity}'])
def test_figures_on_disk_that_make_no_sense_are_measured_anew(text, tmp_path, monkeypatch):
    xp, table = adapter("torch"), ((1.0, 1.0),)
    good = Device("good", table, table, 1.0)
    monkeypatch.setenv("JACGRAM_CACHE", str(tmp_path))
    monkeypatch.setattr(measuring, "measure", lambda xp, name: good)
    monkeypatch.setattr(measuring, "others_busy_s", lambda: 0.0)
    device.__globals__["_device"].cache_clear()
    assert device(xp) == good
    (path,) = tmp_path.iterdir()
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | json.loads(text)) if text.startswith("{") else text)
    device.__globals__["_device"].cache_clear()
    assert device(xp) == good
    assert json.loads(path.read_text()) == fields
    device.__globals__["_device"].cache_clear()


def test_figures_are_not_kept_where_there_is_no_home(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    for name in ("JACGRAM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(measuring.Path, "home", no_home)
    good = Device("good", ((1.0, 1.0),), ((1.0, 1.0),), 1.0)
    monkeypatch.setattr(measuring, "measure", lambda xp, name: good)
    device.__globals__["_device"].cache_clear()
    assert cache_folder() is None
    assert device(adapter("torch")) == good
    device.__globals__["_device"].cache_clear()


def test_work_of_others_is_told_from_our_own():
    before, start, since = others_busy_s(), time.process_time(), time.perf_counter()
    while time.process_time() < start + 0.3:
        pass
    # The system counts in hundredths of a second, and others may work meanwhile on what we leave them.
    left = (time.perf_counter() - since) * (os.cpu_count() or 1) - 0.3
    assert -0.1 < others_busy_s() - before < left + 0.1
    child = "import time\nwhile time.process_time() < 0.5: pass"
    before = others_busy_s()
    subprocess.run([sys.executable, "-c", child], check=True)
    assert not Path("/proc/stat").exists() or others_busy_s() - before > 0.4


@pytest.mark.parametrize("spec", ["ik,jk->ij", "nki,nkj->nij", "ki,kj->ij"])
@pytest.mark.parametrize("size", [10_000, 5_003, 8_192])
def test_long_contractions_keep_their_digits(xp, framework, spec, size):
    shape = {"n": 2, "i": 3, "j": 5, "k": size}
    rng = np.random.default_rng(size)  # what rounds how must not hang on the tests before
    operands = [rng.random([shape[x] for x in term]).astype(np.float32) for term in spec.split("->")[0].split(",")]
    found = xp.to_numpy(xp.einsum(spec, *(array(framework, x) for x in operands)))
    expected = np.einsum(spec, *(x.astype(np.float64) for x in operands))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6 if size != 5_003 else 3e-6)


@pytest.mark.parametrize(
    "spec", ["nski,mrki->nsmr", "nskt,nti->nski", "nstk,nti->nski", "bsp,brp->bsr", "ni,mi->mn", "ns,nr->nsr"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_merged_axes(xp, framework, spec, turned):
    """Whether axes lie together, in another order in memory, or not at all."""
    sizes = {letter: 2 + position for position, letter in enumerate("nmskirtbp")}
    first, second = spec.split("->")[0].split(",")
    operands = [RNG.random([sizes[x] for x in term]) for term in (first, second)]  # sums in which nothing cancels
    natives = [array(framework, x) for x in operands]
    if turned:
        natives = [xp.transpose(array(framework, x.T.copy()), range(x.ndim)[::-1]) for x in operands]
    np.testing.assert_allclose(xp.to_numpy(xp.einsum(spec, *natives)), np.einsum(spec, *operands), rtol=1e-12)


def test_a_buffer_is_used_again(xp, framework):
    buffer, spec = xp.buffer([]), "nsk,nki->nsi"
    for size in (4, 3, 5, 5):  # a last slice may be smaller, and the first too small
        a, b = RNG.random((2, size, 6)), RNG.random((2, 6, 7))
        found = xp.einsum(spec, array(framework, a), array(framework, b), buffer=buffer)
        np.testing.assert_allclose(xp.to_numpy(found), np.einsum(spec, a, b), rtol=1e-12)
    if framework == "torch":
        again = xp.einsum(spec, array(framework, a), array(framework, b), buffer=buffer)
        assert again.data_ptr() == found.data_ptr()
        other = xp.einsum(
            spec, array(framework, a.astype("float32")), array(framework, b.astype("float32")), buffer=buffer
        )
        assert other.dtype != found.dtype, "memory of another dtype is not mistaken for it"


def test_what_is_differentiated_takes_memory_of_its_own():
    torch = pytest.importorskip("torch")
    xp = adapter("torch")
    a, b = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 4, 5)
    buffer = xp.buffer([])
    first = xp.einsum("nsk,nki->nsi", a, b, buffer=buffer)
    second = xp.einsum("nsk,nki->nsi", 2 * a, b, buffer=buffer)
    (gradient,) = torch.autograd.grad((first * second).sum(), a)
    torch.testing.assert_close(gradient, torch.autograd.grad((2 * (a @ b) ** 2).sum(), a)[0])


@pytest.mark.parametrize("spec", ["nstk,nti->nski", "nski,mrki->nsmr"])
def test_what_is_mapped_over_or_pushed_forward_is_not_written_into(spec):
    torch = pytest.importorskip("torch")
    xp, sizes = adapter("torch"), {letter: 2 + position for position, letter in enumerate("nmskirt")}
    first, second = spec.split("->")[0].split(",")
    a, b = (torch.randn([4, *(sizes[x] for x in term)], dtype=torch.float64) for term in (first, second))
    product = lambda x, y: xp.einsum(spec, x, y, buffer=xp.buffer([]))
    expected = torch.stack([torch.einsum(spec, x, y) for x, y in zip(a, b, strict=True)])
    torch.testing.assert_close(torch.func.vmap(product)(a, b), expected)
    _, pushed = torch.func.jvp(lambda x: product(x, b[0]), (a[0],), (a[1],))
    torch.testing.assert_close(pushed, torch.einsum(spec, a[1], b[0]))

"""Products by convolutions of size one, wherever oneDNN is or is not the faster library."""

import pytest

torch = pytest.importorskip("torch")

from jacgram.arrays import torch_onednn
from jacgram.arrays.torch_onednn import is_faster, multiplied
from jacgram.arrays.torch_products import contract, taking

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture
def faster(monkeypatch):
    monkeypatch.setattr(torch_onednn, "is_faster", lambda: True)


def rows(*shape, gap=0, seed=0):
    """Random matrices whose rows lie together, with so many entries between two of them."""
    made = torch.randn(*shape[:-1], shape[-1] + gap, generator=torch.Generator().manual_seed(seed))
    return made[..., : shape[-1]]


LAYOUTS = {
    "rows": lambda b, k, n: rows(b, k, n, seed=1),
    "columns": lambda b, k, n: rows(b, n, k, seed=1).mT,
    "columns with gaps": lambda b, k, n: rows(b, n, k, gap=3, seed=1).mT,
    "every other column": lambda b, k, n: rows(b, k, 2 * n, seed=1)[..., ::2],
    "one matrix repeated": lambda b, k, n: rows(1, k, n, seed=1).expand(b, k, n),
}
SIZES = [(1, 260, 4096, 160), (2, 256, 1200, 96), (6, 160, 208, 144), (40, 160, 64, 288), (1, 9000, 64, 33)]


def check(x, y):
    out = torch.full((*x.shape[:2], y.shape[2]), torch.nan)
    assert multiplied(x, y, out)
    rounded = 2e-7 * x.shape[2]  # for each of the terms that are added up one after the other
    torch.testing.assert_close(out.double(), x.double() @ y.double(), rtol=1e-5, atol=rounded)


@pytest.mark.parametrize("gap", [0, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_products_are_right_however_matrices_lie(faster, size, layout, gap):
    b, m, k, n = size
    y = LAYOUTS[layout](b, k, n)
    if 2 * m * k * n < torch_onednn._LEAST_FLOPS and y.stride(2) != 1:
        assert not multiplied(rows(b, m, k, gap=gap), y, torch.empty(b, m, n))
    else:
        check(rows(b, m, k, gap=gap), y)


def test_a_part_of_a_larger_result_is_written(faster):
    x, y = rows(1, 160, 1024), rows(1, 160, 1024, seed=1).mT
    whole = torch.zeros(3, 160, 300)
    assert multiplied(x, y, whole[1:2, :, 50:210])
    torch.testing.assert_close(whole[1, :, 50:210], x[0] @ y[0], rtol=1e-5, atol=1e-4)
    assert not whole[::2].any()
    assert not whole[1, :, :50].any()
    assert not whole[1, :, 210:].any()


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (rows(1, 160, 1024).double(), rows(1, 1024, 160).double()),
        (rows(1, 1024, 160).mT, rows(1, 1024, 160)),
        (rows(1, 32, 16384), rows(1, 16384, 160)),
        (rows(1, 240, 16384), rows(1, 16384, 160)),
        (rows(1, 160, 16384), rows(1, 16384, 8)),
        (rows(6, 160, 200, gap=0), rows(6, 200, 144)),
        (rows(1, 4096, 32), rows(1, 32, 4096)),
        (rows(500, 32, 64), rows(500, 64, 32)),
        (rows(1, 64, 64), rows(1, 64, 64)),
        (rows(1, 64, 1 << 16), rows(1, 1 << 16, 96)),
    ],
    ids=[
        "float64",
        "rows apart",
        "few rows",
        "few for two copies",
        "few columns",
        "uneven groups",
        "few summed",
        "small",
        "one small",
        "much to copy",
    ],
)
def test_what_does_not_gain_is_left_alone(faster, x, y):
    out = torch.full((x.shape[0], x.shape[1], y.shape[2]), 7.0, dtype=x.dtype)
    assert not multiplied(x, y, out)
    assert (out == 7).all()


def belongs(tensor, *sources):
    return any(tensor.untyped_storage().data_ptr() == source.untyped_storage().data_ptr() for source in sources)


@pytest.mark.parametrize("gaps", ["none", "in rows", "in columns"])
@pytest.mark.parametrize(("size", "name"), [((1, 100_000, 64, 64), "conv2d"), ((100, 160, 256, 256), "conv1d")])
def test_so_much_is_copied_at_once(faster, monkeypatch, size, name, gaps):
    """The kernel and in groups everything is laid out anew; and what was copied to be given to the convolution."""
    b, m, k, n = size
    x, y = rows(b, m, k, gap=3 if gaps == "in rows" else 0), rows(b, k, n, gap=3 if gaps == "in columns" else 0)
    copied = []
    convolve = getattr(torch_onednn.functional, name)

    def counted(pixels, kernel, **options):
        found = convolve(pixels, kernel, **options)
        own = pixels.numel() + found.numel() if name == "conv1d" else 0
        given = sum(tensor.numel() for tensor in (pixels, kernel) if not belongs(tensor, x, y))
        copied.append(given + kernel.numel() + found.numel() + own)
        return found

    monkeypatch.setattr(torch_onednn.functional, name, counted)
    check(x, y)
    assert len(copied) > 1
    assert max(copied) <= torch_onednn._MOST_COPIED


@pytest.mark.parametrize("spec", ["nsw,mtw->nmst", "nscp,ncpi->nsci", "bmk,bkn->bmn"])
def test_contractions_take_them(monkeypatch, spec):
    sizes = {"n": 6, "m": 6, "s": 20, "t": 20, "w": 3000, "c": 4, "p": 640, "i": 90, "b": 2, "k": 512}
    sizes |= {"m": 130, "n": 140} if "b" in spec else {"s": 80} if "c" in spec else {}
    left, right = (torch.randn([sizes[x] for x in term]) for term in spec.split("->")[0].split(","))
    taken = []
    monkeypatch.setattr(torch_onednn, "is_faster", lambda: taken.append(1) or True)
    found = contract(spec, left, right, taking(None))
    assert taken
    torch.testing.assert_close(found.double(), torch.einsum(spec, left.double(), right.double()), rtol=1e-5, atol=1e-3)
    taken.clear()
    contract(spec, left, right, None)
    assert not taken, "what is followed may be differentiated by what it is made of alone"


@pytest.fixture
def measured():
    torch_onednn._is_faster.cache_clear()
    yield
    torch_onednn._is_faster.cache_clear()


@pytest.mark.parametrize(("ours", "expected"), [(0.5, True), (0.9, False), (2.0, False)])
def test_the_faster_library_is_found_by_the_least_of_several_times(monkeypatch, measured, ours, expected):
    others = iter([3.0, 3 * ours, 1.0, ours, 1.5, 2 * ours, 1.0, ours, 1.0, ours])
    monkeypatch.setattr(torch_onednn, "_seconds", lambda call: (call(), next(others))[1])
    assert is_faster() is expected
    assert is_faster() is expected, "it is measured once"


@pytest.mark.parametrize("there", ["absent", "disabled"])
def test_without_onednn_nothing_is_measured(monkeypatch, measured, there):
    monkeypatch.setattr(torch_onednn, "_seconds", lambda call: pytest.fail("measured"))
    if there == "absent":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    else:
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not is_faster()


def test_it_can_be_measured_whatever_is_the_default(measured):
    with torch.device("meta"):
        torch.set_default_dtype(torch.float64)
        try:
            assert is_faster() in (True, False)
        finally:
            torch.set_default_dtype(torch.float32)

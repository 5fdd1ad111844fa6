"""Products of PyTorch tensors as they lie in memory."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from jacgram.arrays import torch_layout, torch_products
from jacgram.arrays.base import Buffer
from jacgram.arrays.torch_products import contract, taking

SPECS = [
    "nsw,mtw->nmst",
    "nsw,mtw->nsmt",
    "nps,npq->nsq",
    "nscp,ncp->nsc",
    "npsi,npo->nsio",
    "bnsw,bmtw->bnmst",
    "ws,w->s",
    "nspc,npcx->nxsc",
    "xpn,nsqp->snqx",
    "nab,mba->nm",
]


@st.composite
def problems(draw):
    """A product, and two tensors whose axes lie in any order, with gaps between them, repeated along some."""
    spec = draw(st.sampled_from(SPECS))
    sizes = {label: draw(st.integers(0, 5)) for label in sorted(set(spec) - set(",->"))}
    operands = []
    for labels in spec.split("->")[0].split(","):
        order = draw(st.permutations(range(len(labels))))
        held = [sizes[labels[axis]] + draw(st.integers(0, 1)) for axis in order]
        array = torch.randn(held, dtype=torch.float64)
        cut = array[tuple(slice(sizes[labels[axis]]) for axis in order)]
        for place in [place for place, size in enumerate(cut.shape) if size and draw(st.integers(0, 4)) == 0]:
            cut = cut.narrow(place, 0, 1).expand_as(cut)
        operands.append(cut.permute([order.index(axis) for axis in range(len(labels))]))
    return spec, operands


@settings(deadline=None, max_examples=100)
@given(problems(), st.sampled_from(["kept", "new", "none"]), st.booleans())
def test_any_layout_gives_what_einsum_gives(problem, memory, loops):
    spec, (left, right) = problem
    take = {"kept": taking(Buffer()), "new": taking(None), "none": None}[memory]
    with pytest.MonkeyPatch.context() as patched:
        if loops:
            patched.setattr(torch_layout, "_CALL_FLOPS", 0)
        torch_products._route.cache_clear()
        found = contract(spec, left, right, take)
    torch_products._route.cache_clear()
    torch.testing.assert_close(found, torch.einsum(spec, left, right))


def products(monkeypatch, spec, left, right):
    """How many products a contraction takes, once it is seen to be right."""
    taken = []
    multiply = torch.bmm
    monkeypatch.setattr(torch, "bmm", lambda *given, **options: taken.append(1) or multiply(*given, **options))
    torch.testing.assert_close(contract(spec, left, right, taking(None)), torch.einsum(spec, left, right))
    return len(taken)


def rows(seeds, examples):
    """Rows whose seeds lie outside of the examples."""
    return torch.randn(seeds, examples, 512, dtype=torch.float64).permute(1, 0, 2)


def test_an_axis_in_the_way_is_looped_over_where_products_stay_wide(monkeypatch):
    assert products(monkeypatch, "nsw,mtw->nmst", rows(10, 440)[:420], rows(10, 64)) == 10


def test_an_axis_of_the_batch_is_looped_over(monkeypatch):
    """Examples and channels, of which each has a product, do not lie together: seeds are between them."""
    cotangent, activation = torch.randn(16, 10, 16, 1024), torch.randn(16, 16, 1024, 8)
    assert products(monkeypatch, "nscp,ncpi->nsci", cotangent, activation) == 16


def test_a_vector_takes_no_product_where_matrices_would_be_copied(monkeypatch):
    cotangent, activation = torch.randn(10, 16, 32, 64).permute(1, 0, 2, 3), torch.randn(16, 32, 64, 1)
    assert products(monkeypatch, "nspc,npcx->nxsc", cotangent, activation) == 0
    assert products(monkeypatch, "npcx,nspc->nsc", activation, cotangent) == 0
    assert products(monkeypatch, "npsc,npcx->npsx", torch.randn(16, 32, 10, 64), activation) == 1


def test_where_they_would_be_thin_it_is_copied(monkeypatch):
    assert products(monkeypatch, "nsw,mtw->nmst", rows(10, 64)[:6], rows(10, 64)) == 1


def test_small_products_are_copied(monkeypatch):
    assert products(monkeypatch, "nsw,mtw->nmst", rows(2, 30)[:29], rows(2, 30)) == 1


def test_what_is_copied_for_both_operands_is_copied_once():
    array = torch.randn(3, 4, 5, dtype=torch.float64).permute(1, 0, 2)  # (4, 3, 5), the kept axis between the summed
    taken = []

    def take(what, shape, like):
        taken.append(what)
        return like.new_empty(tuple(shape))

    found = contract("abc,dbc->ad", array, array, take)
    assert taken.count("left") + taken.count("right") == 1
    torch.testing.assert_close(found, torch.einsum("abc,dbc->ad", array, array))
    taken.clear()
    other = array.clone(memory_format=torch.preserve_format)
    torch.testing.assert_close(contract("abc,dbc->ad", array, other, take), torch.einsum("abc,dbc->ad", array, other))
    assert taken.count("left") + taken.count("right") == 2


@pytest.mark.parametrize("spec", ["nsw,msw->nms", "nsw,mtw->nmst"])
def test_what_is_repeated_in_memory_is_still_several_numbers_to_differentiate(spec):
    """A leaf may lie so: each of its entries has a gradient of its own."""
    left, right = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    right = right.expand(2, 3, 4).detach().requires_grad_()
    weights = torch.randn(torch.einsum(spec, left, right).shape, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((kernel * weights).sum(), right)[0]
        for kernel in (contract(spec, left, right, None), torch.einsum(spec, left, right))
    )
    torch.testing.assert_close(found, expected)

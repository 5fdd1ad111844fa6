"""Backward passes of matrix products by the faster library find what autograd finds."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge, saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

import jacgram
from jacgram.arrays import torch_onednn
from jacgram.frontends.torch import matrices
from jacgram.frontends.torch.nodes import consumers_first, leading_to
from jacgram.frontends.torch.shortcuts import Shortcuts

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
ROWS, INNER, COLUMNS, SEEDS = 96, 256, 320, 10


@pytest.fixture
def products(monkeypatch):
    """Whether oneDNN took each product that a hook has come to, as if it were the faster library."""
    for module in (torch_onednn, matrices):
        monkeypatch.setattr(module, "is_faster", lambda: True)
    taken, product = [], matrices._product

    def counted(cotangent, factor):
        found = product(cotangent, factor)
        taken.append(found is not None)
        return found

    monkeypatch.setattr(matrices, "_product", counted)
    return taken


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def check(function, u, *, seeds=SEEDS, axis=0):
    """Cotangents of u under ``vmap``, with shortcuts and by autograd alone."""
    u = u.clone().requires_grad_()
    v = u * 1.0
    y = function(v)
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]
    shortcuts = Shortcuts(starts, edges, at_once=True)

    def pull(seed):
        return torch.autograd.grad(starts, edges, [seed], retain_graph=True)[0]

    given = normal(seeds, *y.shape, seed=3, dtype=y.dtype).movedim(0, axis)
    found = torch.func.vmap(lambda seed: shortcuts.pulled(lambda: pull(seed)), axis)(given)
    torch.testing.assert_close(found, torch.func.vmap(pull, axis)(given), rtol=1e-4, atol=1e-3)


RIGHT = {"as rows": normal(INNER, COLUMNS, seed=1), "as columns": normal(COLUMNS, INNER, seed=1).T}


@pytest.mark.parametrize("lies", RIGHT)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_product_with_a_constant(products, lies, axis):
    check(lambda u: u @ RIGHT[lies], normal(ROWS, INNER), axis=axis)
    assert products == [True]


def test_a_right_factor_that_needs_gradients_but_is_not_asked_for(products):
    weight = RIGHT["as rows"].clone().requires_grad_()
    check(lambda u: u @ weight.exp().log1p(), normal(ROWS, INNER))
    assert products == [True]
    assert weight.grad is None


def test_a_right_factor_that_is_asked_for_leaves_it_to_autograd(products):
    check(lambda u: u.sin() @ u.T.cos(), normal(320, 320))
    check(lambda u: RIGHT["as rows"] @ u, normal(COLUMNS, INNER))
    assert products == []


def test_a_constant_left_factor_has_saved_no_right_one(products):
    """Such a node is what is asked for, and so leads to it; nothing on its left does."""
    w, left = normal(INNER, INNER, seed=2) / 16, normal(ROWS, 64, seed=5)
    f = lambda z: torch.tanh(torch.tanh(left @ z) @ w).mean(0)[:24]
    z = normal(64, INNER, seed=6)
    found = jacgram.gram(f, z, method=jacgram.Structured(strict=True))
    exact = jacgram.gram(
        lambda z: torch.tanh(torch.tanh(left.double() @ z) @ w.double()).mean(0)[:24], z.double(),
        method=jacgram.Materialize(),
    )  # fmt: skip
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-6)


def test_a_product_that_is_itself_asked_for(products):
    w = normal(ROWS, INNER, seed=2).requires_grad_()
    h = normal(ROWS, ROWS, seed=7) @ w.exp()
    y = torch.tanh(h @ RIGHT["as rows"])
    starts, edges, seeds = [get_gradient_edge(y)], [get_gradient_edge(h)], normal(SEEDS, *y.shape, seed=3)
    pull = lambda seed: torch.autograd.grad(starts, edges, [seed], retain_graph=True)[0]
    shortcuts = Shortcuts(starts, edges, at_once=True)
    found = torch.func.vmap(lambda seed: shortcuts.pulled(lambda: pull(seed)))(seeds)
    torch.testing.assert_close(found, torch.func.vmap(pull)(seeds), rtol=1e-4, atol=1e-3)
    assert products == [True]


def test_products_of_products(products):
    w = normal(INNER, INNER, seed=2) / 16
    check(lambda u: torch.relu(torch.relu(u @ w) @ w) @ w + u @ w, normal(4 * ROWS, INNER))
    assert products == [True] * 4


@pytest.mark.parametrize(
    ("u", "right", "seeds"),
    [
        (normal(ROWS, INNER, dtype=torch.float64), RIGHT["as rows"].double(), SEEDS),
        (normal(ROWS, INNER), RIGHT["as rows"], 2),
        (normal(8, INNER), RIGHT["as rows"], SEEDS),
        (normal(1 << 12, INNER), RIGHT["as rows"][:, :48], SEEDS),
    ],
    ids=["float64", "few seeds", "small", "few columns"],
)
def test_what_does_not_gain_is_left_to_autograd(products, u, right, seeds):
    check(lambda u: u @ right, u, seeds=seeds)
    assert products == [False]


def test_nothing_is_watched_where_onednn_is_no_faster(monkeypatch):
    monkeypatch.setattr(matrices, "is_faster", lambda: False)
    u = normal(ROWS, INNER).requires_grad_()
    nodes = consumers_first([get_gradient_edge(u @ RIGHT["as rows"]).node])
    leading = leading_to(nodes, {id(get_gradient_edge(u).node)})
    assert not any(matrices.wants_products(node, leading) for node in nodes)


@pytest.mark.parametrize("packing", ["nothing", "checkpoint", "around the call"])
def test_what_is_packed_is_not_unpacked_once_more(products, monkeypatch, packing):
    """What a checkpoint saves is computed anew each time that it is read."""
    w1, w2, w3 = (normal(INNER, INNER, seed=seed) / 16 for seed in (7, 8, 9))
    x, times = normal(12, 16, INNER, seed=4), []

    def segment(h):
        times.append("called")
        return torch.tanh(torch.tanh(h @ w2.to(h)) @ w3.to(h))

    def f(w, x):
        h = torch.tanh(x @ w)
        y = checkpoint(segment, h, use_reentrant=False) if packing == "checkpoint" else segment(h)
        return y[..., :10].mean(1)

    def unpack(tensor):
        times.append("unpacked")
        return tensor

    def kernel():
        times.clear()
        hooks = saved_tensors_hooks(lambda t: t, unpack) if packing == "around the call" else nullcontext()
        with hooks:
            found = jacgram.ntk(f, x, params=w1, method=jacgram.Structured())
        return found, times.count("called"), times.count("unpacked")

    kernel()  # what is checked on first use is checked
    products.clear()
    found, called, unpacked = kernel()
    assert (True in products) == (packing == "nothing")
    monkeypatch.setattr(matrices, "is_faster", lambda: False)
    assert kernel()[1:] == (called, unpacked)
    assert (unpacked > 0) == (packing == "around the call")
    exact = jacgram.ntk(f, x.double(), params=w1.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-4, atol=1e-5 * float(exact.abs().max()))


@pytest.mark.parametrize("bias", [True, False])
def test_kernels_of_layers(products, bias):
    torch.manual_seed(0)
    layers = [nn.Linear(64, 512, bias=bias), nn.GELU(), nn.Linear(512, 384, bias=bias), nn.GELU()]
    model = nn.Sequential(*layers, nn.Linear(384, 300, bias=bias), nn.Tanh(), nn.Linear(300, 10, bias=bias))
    x1, x2 = normal(9, 16, 64, seed=4), normal(5, 16, 64, seed=5)
    f = lambda params, x: torch.func.functional_call(model, params, x).mean(1)
    leaves = {name: leaf.detach() for name, leaf in model.named_parameters()}
    found = jacgram.ntk(f, x1, x2, params=leaves)
    assert True in products
    exact = jacgram.ntk(
        f, x1.double(), x2.double(), params={name: leaf.double() for name, leaf in leaves.items()},
        method=jacgram.Materialize(),
    )  # fmt: skip
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5 * float(exact.abs().max()))

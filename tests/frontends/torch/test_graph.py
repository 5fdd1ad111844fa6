"""Uses read off autograd's graph, by the way itself rather than through what falls back to it."""

import numpy as np
import pytest
import torch
from torch import nn

import jacgram
from frontends.torch.checks import FRONTEND, basis
from frontends.torch.models import Of, weight
from jacgram.frontends.torch.graph import graph_uses
from jacgram.frontends.torch.identity import stacked_seeds
from kit import oracle
from kit.rows import jacobian_of_uses


def read(f, params, x):
    """Uses of ``f(params, x)`` read off the graph, and which leaves were not."""
    side = FRONTEND.side(f, x, params, argument="x1")
    with side.calling():
        uses, _, unread = graph_uses(side, stacked_seeds(side, basis(side)), frozenset())
    return side, uses, unread


def check(f, params, x):
    """They are the rows of autograd."""
    side, uses, unread = read(f, params, x)
    assert not unread
    (found,) = jacobian_of_uses(uses, [struct.shape for struct in side.variable], side.n, sum(map(len, basis(side))))
    (rows,) = oracle.jacobian(f, x, params)
    torch.testing.assert_close(
        torch.from_numpy(found.real).reshape(rows.leaves[0].shape), torch.from_numpy(rows.leaves[0])
    )
    return uses


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


X = normal(4, 3, 2)
READ = {
    "mm": (normal(2, 3), lambda p, x: x[:, 0] @ p),
    "mm, weight first": (normal(3, 2), lambda p, x: (p @ x[:, 0].T).T),
    "addmm": (normal(2, 3), lambda p, x: torch.addmm(x[:, 0, :1], x[:, 1], p, alpha=2.0)),
    "addmm, weight first": (normal(3, 2), lambda p, x: torch.addmm(x[:, :, 0].T, p, x[:, 0].T).T),
    "addmm, bias": (normal(2), lambda p, x: torch.addmm(p, x[:, 0], x[0].T @ x[0] * 0 + 1, beta=3.0)),
    "bmm, expanded": (normal(2, 3), lambda p, x: torch.bmm(x, p.expand(len(x), 2, 3)).flatten(1)),
    "bmm, expanded from one": (normal(1, 2, 3), lambda p, x: torch.bmm(x, p.expand(len(x), 2, 3)).flatten(1)),
    "bmm, stacked": (normal(3, 2, 2), lambda p, x: torch.bmm(x.transpose(0, 1), p).transpose(0, 1).flatten(1)),
    "bmm, weight first": (normal(3, 3, 2), lambda p, x: torch.bmm(p, x.permute(1, 2, 0)).permute(2, 0, 1).flatten(1)),
    "add": (normal(3, 2), lambda p, x: (x + p).sin().flatten(1)),
    "add, scaled": (normal(2), lambda p, x: torch.add(x, p, alpha=-2.0).sin().flatten(1)),
    "mul": (normal(2), lambda p, x: (p * x).sin().flatten(1)),
    "mul, leading one": (normal(1, 3, 2), lambda p, x: (x * p).sin().flatten(1)),
    "scalar": (normal(), lambda p, x: (x * p + p).flatten(1)),
    "transposed": (normal(3, 2), lambda p, x: x[:, 0] @ p.t() + x[:, 1] @ p.transpose(-1, 0)),
    "view of a saved weight": (normal(4, 2), lambda p, x: torch.sin(x[:, 0] @ p.t()) @ p.view(8).view(4, 2)[:, 1:]),
    "reused": (normal(2, 2), lambda p, x: torch.tanh(torch.tanh(x[:, 0] @ p) @ p) @ p.T),
    "examples last": (normal(2, 3), lambda p, x: (p.T @ x[:, 0].T.sin()).T),
}


@pytest.mark.parametrize("name", READ)
def test_nodes_are_read(name):
    params, f = READ[name]
    uses = check(f, params, X.clone().requires_grad_())
    assert all(use.structured for use in uses)


UNREAD = {
    "view not saved": (normal(4, 2), lambda p, x: x[:, 0] @ p.view(2, 4), "a part of a weight that it did not save"),
    "another operation": (normal(4, 3), lambda p, x: torch.cdist(x.flatten(1)[:, :3], p), "no reading for"),
    "within an axis": (normal(3, 1), lambda p, x: (x + p).sin().flatten(1), "broadcast along an axis within"),
    "a constant row": (normal(2, 3), lambda p, x: x[:, 0].sin() @ p.detach() + (torch.ones(1, 2).double() @ p), "rows"),
    "rows of several examples": (
        normal(2, 2),
        lambda p, x: x[:, 0] * (torch.ones(len(x), 2).double() @ p).mean(0),
        "several examples",
    ),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_cannot_be_read_is_said(name):
    params, f, message = UNREAD[name]
    _, uses, unread = read(f, params, X)
    assert not uses
    assert message in unread[0]


def test_rows_without_cotangent_do_no_harm():
    """Units that are dead in every example leave rows that belong to none."""
    f = lambda p, x: torch.relu(x @ p - 100.0 * (x[..., :1] > 0)).sum(1)
    check(f, normal(2, 3), X)


@pytest.mark.parametrize("seeds", [torch.eye(4)[:1], torch.eye(4)[2:], torch.eye(4)[[3, 1, 3]], torch.ones(1, 4)])
def test_rows_to_which_no_seed_leads_do_no_harm(seeds):
    """Seeds of some outputs leave the rows of the others without a cotangent."""
    f = lambda p, x: torch.cat([x[:, 0] @ p, torch.tanh(x[:, 1:] @ p).sum(1)], 1)
    w, seeds = normal(2, 2), seeds.double()
    side = FRONTEND.side(f, X, w, argument="x1")
    with side.calling():
        uses, _, unread = graph_uses(side, [seeds], frozenset())
    assert not unread
    (found,) = jacobian_of_uses(uses, [(2, 2)], side.n, len(seeds))
    (rows,) = oracle.jacobian(f, X, w)
    expected = np.einsum("so,no...->ns...", seeds.numpy(), rows.leaves[0].reshape(side.n, 4, 2, 2))
    np.testing.assert_allclose(found.real, expected, atol=1e-12)


def test_complex_numbers_are_not_read():
    _, uses, unread = read(lambda p, x: x[:, 0] @ p + 0j, normal(2, 3), X)
    assert not uses
    assert unread == {0: "complex numbers"}


@pytest.mark.parametrize("kind", ["hessian", "jvp", "grad"])
def test_residuals_of_deep_networks_are_structured(kind):
    def forward(m, x):
        if kind == "hessian":
            return torch.func.vmap(lambda at: torch.func.hessian(lambda b: m.net(b)[0])(at).diagonal().sum())(x)
        if kind == "jvp":
            e = torch.ones_like(x)
            first = lambda at: torch.func.jvp(lambda b: m.net(b)[..., 0], (at,), (e,))[1]
            return torch.func.jvp(first, (x,), (e,))[1] + m.scale * m.net(x)[:, 0]
        x = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(m.net(x).sum(), x, create_graph=True)
        return (slope**2).sum(1) + m.net(x)[:, 0]

    net = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
    module = Of(forward, net=net, scale=weight()).double()
    x1, x2 = normal(5, 2), normal(3, 2)
    plan = jacgram.plan(module, x1, x2, method=jacgram.Structured())
    assert plan.structured_share == 1
    expected = oracle.gram(oracle.jacobian(module, x1), oracle.jacobian(module, x2))
    oracle.check(jacgram.ntk(module, x1, x2, method=jacgram.Structured(strict=True)), expected, 1e-9)

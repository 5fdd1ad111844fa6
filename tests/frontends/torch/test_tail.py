"""Near the outputs cotangents are what autograd makes of them, and as small as can be."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import jacgram
from frontends.torch.checks import FRONTEND, check_uses, rows_of
from jacgram.core.frontend import Struct
from jacgram.core.uses import Conv, Einsum
from jacgram.frontends.torch.atoms import InAtoms
from jacgram.frontends.torch.factored import compact, repeats
from jacgram.frontends.torch.tail import tail_of
from jacgram.frontends.torch.tail_rules import RULES
from jacgram.frontends.torch.tape import edge_key

N, S, T, D, K = 2, 3, 4, 5, 6


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, POSITIVE, MASK = normal(D, K), normal(N, T, D).exp(), normal(N, T, D, seed=1) > 0

# From (n, t, d) to outputs. Whether the tail comes to it, and along how many axes the cotangent's core is repeated
# there: examples, and positions.
CASES = {
    "mean": (lambda u: u.mean(1), True, 2),
    "mean that keeps its axis": (lambda u: u.mean(-2, keepdim=True), True, 2),
    "sum": (lambda u: u.sum(1), True, 2),
    "sum of two axes": (lambda u: u.sum((1, -1))[:, None], True, 3),
    "last position": (lambda u: u[:, -1], True, 2),
    "first positions": (lambda u: u[:, :1], True, 2),
    "all positions": (lambda u: u[:, :9].sum(1), True, 2),
    "some positions": (lambda u: u[:, 1:3], False, 0),
    "product": (lambda u: (u.mean(1) @ W), True, 2),
    "product ahead of the mean": (lambda u: (u @ W).mean(1), True, 2),
    "product with a summand": (lambda u: torch.addmm(normal(K), u.flatten(0, 1), W).unflatten(0, (N, T)).mean(1), True, 2),
    "product from the left": (lambda u: torch.mm(W.t(), u.sum(1).t()).t(), True, 2),
    "scaled product": (lambda u: torch.addmm(normal(K), u.sum(1), W, alpha=2), False, 0),
    "relu": (lambda u: u.relu().mean(1), True, 2),
    "gelu": (lambda u: functional.gelu(u, approximate="tanh").sum(1), True, 2),
    "many entrywise": (lambda u: (u.tanh().sigmoid().exp() ** 2 / 3 - u.sin() + functional.silu(u)).sum(1), True, 2),
    "entries apart": (lambda u: (u.square() * POSITIVE).sum(1), True, 2),
    "quotients": (lambda u: (u / POSITIVE[:1, :, :1] / (1 + u**2)).sum(1) / 3, True, 2),
    "masked": (lambda u: u.masked_fill(MASK, 0).sum(1), True, 2),
    "residual": (lambda u: (u + u.tanh()).mean(1), True, 2),
    "difference": (lambda u: torch.sub(u, u.tanh(), alpha=3).mean(1), True, 2),
    "added by broadcasting": (lambda u: (u[:, :, None] + normal(3, 1)).sum((1, 2)), False, 0),
    "repeated to what is added": (lambda u: (u.sum(1, keepdim=True) + POSITIVE).sum(1), False, 0),
    "gated": (lambda u: (u * u.sigmoid()).mean(1), True, 2),
    "axes in another order": (lambda u: u.permute(2, 0, 1).transpose(0, -1).tanh().sum(0), True, 2),
    "axes merged and split": (lambda u: u.reshape(N, 2, 2, D).tanh().mean((1, 2)), True, 2),
    "all axes merged": (lambda u: u.flatten(1) @ normal(T * D, 2), True, 1),
    "axes of size one": (lambda u: u[:, None].sin().squeeze(1).unsqueeze(-1).squeeze().sum(1), True, 2),
    "softmax": (lambda u: u.softmax(1).sum(1) * 1, False, 0),
    "two outputs": (lambda u: (u.mean(1), u.sum((1, 2))[:, None]), True, 2),
    "two outputs alike": (lambda u: (lambda v: (v, 2 * v))(u.mean(1)), True, 2),
    "nothing": (lambda u: u, True, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cotangents_are_those_of_autograd(name):
    function, is_found, count = CASES[name]
    u = normal(N, T, D, seed=2).requires_grad_()
    v = u.clone()
    outputs = function(v)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    seeds = [normal(S, *y.shape[1:], seed=3 + k) for k, y in enumerate(outputs)]
    starts = [
        (get_gradient_edge(y), InAtoms.of(seed[:, None].expand(S, *y.shape)))
        for y, seed in zip(outputs, seeds, strict=True)
    ]
    edge = get_gradient_edge(v)
    tail = tail_of(starts, [edge])
    expected = torch.stack([
        torch.autograd.grad(outputs, v, [seed[s].expand(y.shape) for y, seed in zip(outputs, seeds, strict=True)],
                            retain_graph=True)[0]
        for s in range(S)
    ])  # fmt: skip
    assert (edge_key(edge) in tail.found) == is_found
    if is_found:
        found = tail.found[edge_key(edge)]
        assert sum(repeats(found.core.reshape(S, N, T, D))) == count
        torch.testing.assert_close(found.whole(), expected)
        assert not tail.starts
    else:
        begun = [start for start, _ in tail.starts]
        for s in range(S):
            vectors = [value.whole()[s] for _, value in tail.starts]
            (found,) = torch.autograd.grad(begun, [v], vectors, retain_graph=True)
            torch.testing.assert_close(found, expected[s])


def test_infinite_derivatives_are_left_out_where_they_are_masked():
    u = torch.zeros(N, T, D, dtype=torch.float64).masked_fill(~MASK, 2.0).requires_grad_()
    v = u.clone()
    y = v.sqrt().masked_fill(MASK, 0).sum(1), (v.clamp(min=1).sqrt() * 1).masked_fill(MASK, 0).sum(1)
    for output in y:
        seed = normal(S, D)
        tail = tail_of([(get_gradient_edge(output), InAtoms.of(seed[:, None].expand(S, N, D)))], [get_gradient_edge(v)])
        begun = [(edge, value.whole()) for edge, value in tail.starts]
        for s in range(S):
            (expected,) = torch.autograd.grad(output, v, seed[s].expand(N, D), retain_graph=True)
            if begun:
                (found,) = torch.autograd.grad([e for e, _ in begun], v, [g[s] for _, g in begun], retain_graph=True)
            else:
                found = tail.found[edge_key(get_gradient_edge(v))].whole()[s]
            torch.testing.assert_close(found, expected, equal_nan=True)


def test_compact_and_repeats():
    tensor = normal(3, 1, 2)[:, :, :1].expand(3, 4, 5)
    assert repeats(tensor) == [False, True, True]
    assert compact(tensor).shape == (3, 1, 1)
    assert repeats(normal(1, 4).expand(1, 4)) == [False, False]


# -------------------------------------------------------------------------------------------------------- as uses


class TwoLayers(nn.Module):
    """Layers at every position, one of them behind a residual sum, and what is made of positions."""

    def __init__(self, pool, entrywise, width=4, hidden=8, outputs=3):
        super().__init__()
        self.pool, self.entrywise = pool, entrywise
        self.embed, self.norm = nn.Linear(3, width), nn.LayerNorm(width)
        self.up, self.down, self.head = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.Linear(width, outputs)

    def forward(self, x):
        x = self.embed(x)
        x = x + self.down(self.entrywise(self.up(self.norm(x))))
        return self.head(self.pool(x))


POOLS = {
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum(-2),
    "first": lambda x: x[:, 0],
    "last": lambda x: x[:, -1],
    "masked mean": lambda x: (x * MASK[0, :, :1]).sum(1) / MASK[0, :, 0].sum(),
}


def two_layers(pool="mean", entrywise=functional.gelu, **sizes):
    torch.manual_seed(0)
    return TwoLayers(POOLS[pool], entrywise, **sizes).double()


def uses_by_path(module, x):
    side = FRONTEND.side(module, x, None, argument="x1")
    uses = check_uses(side, rows_of(module, x))
    return {side.paths[use.leaf]: use for use in uses}


def positions(use):
    return {*(use.kind.activation or ()), *use.kind.cotangent} - {*use.kind.weight}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("entrywise", [torch.tanh, functional.relu, functional.gelu, functional.silu])
def test_layers_ahead_of_a_pool_have_no_positions(pool, entrywise, n):
    uses = uses_by_path(two_layers(pool, entrywise), normal(n, T, 3))
    for path, count in {"down.weight": 1, "up.weight": 2, "down.bias": 0, "up.bias": 1}.items():
        assert isinstance(uses[path].kind, Einsum)
        assert not positions(uses[path])
        assert len(uses[path].kind.activation) == count
    assert uses["up.weight"].cotangent is uses["up.bias"].cotangent
    assert positions(uses["embed.weight"])


def test_convolutions_ahead_of_a_pool_have_no_positions():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(2, 3, 3, (2, 1), 1), nn.Conv2d(3, 4, (3, 2), 1, 1)
            self.skip, self.head = nn.Conv2d(3, 4, 1, bias=False), nn.Linear(4, 7)

        def forward(self, x):
            x = self.first(x).relu()
            return self.head((self.second(x)[..., :-1] + self.skip(x)).relu().mean((2, 3)))

    torch.manual_seed(0)
    uses = uses_by_path(Pooled().double(), normal(2, 2, 6, 5))
    assert isinstance(uses["first.weight"].kind, Conv)
    assert not positions(uses["skip.weight"])


def test_patches_of_what_is_folded_are_planned_for():
    module = in_pieces(
        lambda m, x: m.head(m.conv(x).relu().mean((2, 3))), conv=nn.Conv2d(2, 16, 3, padding=1), head=nn.Linear(16, 3)
    )
    side = FRONTEND.side(module, torch.randn(2, 2, 6, 5), None, argument="x1")
    uses = side.describe([Struct((1, 3), "float32")], structured=True)
    assert [type(use.kind) for use in uses] == [Einsum] * 4
    assert side.largest_bytes(1) >= 8 * 6 * 5 * 9 * 2
    assert jacgram.ntk(module, torch.randn(2, 2, 6, 5)).shape == (2, 2, 3, 3)
    again = FRONTEND.side(module, torch.randn(2, 2, 6, 5), None, argument="x1")
    again.describe([Struct((1, 3), "float32")], structured=True, recall=True)
    assert again.largest_bytes(1) == side.largest_bytes(1)


def test_leaves_that_are_used_twice_keep_their_positions():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return self.layer(self.layer(x).tanh()).mean(1)

    side = FRONTEND.side(Twice().double(), normal(2, T, 3), None, argument="x1")
    uses = check_uses(side, rows_of(side.program.f, normal(2, T, 3)))
    assert all(positions(use) for use in uses)


def in_pieces(f, **layers):
    """A module of layers by name, as a function of itself and of x."""

    class Pieces(nn.Module):
        def forward(self, x):
            return f(self, x)

    torch.manual_seed(0)
    module = Pieces()
    for name, layer in layers.items():
        setattr(module, name, layer)
    return module


def one_by_one(m, x):
    h = m.up(m.embed(x).tanh()).mean(1)
    return m.p(h).tanh() + m.q(h).sigmoid()


def squared_error_of_a_residual_layer(m, x):
    u = m.embed(x)
    return (m.p((u + m.up(u)).mean(1)) - 1).square()


def groups_of_channels(m, x):
    h = m.up(m.embed(x).relu()).mean(1).reshape(-1, 2, 2)
    return m.pair(h)


AWKWARD = {
    "a squared error": squared_error_of_a_residual_layer,
    "a layer over groups of channels": groups_of_channels,
    "a layer over entries": lambda m, x: m.head(m.one(m.up(m.embed(x)).mean(1).unsqueeze(-1)).flatten(1)[:, :4]),
    "pools with a scale of each example": lambda m, x: m.p(m.embed(x).sum(1) / x[:, 0, :1]) + m.q(m.embed(x).sum(1)),
    "an einsum with the letter n": lambda m, x: m.head(torch.einsum("bnc,oc->bno", m.embed(x), m.up.weight).mean(1)),
    "features without a mean": lambda m, x: m.head(m.up(m.embed(x - x.mean(1, keepdim=True))).mean(1)),
    "two ways with factors of each example": one_by_one,
    "a gate of each example": lambda m, x: m.head(m.up(m.embed(x).relu()).mean(1)) * m.p(m.embed(x).mean(1)).tanh(),
    "a tanh of one output": lambda m, x: m.p(m.up(m.embed(x).relu()).mean(1)).tanh(),
    "double precision within": lambda m, x: (
        m.up(m.embed(x).relu()) * torch.linspace(0, 1, T, dtype=torch.float32)[:, None]
    ).mean(1),
    "single precision within": lambda m, x: (m.up(m.embed(x).relu()).float() ** 2).mean(1).double(),
    "complex numbers within": lambda m, x: (m.up(m.embed(x).relu()) * (1 + 2j)).abs().mean(1),
    "a checkpoint": lambda m, x: m.head(
        checkpoint(lambda u: functional.gelu(m.up(u)), m.embed(x).relu(), use_reentrant=False).mean(1)
    ),
    "a slice from ahead of the first": lambda m, x: m.head(m.up(m.embed(x).relu())[:, -9:1].tanh()).flatten(1),
    "a slice from behind the last": lambda m, x: m.head(m.up(m.embed(x).relu())[:, -1:].tanh()).flatten(1),
    "a mean of halves": lambda m, x: (lambda u: m.head(u + 0.5 * u.sin() - u.tanh()))(m.up(m.embed(x))).mean(1),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_functions_are_recorded_at_once(name, n):
    module = in_pieces(
        AWKWARD[name], embed=nn.Linear(3, 4), up=nn.Linear(4, 4), head=nn.Linear(4, 3), p=nn.Linear(4, 1),
        q=nn.Linear(4, 1), pair=nn.Linear(2, 3), one=nn.Linear(1, 2),
    ).double()  # fmt: skip
    x = normal(n, T, 3)
    side = FRONTEND.side(module, x, None, argument="x1")
    check_uses(side, rows_of(module, x), 1e-5 if "single" in name else 1e-9)
    assert side.shared.level.at_once
    assert not side.shared.level.rows


def test_hooks_see_every_gradient():
    class Hooked(TwoLayers):
        def forward(self, x):
            x = self.embed(x)
            h = self.down(self.entrywise(self.up(x)))
            if h.requires_grad:
                h.register_hook(lambda gradient: 2 * gradient)
            return self.head((x + h).mean(1))

    torch.manual_seed(0)
    module = Hooked(None, torch.tanh).double()
    x = normal(3, T, 3)
    found = jacgram.ntk(module, x)
    expected = jacgram.ntk(module, x, method=jacgram.Materialize())
    torch.testing.assert_close(found, expected)


def test_low_precision_keeps_its_sums_to_the_contraction():
    module, x = two_layers().bfloat16(), normal(3, T, 3).bfloat16()
    side = FRONTEND.side(module, x, None, argument="x1")
    uses = side.uses([torch.eye(3, dtype=torch.bfloat16)], structured=True)
    down = next(use for use in uses if side.paths[use.leaf] == "down.weight")
    assert positions(down)


@pytest.mark.parametrize("pattern", ["n i, m j -> n m i j", "n i, m i -> n m", "n i, n i -> n i", "n i, m j -> n m"])
@pytest.mark.parametrize("memory", [None, 1 << 17])
@pytest.mark.parametrize("pool", ["mean", "last"])
def test_patterns_and_tiles(pattern, memory, pool):
    module, x, other = two_layers(pool), normal(3, T, 3), normal(2 if "m" in pattern else 3, T, 3, seed=1)
    found = jacgram.ntk(module, x, other, pattern=pattern, memory=memory)
    expected = jacgram.ntk(module, x, other, pattern=pattern, method=jacgram.Materialize())
    torch.testing.assert_close(found, expected)


def test_many_seeds_in_blocks_are_folded_alike():
    module, x = two_layers(outputs=300), normal(3, T, 3)
    plan = jacgram.plan(module, x, memory=1 << 21)
    assert plan.seed_block < (300, 300)
    expected = jacgram.ntk(module, x, method=jacgram.Materialize())
    torch.testing.assert_close(jacgram.ntk(module, x, memory=1 << 21), expected)


def test_frozen_layers_between_are_passed():
    module = two_layers()
    module.down.requires_grad_(False)
    uses = uses_by_path(module, normal(3, T, 3))
    assert not positions(uses["up.weight"])
    assert "down.weight" not in uses


def test_every_rule_names_a_node_of_this_release():
    u = normal(2, 3).abs().requires_grad_()
    made = [
        u + 1 * u, torch.addmm(u[:, :2], u, u.t()), u.clone(), u.detach() * u, u.mean(0), u @ u.t(), u.permute(1, 0),
        u.t().reshape(-1), u[0], u[:1], u[:1].squeeze(), u[:1].squeeze(0), u[:1].squeeze((0,)), u - 1 * u, u.sum(0),
        u.t(), u.transpose(0, 1), torch.ops.aten._unsafe_view(u, (6,)), u[None], u.view(-1), u.abs(),
        functional.celu(u), u.cos(), u / 2, functional.elu(u), u.erf(), u.exp(), functional.gelu(u),
        functional.hardsigmoid(u), functional.hardswish(u), functional.hardtanh(u), functional.leaky_relu(u), u.log(),
        functional.logsigmoid(u), u.masked_fill(u > 0, 0), functional.mish(u), -u, u**2, u.relu(), u.sigmoid(),
        functional.silu(u), u.sin(), functional.softplus(u), u.sqrt(), u.tanh(), torch.ops.aten.alias(u),
        torch.ops.aten._reshape_alias(u, (6,), (1,)),
    ]  # fmt: skip
    assert RULES.keys() - {y.grad_fn.name() for y in made} <= set()

"""Backward passes with hooks find what autograd finds by itself, with what they spare spared."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd.graph import get_gradient_edge
from torch.nn import functional

import jacgram
from frontends.torch.checks import FRONTEND, check_uses, rows_of
from jacgram.frontends.torch import cotangents, entrywise, pieces
from jacgram.frontends.torch.atoms import InAtoms
from jacgram.frontends.torch.compat import known_loops, unbatched
from jacgram.frontends.torch.nodes import INDEX, consumers_first, taken
from jacgram.frontends.torch.shortcuts import Shortcuts

N, T, D, S = 2, 6, 3, 4


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Forgetful(torch.autograd.Function):
    """Has no gradient to give."""

    @staticmethod
    def forward(x):
        return x.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        return None


def attention(u):
    parts = u.reshape(N, T, 3, D // 3).permute(2, 0, 1, 3)
    q, k, v = (parts[at] for at in range(3))
    return torch.softmax(q @ k.transpose(1, 2), -1) @ v


def loop(u):
    h = u.new_zeros(N, D)
    for t in range(T):
        h = torch.tanh(h + u[:, t])
    return h


# From (n, t, d) to outputs, and the numbers of pieces that are put together.
CASES = {
    "queries, keys and values": (lambda u: attention(u).sum(1), [3]),
    "steps of a loop": (loop, [T]),
    "each step more than once": (lambda u: sum(u[:, t].sin() * u[:, T - 1 - t] for t in range(T)), [2 * T]),
    "ranges with gaps": (lambda u: (u[:, 1:3].sin() * u[:, -2:]).sum(1), [2]),
    "a range and an index": (lambda u: u[:, :2].sum(1) * u[:, 4] + u[:, -1], [3]),
    "beside the whole": (lambda u: u.mean(1) + u[:, 0] * u[:, 1], [2]),
    "after a transposition": (lambda u: (lambda v: v[2] * v[0] * v[-1])(u.transpose(0, -2)), [3]),
    "two axes": (lambda u: (u[:, 0] * u[:, 1]).sum(1) + (u[..., 0] * u[..., 1]).sum(1), [2, 2]),
    "one piece": (lambda u: u[:, 0].sin(), []),
    "with steps": (lambda u: u[:, ::2].sum(1) * u[:, 1::2].sum(1), []),
    "pieces that share entries": (lambda u: (u[:, :3] * u[:, 2:5]).sum(1), []),
    "nothing of it": (lambda u: u[:, :0].sum(1) + u[:, 0].sin(), []),
    "by functions of PyTorch": (lambda u: torch.trapezoid(u, dim=1) + torch.gradient(u, dim=1)[0].sum(1), []),
    "two tensors": (lambda u: (lambda v: u[:, 0] * u[:, 1] * v[:, 2] * v[:, 3])(u.exp()), [2, 2]),
    "pieces of a piece": (lambda u: (lambda v: v[:, 0] * v[:, 1])(u[:, :3]) + u[:, 3], [2, 2]),
}  # fmt: skip


def nodes_of(outputs):
    return consumers_first([get_gradient_edge(y).node for y in outputs])


def passes(function, u):
    """Cotangents of u for all seeds: with shortcuts under vmap and one by one, and by autograd."""
    v = u.clone()
    y = function(v)
    y = y.reshape(N, -1)
    seeds = normal(S, *y.shape, seed=9)
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]

    def pulled(shortcuts, seed):
        pull = lambda: torch.autograd.grad(starts, edges, [seed], retain_graph=True)
        return (pull() if shortcuts is None else shortcuts.pulled(pull))[0]

    many, one = (Shortcuts(starts, edges, at_once=at_once) for at_once in (True, False))
    together = torch.func.vmap(lambda seed: pulled(many, seed))(seeds)
    apart = torch.stack([pulled(one, seed) for seed in seeds])
    return together, apart, torch.stack([pulled(None, seed) for seed in seeds]), y


@pytest.mark.parametrize("name", CASES)
def test_pieces_give_what_autograd_gives(name):
    function, counts = CASES[name]
    together, apart, expected, y = passes(function, normal(N, T, D).requires_grad_())
    torch.testing.assert_close(together, expected)
    torch.testing.assert_close(apart, expected)
    assert sorted(len(whole.pieces) for whole in pieces.wholes(nodes_of([y]))) == counts


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(-T, T), st.integers(-T, T + 3)), min_size=1, max_size=5),
    st.lists(st.integers(-T, T - 1), max_size=4),
    st.sampled_from([0, 1, 2]),
)
def test_any_pieces_along_any_axis(ranges, indices, axis):
    def function(u):
        v = u.movedim(1, axis)
        parts = [v.narrow(axis, 0, T)[(slice(None),) * axis + (slice(*span),)] for span in ranges]
        parts += [v.select(axis, index).unsqueeze(axis) for index in indices]
        return sum(((1 + k) * part.sin().sum(axis) for k, part in enumerate(parts)), u.sum(1)).reshape(N, -1)

    together, apart, expected, _ = passes(function, normal(N, T, D).requires_grad_())
    torch.testing.assert_close(together, expected)
    torch.testing.assert_close(apart, expected)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda u: u[:, -1], (1, T - 1, T, 1)),
        (lambda u: u[..., 1:], (2, 1, D, 1)),
        (lambda u: u[:, -4:-1:2], (1, 2, T - 1, 2)),
        (lambda u: u[:, 2:99], (1, 2, T, 1)),
        (lambda u: torch.ops.aten.slice(u, 1), (1, 0, T, 1)),
        (lambda u: torch.ops.aten.slice(u, -2, 1), (1, 1, T, 1)),
        (lambda u: torch.ops.aten.slice(u, 1, None, -2), (1, 0, T - 2, 1)),
    ],
)
def test_what_a_node_takes(make, expected):
    u = normal(N, T, D).requires_grad_()
    assert taken(make(u).grad_fn, u.shape) == expected


@pytest.mark.parametrize("missing", [0, 1])
def test_a_piece_without_a_cotangent_leaves_it_to_autograd(missing):
    def function(u):
        parts = [u[:, 0], u[:, 1]]
        parts[missing] = Forgetful.apply(parts[missing])
        return parts[0] + parts[1] + u.sum(1)

    v = normal(N, T, D).requires_grad_().clone()
    y = function(v)
    starts, edges, seed = [get_gradient_edge(y)], [get_gradient_edge(v)], normal(N, D)
    assert len(pieces.wholes(nodes_of([y]))) == 1
    pull = lambda: torch.autograd.grad(starts, edges, [seed], retain_graph=True)
    shortcuts = Shortcuts(starts, edges, at_once=False)
    for _ in range(2):
        torch.testing.assert_close(shortcuts.pulled(pull), pull())


def test_a_pass_that_fails_leaves_nothing_behind():
    v = normal(N, T, D).requires_grad_().clone()
    y = v[:, 0].sin() + v[:, 1]
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]
    shortcuts = Shortcuts(starts, edges, at_once=False)
    pull = lambda: torch.autograd.grad(starts, edges, [torch.ones_like(y)], retain_graph=True)
    fails = get_gradient_edge(y).node.next_functions[0][0].register_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        shortcuts.pulled(pull)
    fails.remove()
    torch.testing.assert_close(shortcuts.pulled(pull), pull())


def test_cotangents_of_pieces_and_of_what_they_are_of_are_found():
    """What a pass is asked for may lie at a piece, or at the tensor that is taken apart."""
    v = normal(N, T, D).requires_grad_().clone()
    first, second = v[:, 0], v[:, 1]
    y = first * second
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(t) for t in (first, v, second)]
    pull = lambda: torch.autograd.grad(starts, edges, [torch.ones_like(y)], retain_graph=True)
    for found, expected in zip(Shortcuts(starts, edges, at_once=False).pulled(pull), pull(), strict=True):
        torch.testing.assert_close(found, expected)


def test_pieces_are_laid_out_as_the_tensor_lay():
    """So that no copy is made where a permutation and a reshaping are gone back through."""
    u = normal(N, T, D).requires_grad_()
    split = u.reshape(N, T, 3, 1).permute(2, 0, 1, 3)
    y = split[0] * split[1] * split[2]
    (whole,) = pieces.wholes(nodes_of([y]))
    found = whole.of([normal(N, T, 1, seed=k) for k in range(3)])
    assert found.shape == split.shape
    assert found.permute(1, 2, 0, 3).is_contiguous()


FUNCTIONS = {
    "Celu": functional.celu, "Elu": functional.elu, "Gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "LogSigmoid": functional.logsigmoid, "Mish": functional.mish, "Silu": functional.silu,
    "Softplus": functional.softplus,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_computed_once_for_all_seeds(name):
    function = FUNCTIONS[name]
    u = normal(N, T, D).requires_grad_()
    v = u.clone()
    y = (function(v) * v).sum(1)
    (node,) = {node for node in nodes_of([y]) if node.name() in entrywise.FUSED}
    assert node.name() == f"{name}Backward0"
    made_of_seeds = []
    node.register_hook(lambda made, given: made_of_seeds.append(unbatched(made[0]) is not None))
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]
    pull = lambda seed: torch.autograd.grad(starts, edges, [seed], retain_graph=True)[0]
    shortcuts, seeds = Shortcuts(starts, edges, at_once=True), normal(S, N, D, seed=9)
    found = torch.func.vmap(lambda seed: shortcuts.pulled(lambda: pull(seed)))(seeds)
    with known_loops():  # there is no batching rule for Mish
        expected = torch.func.vmap(pull)(seeds)
    assert made_of_seeds == [False, True]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_derivatives_of_half_precision_are_not_rounded_before_they_are_multiplied(dtype):
    u = (-6 * normal(N, T, D).abs()).to(dtype).requires_grad_()
    v = u.clone()
    y = functional.gelu(v)
    starts, edges, seeds = [get_gradient_edge(y)], [get_gradient_edge(v)], 100 * normal(S, N, T, D, seed=9).to(dtype)
    pull = lambda seed: torch.autograd.grad(starts, edges, [seed], retain_graph=True)[0]
    shortcuts = Shortcuts(starts, edges, at_once=True)
    found = torch.func.vmap(lambda seed: shortcuts.pulled(lambda: pull(seed)))(seeds)
    assert torch.equal(found, torch.func.vmap(pull)(seeds)), (
        "as they lie: PyTorch's loops over eight and over one differ"
    )


def test_every_fused_function_is_tested():
    assert {f"{name}Backward0" for name in FUNCTIONS} == entrywise.FUSED


def test_hooks_may_withhold_gradients_and_replace_what_is_made_of_one():
    """Which shortcuts rest on: a node that is given nothing computes nothing, and what one made can be exchanged."""
    v = normal(D).requires_grad_().clone()
    y = v[0] + v[1]
    first, second = (node for node, _ in get_gradient_edge(y).node.next_functions)
    found = []
    first.register_prehook(lambda given: (None,))
    first.register_hook(lambda made, given: found.append(made))
    second.register_prehook(lambda given: (torch.zeros((), dtype=torch.float64),))
    second.register_hook(lambda made, given: found.append(made) or (torch.arange(D, dtype=torch.float64),))
    (grad,) = torch.autograd.grad(y, v)
    assert grad.tolist() == [0, 1, 2]
    assert (None,) in found
    assert any(made != (None,) and made[0].tolist() == [0, 0, 0] for made in found)


def test_all_but_the_last_piece_lay_nothing_out(monkeypatch):
    v = normal(N, T, D).requires_grad_().clone()
    y = loop(v)
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]
    laid_out, put_together = [], []
    for node in nodes_of([y]):
        if node.name() == INDEX:
            node.register_hook(lambda made, given: laid_out.append(made[0] is not None))
    whole_of = pieces.Whole.of
    monkeypatch.setattr(
        pieces.Whole, "of", lambda self, given: put_together.append(len(given)) or whole_of(self, given)
    )
    pull = lambda: torch.autograd.grad(starts, edges, [torch.ones_like(y)], retain_graph=True)
    Shortcuts(starts, edges, at_once=False).pulled(pull)
    assert laid_out == [False] * (T - 1) + [True]
    assert put_together == [T]
    pull()
    assert put_together == [T]


def test_passes_for_several_seeds_take_them(monkeypatch):
    made = []

    class Counted(Shortcuts):
        def __init__(self, starts, aims, *, at_once, packed):
            super().__init__(starts, aims, at_once=at_once, packed=packed)
            made.append(at_once)

    monkeypatch.setattr(cotangents, "Shortcuts", Counted)
    module, x = Attention().double(), normal(3, 5, 4)
    one_output = lambda m, x: m(x).sum(1, keepdim=True)

    def taken_by(kernel):
        kernel()  # what is checked on first use takes seeds of its own
        made.clear()
        kernel()
        return set(made)

    assert taken_by(lambda: jacgram.ntk(module, x)) == {True}
    assert taken_by(lambda: jacgram.ntk(module, x, create_graph=True)) == set()
    assert taken_by(lambda: jacgram.ntk(one_output, x, params=module)) == set()
    monkeypatch.setattr(cotangents, "_LARGE_BYTES", 0)
    assert taken_by(lambda: jacgram.ntk(module, x)) == {False}
    made.clear()
    y = module(x)
    edge, seeds = get_gradient_edge(y), normal(S, 3)
    starts = [(edge, InAtoms.of(seeds[:, None].expand(S, *y.shape)))]
    pull = cotangents._Pull(
        starts, [seeds], [edge], [torch.empty_like(y, device="meta")], create_graph=False, packed=False
    )
    pull.all(looped=True)
    assert not made


def test_nothing_watches_the_graph_of_what_f_closes_over():
    user = normal(2, D, seed=4).requires_grad_() * 1
    first, second = user[0], user[1]
    beside = functional.silu(first) * second
    v = normal(N, T, D).requires_grad_().clone()
    y = functional.silu(v[:, 0]) * v[:, 1] * beside
    starts, edges = [get_gradient_edge(y)], [get_gradient_edge(v)]
    pull = lambda: torch.autograd.grad(starts, edges, [torch.ones_like(y)], retain_graph=True)

    def both():
        (theirs,) = torch.autograd.grad(first, [user], [torch.ones_like(first)], retain_graph=True)  # to one piece
        return theirs, *pull()

    for at_once in (True, False):
        for found, expected in zip(Shortcuts(starts, edges, at_once=at_once).pulled(both), both(), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)


class Attention(nn.Module):
    """A block as `timm` writes it, with a loop over its positions behind it."""

    def __init__(self):
        super().__init__()
        self.qkv, self.up, self.head = nn.Linear(4, 12), nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        parts = self.qkv(x).reshape(len(x), -1, 3, 2, 2).permute(2, 0, 3, 1, 4)
        h = (torch.softmax(parts[0] @ parts[1].mT, -1) @ parts[2]).transpose(1, 2).flatten(2)
        h, state = functional.gelu(self.up(h + x)), 0
        for t in range(x.shape[1]):
            state = torch.tanh(state + h[:, t])
        return self.head(state * state)


@pytest.mark.parametrize("in_turn", [False, True])
def test_uses_of_a_model_with_pieces(in_turn, monkeypatch):
    if in_turn:
        monkeypatch.setattr("jacgram.frontends.torch.cotangents._LARGE_BYTES", 0)
    torch.manual_seed(0)
    module, x = Attention().double(), normal(3, 5, 4)
    check_uses(FRONTEND.side(module, x, None, argument="x"), rows_of(module, x))


def test_kernels_with_pieces_are_differentiated():
    torch.manual_seed(0)
    module, x = Attention().double(), normal(2, 5, 4)
    kernel = jacgram.ntk(module, x, create_graph=True)
    (grad,) = torch.autograd.grad(kernel.diagonal(dim1=0, dim2=1).sum(), module.head.weight)
    step = 1e-6 * normal(*grad.shape)
    values = []
    for sign in (1, -1):
        params = {k: v.detach() for k, v in module.named_parameters()}
        params["head.weight"] = params["head.weight"] + sign * step
        f = lambda p, x: torch.func.functional_call(module, p, (x,))
        values.append(jacgram.ntk(f, x, params=params).diagonal(dim1=0, dim2=1).sum())
    torch.testing.assert_close((values[0] - values[1]) / 2, (grad * step).sum(), rtol=1e-4, atol=1e-12)

"""The check that recorded uses are all there is: it passes what is right, and finds what is not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import jacgram
from frontends.torch.checks import FRONTEND, basis, check_uses
from frontends.torch.models import MODELS, OldProduct
from jacgram.errors import UnsupportedError
from jacgram.frontends.torch import structured
from jacgram.frontends.torch.recording import Level
from jacgram.frontends.torch.selfcheck import compared
from kit import oracle

EXAMPLES = ["cnn", "conv_of_every_rank", "frames", "tied_thrice", "embeddings", "lora", "products", "experts"]


def mismatched(side, seeds, uses):
    return compared(side, seeds, uses).wrong


def found(name, n=3):
    module, x = MODELS[name](n)
    side = FRONTEND.side(module, x, None, argument="x1")
    seeds = basis(side)
    return side, seeds, side.uses(seeds, structured=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_right_passes(name):
    side, seeds, uses = found(name)
    assert mismatched(side, seeds, uses) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_use_that_is_missing_is_found(name):
    side, seeds, uses = found(name)
    for k, use in enumerate(uses):
        assert mismatched(side, seeds, [*uses[:k], *uses[k + 1 :]]) in ([use.leaf], []), use.kind
    assert mismatched(side, seeds, uses[1:]) == [uses[0].leaf]


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_operand_is_found(name):
    side, seeds, uses = found(name)
    wrong = [replace(uses[0], cotangent=1.001 * uses[0].cotangent), *uses[1:]]
    assert mismatched(side, seeds, wrong) == [uses[0].leaf]


def test_examples_that_are_not_finite_are_left_out():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    x[1] = torch.nan
    side = FRONTEND.side(module, x, None, argument="x1")
    seeds = basis(side)
    uses = side.uses(seeds, structured=True)
    assert mismatched(side, seeds, uses) == []
    assert mismatched(side, seeds, uses[1:]) == [uses[0].leaf]
    alone = FRONTEND.side(module, x[1:2], None, argument="x1")
    assert mismatched(alone, seeds, alone.uses(seeds, structured=True)) == []


def test_a_mismatch_that_no_other_way_mends_raises(monkeypatch):
    """A program that changes after its level was found: a use that then was there is not."""
    module = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    side = FRONTEND.side(module, x, None, argument="x1")
    monkeypatch.setattr(structured, "find_level", lambda side: Level(at_once=True))
    real = structured.found_uses

    def without_bias(*args, **kwargs):
        uses = real(*args, **kwargs)
        return replace(uses, uses=uses.uses[:1])

    monkeypatch.setattr(structured, "found_uses", without_bias)
    with pytest.raises(UnsupportedError, match=r"recorded uses of 'bias' do not add up .*recorded: linear"):
        side.uses(basis(side), structured=True)


def test_a_function_that_changes_raises_once():
    """What a function does can change behind its name; the level is then found anew."""
    w, x = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    hidden = False

    def f(p, x):
        return OldProduct.apply(torch.tanh(x), p) if hidden else x @ p

    made = FRONTEND.side(f, x, w, argument="x1")
    made.uses(basis(made), structured=True)
    hidden = True
    check_uses(FRONTEND.side(f, x, w, argument="x1"), oracle.jacobian(f, x, w))


def test_hidden_weights_of_a_function_that_changes_raise_once():
    w, x = torch.randn(3, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    hidden = False

    def f(p, x):
        if not hidden:
            return x @ p
        return torch.func.vmap(torch.func.grad(lambda at: torch.cosh(at @ p).sum()))(x)

    made = FRONTEND.side(f, x, w, argument="x1")
    made.uses(basis(made), structured=True)
    hidden = True
    made = FRONTEND.side(f, x, w, argument="x1")
    with pytest.raises(
        UnsupportedError, match="do not add up to autograd's own gradient for 4 examples, and did before"
    ):
        made.uses(basis(made), structured=True)
    check_uses(FRONTEND.side(f, x, w, argument="x1"), oracle.jacobian(f, x, w))


def test_a_batched_backward_that_is_wrong_at_some_sizes_is_taken_seed_by_seed(monkeypatch):
    module = nn.Linear(3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    side = FRONTEND.side(module, x, None, argument="x1")
    side.uses([torch.randn(1, 2, dtype=torch.float64)], structured=True)
    real, calls = structured.found_uses, []

    def wrong_at_once(side, seeds, level, *, looped=False):
        calls.append(looped)
        uses = real(side, seeds, level, looped=looped)
        return uses if looped else replace(uses, uses=[replace(u, cotangent=2 * u.cotangent) for u in uses.uses])

    monkeypatch.setattr(structured, "found_uses", wrong_at_once)
    seeds = basis(side)
    assert mismatched(side, seeds, side.uses(seeds, structured=True)) == []
    assert calls == [False, True]


def test_the_check_runs_once_per_call_sequence_and_sizes(monkeypatch):
    module, x = MODELS["lora"](3)
    side = FRONTEND.side(module, x, None, argument="x1")
    seeds = basis(side)
    side.uses(seeds, structured=True)
    monkeypatch.setattr(structured, "compared", lambda *args: pytest.fail("checked again"))
    side.uses(seeds, structured=True)
    FRONTEND.side(module, x.clone(), None, argument="x2").uses(seeds, structured=True)


def scaled_in_place(p, x):
    t = p["w"].clone()
    t.diagonal().fill_(0)
    return x @ t @ p["v"]


BEHIND_A_HEAD = {
    "distances, wrong under vmap": lambda p, x: torch.cdist(x[:, None], p["w"])[:, 0] @ p["v"],
    "weights under vmap within f": lambda p, x: (
        torch.vmap(lambda w: torch.tanh(x @ w[:, None]))(p["w"]).sum(0) @ p["v"][:1]
    ),
    "a view of a weight written": scaled_in_place,
    "a gradient within f": lambda p, x: torch.vmap(torch.func.grad(lambda z: torch.tanh(z @ p["w"]).sum()))(x) @ p["v"],
}


@pytest.mark.parametrize("f", BEHIND_A_HEAD.values(), ids=BEHIND_A_HEAD)
@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Materialize()], ids=str)
def test_a_head_of_zeros_hides_nothing_that_matters_later(f, method):
    """All gradients but the head's vanish there, so that anything agrees with anything."""
    own = lambda p, x: f(p, x)
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    for v in (torch.zeros(3, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)):
        params = {"w": w, "v": v}
        found = jacgram.ntk(own, x, params=params, method=method)
        oracle.check(found, oracle.gram(oracle.jacobian(own, x, params)))


def test_nothing_is_remembered_where_nothing_was_compared(monkeypatch):
    """A layer that is cut off for good is compared again at each call, for it may come to life."""
    cut = torch.zeros((), dtype=torch.float64)
    f = lambda p, x: x @ p["w"] + cut * (x @ p["dead"])
    params = {name: torch.randn(3, 2, dtype=torch.float64) for name in ("w", "dead")}
    compare, calls = structured.compared, []
    monkeypatch.setattr(structured, "compared", lambda *args: calls.append(1) or compare(*args))
    for expected in (2, 4):  # as it is, and at other values
        jacgram.ntk(f, torch.randn(4, 3, dtype=torch.float64), params=params)
        assert len(calls) == expected


def test_a_weight_whose_view_was_written_is_not_what_it_was():
    """The scale is one at first, so that a record which overlooks it is right."""
    scale = torch.ones((), dtype=torch.float64)

    def f(p, x):
        t = p.clone()
        t[0].mul_(scale)
        return x @ t

    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    for factor in (1.0, 3.0):
        scale.fill_(factor)
        found = jacgram.ntk(f, x, params=w)
        oracle.check(found, oracle.gram(oracle.jacobian(f, x, w)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("last", [nn.Softmax(-1), nn.LayerNorm(3, elementwise_affine=False)], ids=["softmax", "norm"])
def test_gradients_that_are_rounding_alone_are_not_told_apart(last, dtype):
    """Outputs that always add up to the same have a sum without a gradient."""
    for seed in range(5):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), last).to(dtype)
        x = torch.randn(5, 4, dtype=dtype)
        scale = float(jacgram.ntk(module, x).abs().max())
        assert float(jacgram.ntk(module, x, pattern="n i, m j -> n m").abs().max()) < 1e-5 * scale


def test_windows_in_memory_of_few_channels_are_compared():
    side = FRONTEND.side(nn.Conv2d(4, 1, (2, 1), 2, (1, 0)), torch.randn(1, 4, 2, 3), None, argument="x1")
    seeds = [torch.randn(2, 1, 2, 2)]
    uses = side.uses(seeds, structured=True)
    assert mismatched(side, seeds, uses) == []
    assert mismatched(side, seeds, [replace(use, activation=2 * use.activation) for use in uses[:1]]) == [0, 1]

"""Uses that fail to add up by rounding alone are kept; uses that are wrong are found in double precision too."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

import jacgram
from frontends.torch.checks import FRONTEND, basis
from jacgram.errors import UnsupportedError
from jacgram.frontends.torch import rounding, structured
from jacgram.frontends.torch.identity import stacked_seeds
from jacgram.frontends.torch.levels import find_level
from jacgram.frontends.torch.recording import found_uses
from jacgram.frontends.torch.rounding import alike, wrong_in_double


def deep(depth, width, out, seed):
    torch.manual_seed(seed)
    widths = [32, *[width] * (depth - 1), out]
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1]), torch.randn(16, 32)


@pytest.mark.parametrize(("depth", "width", "out", "seed"), [(100, 16, 10, 1), (100, 16, 1, 0)])
def test_gates_near_zero_do_not_cost_the_structure(depth, width, out, seed):
    """Widths and seeds at which single precision's check fails: gates open in one pass and not in the other."""
    module, x = deep(depth, width, out, seed)
    kernel, plan = jacgram.ntk(module, x), jacgram.plan(module, x)
    assert plan.structured_share == 1.0
    assert plan.notes == ()
    exact = jacgram.ntk(module.double(), x.double())
    assert (kernel - exact).abs().max() <= 1e-4 * exact.abs().max()


class Frozen(nn.Module):
    """Parameters of which one is held fixed, and buffers: all of one precision, as layers want it."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)
        self.first.requires_grad_(False)
        self.register_buffer("index", torch.tensor([1, 0]))

    def forward(self, x):
        return self.last(self.norm(self.first(x)))[:, self.index]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_what_is_right_in_double_precision_is_right(dtype):
    module, x = Frozen().eval(), torch.randn(3, 3)
    if dtype == torch.complex64:
        weight = torch.randn(3, 2, dtype=dtype)
        side = FRONTEND.side(lambda p, x: x @ p, x.to(dtype), weight, argument="x1")
    else:
        side = FRONTEND.side(module.to(dtype), x.to(dtype), None, argument="x1")
    seeds = stacked_seeds(side, basis(side))
    assert wrong_in_double(side, seeds, range(len(side.leaves)), find_level(side)) == []
    assert not any(buffer.dtype == torch.float64 for buffer in module.buffers()), "only copies are widened"


def test_what_is_wrong_stays_wrong(monkeypatch):
    side = FRONTEND.side(Frozen().eval(), torch.randn(3, 3), None, argument="x1")
    seeds, level = basis(side), find_level(side)

    def lacking(*args, **options):
        found = found_uses(*args, **options)
        return replace(found, uses=found.uses[1:])

    monkeypatch.setattr(rounding, "found_uses", lacking)
    leaf = found_uses(side, seeds, level).uses[0].leaf
    assert wrong_in_double(side, seeds, [leaf], level) == [leaf]


def test_what_cannot_run_in_double_precision_stays_wrong():
    held = torch.randn(4, 2)
    side = FRONTEND.side(lambda p, x: torch.tanh(x @ p) @ held, torch.randn(3, 3), torch.randn(3, 4), argument="x1")
    assert wrong_in_double(side, basis(side), [0], find_level(side)) == [0]


def test_what_is_in_double_precision_is_not_tried_again(monkeypatch):
    side = FRONTEND.side(lambda p, x: x @ p, torch.randn(3, 3).double(), torch.randn(3, 4).double(), argument="x1")
    seeds, level = basis(side), find_level(side)
    monkeypatch.setattr(rounding, "found_uses", lambda *args, **options: pytest.fail("tried again"))
    assert wrong_in_double(side, seeds, [0], level) == [0]


def test_uses_alike_agree_in_what_they_read_and_in_their_arrays():
    side = FRONTEND.side(Frozen().eval(), torch.randn(3, 3), None, argument="x1")
    uses = found_uses(side, basis(side), find_level(side)).uses
    assert alike(side, uses, uses)
    nearly = [replace(use, cotangent=use.cotangent * (1 + 1e-6)) for use in uses]
    assert alike(side, nearly, uses)
    for other in (
        uses[1:],
        [replace(uses[0], cotangent=1.01 * uses[0].cotangent), *uses[1:]],
        [replace(uses[0], leaf=uses[0].leaf + 1), *uses[1:]],
        [replace(uses[0], cotangent=uses[0].cotangent * torch.nan), *uses[1:]],
    ):
        assert not alike(side, other, uses)


def test_a_batched_backward_that_is_wrong_is_not_taken_for_rounding(monkeypatch):
    """Neither way adds up in single precision, and both in double: but they do not agree with each other."""
    module, x = deep(100, 16, 10, 1)
    side = FRONTEND.side(module, x, None, argument="x1")
    seeds = basis(side)
    real = structured.found_uses

    def wrong_at_once(side, seeds, level, *, looped=False):
        found = real(side, seeds, level, looped=looped)
        return found if looped else replace(found, uses=[replace(u, cotangent=2 * u.cotangent) for u in found.uses])

    monkeypatch.setattr(structured, "found_uses", wrong_at_once)
    with pytest.raises(UnsupportedError, match="do not add up to autograd's own gradient"):
        side.uses(seeds, structured=True)

"""Which entries of a leaf a computed weight is, against the same calls on an array of positions."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from jacgram.frontends.torch.recorder import Recorder
from jacgram.frontends.torch.weights import Weight

W = torch.Tensor


def weight_of(calls, leaf):
    """The weight that a chain of calls makes of one leaf, and its value."""
    recorder = Recorder([leaf], 1, torch.zeros(1), copies=False, keep_graph=False)
    with recorder:
        out = calls(leaf)
    return recorder._known(out), out


CALLS = {
    "t": lambda w: w.t(),
    "T": lambda w: w.T,
    "mT": lambda w: w.mT,
    "row": lambda w: w[1],
    "columns": lambda w: w[:, 1::2],
    "negative": lambda w: w[-2:, -1],
    "new axis": lambda w: w[None, ..., 0],
    "chunk": lambda w: w.chunk(2)[1],
    "split": lambda w: torch.split(w, [1, 3])[1],
    "unbind": lambda w: w.unbind(1)[2],
    "narrow": lambda w: w.narrow(1, 2, 3),
    "select": lambda w: torch.select(w, 0, 2),
    "reshape": lambda w: w.reshape(2, 2, 6).transpose(0, 1),
    "view": lambda w: w.view(-1, 3).unsqueeze(1).squeeze(1),
    "flatten": lambda w: w.flatten()[3:].unflatten(0, (3, 7)),
    "permute": lambda w: w.view(2, 2, 6).permute(2, 0, 1),
    "movedim": lambda w: w.view(2, 2, 6).movedim(0, -1),
    "diagonal": lambda w: torch.diagonal(w, 1),
    "casts": lambda w: w.to(torch.float32).double().contiguous().clone(),
    "same": lambda w: w.to(torch.float64).contiguous()[1:],
    "number index": lambda w: w[torch.tensor(2)],
    "view_as": lambda w: w.view_as(torch.empty(6, 4))[2:],
}


@pytest.mark.parametrize("name", CALLS)
def test_views_are_followed(name):
    leaf = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    positions = torch.arange(24, dtype=torch.float64).view(4, 6)
    weight, _ = weight_of(CALLS[name], leaf)
    (term,) = weight.terms
    assert not weight.opaque
    np.testing.assert_array_equal(term.view().indices(), CALLS[name](positions))


SCALED = {
    "times": (lambda w: 3 * w * 2.0, 6),
    "by": (lambda w: w / 4, 0.25),
    "minus": (lambda w: -(1 - w), 1),
    "from": (lambda w: 5 - w[0], -1),
    "zero-dim": (lambda w: w * torch.tensor(2.0), 2),
    "constant": (lambda w: w + torch.ones(4, 6), 1),
}


@pytest.mark.parametrize("name", SCALED)
def test_multiples_and_constants(name):
    call, scale = SCALED[name]
    weight, _ = weight_of(call, torch.randn(4, 6, requires_grad=True))
    assert weight.terms[0].scale == scale


def test_sums_hold_one_term_per_leaf():
    leaves = [torch.randn(4, 6, requires_grad=True), torch.randn(6, requires_grad=True)]
    recorder = Recorder(leaves, 1, None, copies=False, keep_graph=False)
    with recorder:
        both = leaves[0] - 2 * leaves[1]
        twice = leaves[0] + torch.exp(leaves[0])
        low_rank = leaves[0] + 0.5 * leaves[1][:, None][:4] @ leaves[1][None]
    weight = recorder._known(both)
    assert [(term.leaf, term.scale, term.repeated) for term in weight.terms] == [(0, 1, ()), (1, -2, (0,))]
    assert recorder._known(twice) == Weight((), frozenset({0})), "a leaf that is there opaquely is there only so"
    assert [term.leaf for term in recorder._known(low_rank).terms] == [0]
    assert recorder._known(low_rank).opaque == {1}


@pytest.mark.parametrize(
    "call",
    [
        lambda w: torch.exp(w),
        lambda w: w.t().reshape(-1),  # no view
        lambda w: w * torch.rand(4, 6),
        lambda w: w / w.norm(),
        lambda w: w @ w.T,
        lambda w: w.clone().mul_(2),
        lambda w: torch.zeros(4, 6).copy_(w),
    ],
)
def test_anything_else_is_opaque(call):
    leaf = torch.randn(4, 6, requires_grad=True)
    recorder = Recorder([leaf], 1, torch.zeros(1), copies=False, keep_graph=False)
    with recorder:
        out = call(leaf)
    assert recorder._known(out) == Weight((), frozenset({0}))


def test_constants_of_a_weight_are_no_weights():
    leaf = torch.randn(4, 6, requires_grad=True)
    recorder = Recorder([leaf], 1, torch.zeros(1), copies=False, keep_graph=False)
    with recorder, torch.no_grad():
        silent = leaf * 2
    with recorder:
        found = [leaf.detach(), torch.zeros_like(leaf), leaf.new_ones(2), leaf > 0, silent]
    assert all(recorder._known(out) is None for out in found)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_chains_of_views(data):
    """Random chains of slices, transposes and reshapes of a leaf of three axes."""
    leaf = torch.randn(2, 3, 4, requires_grad=True)
    positions = torch.arange(24).view(2, 3, 4)
    recorder = Recorder([leaf], 1, torch.zeros(1), copies=False, keep_graph=False)
    out, seen = leaf, positions
    for _ in range(data.draw(st.integers(1, 4))):
        call = data.draw(st.sampled_from(_steps(data, seen)))
        with recorder:
            out = call(out)
        seen = call(seen)
        weight = recorder._known(out)
        if weight.opaque:
            return  # a reshape that copies
        np.testing.assert_array_equal(weight.terms[0].view().indices(), seen)


def _steps(data, seen):
    order = data.draw(st.permutations(range(seen.ndim)))
    steps = [lambda w: w.permute(order), lambda w: w.reshape(-1), lambda w: w[None]]
    if seen.ndim:
        axis = data.draw(st.integers(0, seen.ndim - 1))
        size = seen.shape[axis]
        start = data.draw(st.integers(0, max(size - 1, 0)))
        step = data.draw(st.integers(1, 2))
        steps += [lambda w: w[(slice(None),) * axis + (slice(start, None, step),)], lambda w: w.flatten()[start:]]
        if size:
            steps.append(lambda w: w.select(axis, start))
    return steps

"""Choices that were made for one pattern, and are given to another."""

from dataclasses import replace

import pytest

from jacgram.plan.applying import applies
from jacgram.plan.choose import candidates, choose
from jacgram.plan.device import TYPICAL
from kit.layers import FULL, bias, conv_layer, layer, table

GIB = 1 << 30
TRACE = "n i, m i -> n m"


@pytest.mark.parametrize(
    "made", [layer(4), layer(4, pattern=TRACE), bias(4), conv_layer(window=(3, 3), c_in=4, c_out=8)]
)
@pytest.mark.parametrize("shares", [1, 2])
def test_every_candidate_applies_to_what_it_is_made_for(made, shares):
    component, want = made
    every = list(candidates(component, want, replace(TYPICAL, shares=shares), 4))
    assert every
    assert all(applies(choice, component, want) for choice in every)
    parted = choose(component, want, replace(TYPICAL, abreast=4), 4, GIB)
    assert applies(parted, component, want)


def test_a_slice_of_what_is_kept_does_not_apply():
    trace, full = layer(4, pattern=TRACE), layer(4)
    seeds = [c for c in candidates(*trace, TYPICAL, 4) if c.slice_label == "y:i"]
    assert seeds
    assert not any(applies(choice, *full) for choice in seeds)
    weights = [c for c in candidates(*trace, TYPICAL, 4) if c.slice_label == "w1" and c.tree is not None]
    assert all(applies(choice, *full) for choice in weights)


@pytest.mark.parametrize("pattern", ["n i, n j -> n i j", "n i, m j -> i j", "n i, m j -> n i j"])
def test_examples_that_are_no_axis_of_side_2_alone_cannot_be_taken_one_by_one(pattern):
    (choice, *_) = [c for c in candidates(*layer(4), TYPICAL, 4) if c.by_example]
    assert applies(choice, *layer(4))
    assert not applies(choice, *layer(4, pattern=pattern))


def test_orders_of_other_operands_and_other_cuts_do_not_apply():
    (four, *_) = candidates(*layer(4), TYPICAL, 4)
    assert not applies(four, *bias(4))
    assert not applies(replace(four, tree=None), *layer(4))
    assert not applies(replace(four, parted="w9", parts=2), *layer(4))
    assert applies(replace(four, slice_label="w1", slice_size=4, parted="w0", parts=2), *layer(4))
    assert not applies(replace(four, slice_label="w1", slice_size=4, parted="w1", parts=2), *layer(4))
    assert not applies(replace(four, parted="y:n", parts=2), *layer(4, pattern=FULL))
    assert not applies(replace(four, dealt="w0", shares=2), *layer(4)), "an axis of activations"
    assert not applies(replace(four, dealt="w1", shares=3), *layer(4)), "512 do not come out even"
    assert not applies(replace(four, dealt="w7", shares=2), *layer(4))
    assert applies(replace(four, slice_label="w1", slice_size=128, dealt="w1", shares=2), *layer(4))
    assert not applies(replace(four, slice_label="w1", slice_size=1, dealt="w1", shares=2), *layer(4)), "nor do slices"


def test_indices_that_meet_first_are_not_cut_or_dealt_out():
    made = table(4)
    three = [c for c in candidates(*made, TYPICAL, 4) if c.tree is not None]
    assert three and all(applies(choice, *made) for choice in three)
    assert not any(applies(replace(choice, parted="w1", parts=2), *made) for choice in three)
    assert not any(applies(replace(choice, dealt="w1", shares=2), *made) for choice in three)

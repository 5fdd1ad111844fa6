"""Reshapes of arrays held with one entry where they are repeated, against reshapes of the whole arrays."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from jacgram.arrays.regrouping import regrouped


@st.composite
def reshapes(draw):
    """Old and new sizes of one array, cut from the same primes."""
    primes = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5))

    def cut():
        sizes, rest = [], list(primes)
        while rest:
            count = draw(st.integers(1, len(rest)))
            sizes.append(int(np.prod(rest[:count])))
            del rest[:count]
        ones = draw(st.integers(0, 2))
        return (*(1,) * ones, *sizes)

    old = cut()
    held = tuple(size if draw(st.booleans()) else 1 for size in old)
    return held, old, cut()


@settings(max_examples=300, deadline=None)
@given(case=reshapes())
def test_what_is_held_is_the_whole_reshaped(case):
    held, old, new = case
    array = np.random.default_rng(0).standard_normal(held)
    repeated, sizes = regrouped(held, old, new)
    found = np.broadcast_to(array, repeated).reshape(sizes)
    np.testing.assert_array_equal(np.broadcast_to(found, new), np.broadcast_to(array, old).reshape(new))


def test_axes_apart_stay_as_they_are_held():
    assert regrouped((4, 1, 5, 1), (4, 2, 5, 3), (4, 2, 15)) == ((4, 1, 5, 3), (4, 1, 15))
    assert regrouped((1, 1, 8), (2, 3, 8), (6, 2, 4)) == ((1, 1, 8), (1, 2, 4))


@pytest.mark.parametrize(("old", "new"), [((0, 3), (3, 0)), ((2, 0), (0,))])
def test_empty_axes_are_not_grouped(old, new):
    assert regrouped(old, old, new) is None

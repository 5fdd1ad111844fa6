"""Views against NumPy's strided arrays, over random chains of operations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jacgram.core.views import View


@st.composite
def chains(draw):
    """A view and the NumPy array it stands for, after a few operations."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    array, view = np.arange(int(np.prod(shape))).reshape(shape), View.of(shape)
    for _ in range(draw(st.integers(0, 4))):
        array, view = draw(st.sampled_from([_transpose, _flip, _slice, _reshape, _expand]))(draw, array, view)
    return array, view


def _transpose(draw, array, view):
    order = draw(st.permutations(range(array.ndim)))
    return array.transpose(order), view.transpose(order)


def _flip(draw, array, view):
    axes = draw(st.sets(st.integers(0, array.ndim - 1))) if array.ndim else set()
    return np.flip(array, tuple(axes)), view.flip(tuple(axes))


def _slice(draw, array, view):
    starts = [draw(st.integers(0, n - 1)) for n in array.shape]
    steps = [draw(st.integers(1, 2)) for _ in array.shape]
    sizes = [draw(st.integers(1, (n - s - 1) // k + 1)) for n, s, k in zip(array.shape, starts, steps, strict=True)]
    cut = tuple(slice(s, s + (z - 1) * k + 1, k) for s, z, k in zip(starts, sizes, steps, strict=True))
    return array[cut], view.slice(starts, sizes, steps)


def _expand(draw, array, view):
    axis = draw(st.integers(0, array.ndim))
    return np.expand_dims(array, axis), view.expand(axis)


def _reshape(draw, array, view):
    left, shape = array.size, []
    while left > 1:
        shape.append(draw(st.sampled_from([d for d in range(2, left + 1) if left % d == 0])))
        left //= shape[-1]
    reshaped = view.reshape(shape)
    return (array, view) if reshaped is None else (array.reshape(shape), reshaped)


@given(chains())
def test_indices_are_those_of_numpy(chain):
    array, view = chain
    assert view.shape == array.shape
    assert view.size == array.size
    np.testing.assert_array_equal(view.indices(), array)


@given(chains())
def test_reshape_is_found_wherever_numpy_finds_it(chain):
    array, view = chain
    for shape in ((array.size,), (1, array.size), (*array.shape, 1)):
        is_copy = array.size > 0 and not np.shares_memory(array, array.reshape(shape))
        assert is_copy or view.reshape(shape) is not None


def test_reshape_of_a_transpose_is_none():
    assert View.of((2, 3)).transpose((1, 0)).reshape((6,)) is None


def test_reshape_of_an_empty_view():
    view = View.of((0, 3)).reshape((3, 0))
    assert view is not None
    assert view.shape == (3, 0)


@given(chains(), st.data())
def test_overlap(chain, data):
    array, view = chain
    other_array, other = data.draw(st.sampled_from([_slice, _flip]))(data.draw, array, view)
    assert view.overlaps(other)
    assert view.same_entries(other) == (other_array.size == array.size)


def test_disjoint_slices_that_interleave_do_not_overlap():
    whole = View.of((4, 6))
    left, right = whole.slice((0, 0), (4, 3)), whole.slice((0, 3), (4, 3))
    assert not left.overlaps(right)
    assert not left.same_entries(right)
    even, odd = whole.slice((0, 0), (4, 3), (1, 2)), whole.slice((0, 1), (4, 3), (1, 2))
    assert not even.overlaps(odd)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_leaf_order_undoes_a_transpose(order):
    view = View.of((2, 3, 4)).transpose(order)
    assert view.transpose(view.leaf_order()) == View.of((2, 3, 4))

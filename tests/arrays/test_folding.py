"""Folded uses have the rows that the use had with the whole of its cotangent."""

import numpy as np
import pytest

from jacgram.arrays import adapter
from jacgram.arrays.folding import folding
from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use
from jacgram.core.views import View
from kit.native import array
from kit.rows import view_rows

N, S, T, U, D, K = 3, 4, 5, 2, 6, 7

# kind, sizes of the weight, of the activation and of the cotangent, axes of the core and of the scale that are not
# repeated, labels of the activation that the use comes to have
CASES = {
    "mean of a dense layer": (Einsum(("t", "i"), ("t", "k"), ("i", "k")), (D, K), (T, D), (T, K), {1}, set(), "i"),
    "entrywise, then a mean": (Einsum(("t", "i"), ("t", "k"), ("i", "k")), (D, K), (T, D), (T, K), {1}, {0, 1}, "ki"),
    "one position": (Einsum(("t", "i"), ("t", "k"), ("k", "i")), (K, D), (T, D), (T, K), {1}, {0}, "i"),
    "a bias": (Einsum(None, ("t", "k"), ("k",)), (K,), None, (T, K), {1}, set(), ""),
    "a scaled bias": (Einsum(None, ("t", "k"), ("k",)), (K,), None, (T, K), {1}, {0, 1}, "k"),
    "a norm": (Einsum(("t", "k"), ("t", "k"), ("k",)), (K,), (T, K), (T, K), {1}, {0, 1}, "k"),
    "one mean of two": (Einsum(("t", "u", "i"), ("t", "u", "k"), ("i", "k")), (D, K), (T, U, D), (T, U, K), {0, 2},
                        {1}, "ti"),
    "features repeated": (Einsum(("t", "i"), ("t", "k"), ("i", "k")), (D, K), (T, D), (T, K), set(), {1}, "ki"),
    "an activation without positions": (Einsum(("i",), ("t", "k"), ("i", "k")), (D, K), (D,), (T, K), {1}, {0}, "i"),
    "a sum over the activation's own": (Einsum(("t", "v", "i"), ("t", "k"), ("i", "k")), (D, K), (T, U, D), (T, K),
                                        {1}, {0}, "vi"),
    "a convolution": (Conv((3,), (2,), ((1, 1),), (1,), (1,), 1), (3, D, K), (9, D), (T, K), {1}, {0, 1}, "k d0 i"),
    "a convolution's mean": (Conv((2, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1), 1), (2, 1, D, K), (T + 1, U, D),
                             (T, U, K), {2}, set(), "d0 d1 i"),
}  # fmt: skip


def drawn(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def sizes(out, kept):
    return [size if axis in kept else 1 for axis, size in enumerate(out)]


@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_the_whole_cotangent(name, framework):
    kind, view, activation_shape, out, core_axes, scale_axes, left = CASES[name]
    activation = None if activation_shape is None else drawn(0, N, *activation_shape)
    core, scale = drawn(1, N, S, *sizes(out, core_axes)), drawn(2, N, *sizes(out, scale_axes))
    found = folding(
        kind, view, activation_shape, out, repeated=set(range(len(out))) - core_axes, scaled=scale_axes, outputs=100
    )
    assert found.after.activation == tuple(left.split() if " " in left else left)
    xp = adapter(framework)
    folded = xp.to_numpy(
        found.fold(xp, None if activation is None else array(framework, activation), array(framework, scale))
    )
    assert folded.shape == (N, *found.shape)
    kept = np.broadcast_to(core, (N, S, *(size if axis in found.kept else 1 for axis, size in enumerate(out))))
    kept = kept.reshape(N, S, *(out[axis] for axis in found.kept))
    before = Use(0, View.of(view), kind, activation, np.broadcast_to(core * scale[:, None], (N, S, *out)))
    after = Use(0, View.of(view), found.after, folded, kept)
    np.testing.assert_allclose(
        view_rows(after), view_rows(before), rtol=0, atol=1e-12 * np.abs(view_rows(before)).max()
    )


DENSE = CASES["entrywise, then a mean"][:4]


def asked(kind, view, activation, out, *, repeated, scaled=(), outputs=100):
    return folding(kind, view, activation, out, repeated=repeated, scaled=scaled, outputs=outputs)


@pytest.mark.parametrize("outputs", [1, 2])
def test_activations_grow_no_larger_than_the_cotangents_of_all_outputs(outputs):
    found = asked(*DENSE, repeated={0}, scaled={0, 1}, outputs=outputs)
    assert (found is not None) == (outputs * T * K >= D * K)


def test_what_is_not_repeated_along_positions_is_not_folded():
    assert asked(*DENSE, repeated=(), scaled={0, 1}) is None
    assert asked(*DENSE, repeated={1}, scaled={0, 1}) is None
    positions = Einsum(None, ("t", "k"), ("t", "k"))
    assert asked(positions, (T, K), None, (T, K), repeated={0}) is None


def test_kinds_that_are_not_folded():
    assert asked(Gather(1), (9, K), (T,), (T, K), repeated={0}) is None
    assert asked(Identity("asked for"), (T, K), None, (T, K), repeated={0}) is None
    grouped = Conv((3,), (1,), ((1, 1),), (1,), (1,), 2)
    assert asked(grouped, (3, 1, 2), (T, 2), (T, 2), repeated={0}) is None
    plane = Conv((1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), (1, 1), 1)
    assert asked(plane, (1, 1, D, K), (T, U, D), (T, U, K), repeated={0}) is None


@pytest.mark.parametrize("outputs", [5, 6])
def test_patches_grow_no_larger_than_the_cotangents_of_all_outputs(outputs):
    large = Conv((6,), (1,), ((0, 0),), (1,), (1,), 1)
    found = asked(large, (6, D, K), (T + 5, D), (T, K), repeated={0}, outputs=outputs)
    assert (found is not None) == (outputs * T * K >= T * 6 * D)

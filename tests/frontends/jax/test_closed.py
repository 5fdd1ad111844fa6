"""Traced programs as keys: what is equal may be shared, and nothing else."""

import jax
import jax.numpy as jnp
import pytest

import jacgram
from jacgram.frontends.jax import frontend

from .checks import W, X, closed


def test_equal_programs_have_equal_keys():
    first = closed(lambda w, x: jnp.tanh(x @ w), X, W)
    second = closed(lambda w, x: jnp.tanh(x @ w), X + 1, W * 2)
    assert first[1] == second[1]
    assert hash(first[1]) == hash(second[1])


def test_held_arrays_and_examples_are_told_apart():
    eqx = pytest.importorskip("equinox")

    class Holding(eqx.Module):
        w: jax.Array
        index: jax.Array

        def __call__(self, x):
            return jnp.sin(self.w * x * self.index)

    class Reading(eqx.Module):
        w: jax.Array

        def __call__(self, x):
            return jnp.sin(self.w * x[1] * x[0])

    w, index, x = jnp.arange(1.0, 3.0), jnp.arange(2), jnp.arange(6.0).reshape(3, 2)
    holding, reading = (Holding(w, index), x), (Reading(w), (jnp.stack([index] * 3), 2 * x))
    assert closed(*holding)[1] != closed(*reading)[1]
    J1, J2 = (jacgram.Jacobian(*side) for side in (holding, reading))
    found = (J1 @ J2.T).dense()
    cosines = jnp.cos(w * x * index) * x * index, jnp.cos(w * 2 * x * index) * 2 * x * index
    assert jnp.allclose(jnp.einsum("nmii->nmi", found), cosines[0][:, None] * cosines[1][None])


@pytest.mark.parametrize(
    ("f", "x"),
    [
        (lambda w, x: jnp.sin(x @ w), X),
        (lambda w, x: jnp.tanh(x @ w) * 2.0, X),
        (lambda w, x: jnp.tanh(x @ w), X[:2]),
        (lambda w, x: jnp.tanh(x @ w), X.astype("float32")),
    ],
)
def test_other_programs_and_shapes_have_other_keys(f, x):
    assert closed(f, x, W)[1] != closed(lambda w, x: jnp.tanh(x @ w), X, W)[1]


def test_constants_are_arrays_of_the_side():
    scale = jnp.arange(4.0)
    side, key = closed(lambda w, x: jnp.tanh(x @ w) * scale, X, W)
    assert any(array is scale for array in side.arrays())
    scale = scale + 1
    assert closed(lambda w, x: jnp.tanh(x @ w) * scale, X, W)[1] == key


def test_sides_that_differ_in_their_examples_are_traced_once():
    calls = []

    def f(w, x):
        calls.append(1)
        return jnp.tanh(x @ w)

    def count(x1, x2, v=W):
        first = frontend().side(f, x1, W, argument="x1")
        second = frontend().side(f, x2, v, argument="x2")
        calls.clear()
        (side1, side2), _ = frontend().closed(first, second)
        assert (side1.n, side2.n) == (len(x1), len(x2))
        assert side1.arrays()[-1] is first.x[0] and side2.arrays()[-1] is second.x[0]
        return len(calls)

    assert (count(X, X + 1), count(X, X[:2]), count(X, X, W * 2), count(X, X.astype("float32"))) == (1, 1, 2, 2)


@pytest.mark.parametrize("x2", [None, X, X[:2]], ids=["itself", "as many", "others"])
@pytest.mark.parametrize("first", [3, 1])
def test_shapes_that_depend_on_the_batch_are_seen_however_often_f_was_checked(x2, first):
    width = 2
    f = lambda w, x: (x @ w)[:, : (width if len(x) == 1 else 2)]
    kernel = lambda: jacgram.ntk(f, X[:first], x2, params=W)
    kernel()
    width = 3
    if x2 is None and first == 1:
        assert kernel().shape == (1, 1, 3, 3)
        return
    with pytest.raises(jacgram.JacgramError, match="one by one"):
        kernel()
    J = jacgram.Jacobian(f, X, params=W)
    with pytest.raises(jacgram.JacgramError, match="one by one"):
        (J @ J.T).plan()


def test_traced_arrays_are_not_closed_over():
    @jax.jit
    def kernel(w, scale):
        assert closed(lambda v, x: x @ v, X, w) is None
        assert closed(lambda v, x: x @ v * scale, X, W) is None
        return jacgram.ntk(lambda v, x: x @ v * scale, X, params=w)

    assert kernel(W, 3.0) == pytest.approx(9 * kernel(W, 1.0))

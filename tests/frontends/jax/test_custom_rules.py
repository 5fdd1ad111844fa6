"""Functions with derivatives of their own: shared where their rules are equal programs, and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram

from .checks import W, X, closed


def double(slope, scale=1.0):
    """2 x, with a tangent of its own."""

    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda primals, tangents: (2 * primals[0], slope * tangents[0] * scale))
    return double


def test_rules_of_their_own_are_compared_as_programs():
    inside = lambda f: lambda w, x: jax.jit(lambda a: f(a))(x @ w)
    within = lambda f: lambda w, x: jax.lax.fori_loop(0, 2, lambda _, a: f(a), x @ w)
    for place in (lambda f: lambda w, x: f(x @ w), inside, within):
        keys = [closed(place(double(slope)), X, W)[1] for slope in (5.0, 5.0, 7.0)]
        assert keys[0] == keys[1] != keys[2]
        assert hash(keys[0]) == hash(keys[1])
    f, plain = double(5.0), closed(lambda w, x: 2 * (x @ w), X, W)
    assert closed(lambda w, x: f(x @ w), X, W)[1] != plain[1]
    for slope in (5.0, 7.0, 5.0):
        f = double(slope)
        found = jacgram.ntk(lambda w, x, f=f: f(x @ w).sum(1), X, params=W)
        assert found == pytest.approx(slope**2 * 4 * X @ X.T)


def test_a_rule_that_changes_is_seen():
    slope = 5.0

    @jax.custom_jvp
    def double(x):
        return 2 * x

    double.defjvp(lambda primals, tangents: (2 * primals[0], slope * tangents[0]))
    f = lambda w, x: double(x @ w).sum(1)
    for slope in (5.0, 5.0, 7.0, 5.0):
        assert jacgram.ntk(f, X, params=W) == pytest.approx(slope**2 * 4 * X @ X.T)


def test_rules_that_hold_arrays_are_not_compared():
    """An array may be written to, and would be kept alive."""
    scale, written = jnp.arange(4.0), np.ones(4)
    assert closed(lambda w, x: double(5.0, scale)(x @ w), X, W) is None
    assert closed(lambda w, x: double(5.0, scale + x[0, 0])(x @ w), X, W) is None, "closes over what is traced"
    held = lambda w, x: double(5.0, jnp.asarray(written))(x @ w)
    assert closed(held, X, W) is None
    for factor in (1.0, 10.0, 1.0):
        written[:] = factor
        found = jacgram.ntk(held, X, params=W, pattern="n i, m i -> ")
        assert found == pytest.approx(4 * 25 * factor**2 * (X.sum(0) @ X.sum(0)))


def test_rules_that_call_what_jax_traces_later_are_not_compared():
    factor = 2.0

    @jax.custom_batching.custom_vmap
    def times(t):
        return factor * t

    times.def_vmap(lambda size, batched, t: (factor * t, True))
    f = jax.custom_jvp(lambda x: 2 * x)
    f.defjvp(lambda p, t: (2 * p[0], times(t[0])))
    assert closed(lambda w, x: f(x @ w), X, W) is None


@pytest.mark.parametrize("name", ["relu", "softplus", "relu6", "softmax", "silu", "gelu", "elu"])
def test_activations_are_told(name):
    f = lambda w, x: getattr(jax.nn, name)(x @ w)
    assert closed(f, X, W)[1] == closed(lambda w, x: getattr(jax.nn, name)(x @ w), X, W)[1]


def test_rules_of_the_backward_pass_are_not_compared():
    for slope in (5.0, 7.0):
        pulled = jax.custom_vjp(lambda x: 2 * x)
        pulled.defvjp(lambda x: (2 * x, None), lambda _, g, slope=slope: (slope * g,))
        f = lambda w, x, pulled=pulled: pulled(x @ w).sum(1)
        assert closed(f, X, W) is None
        assert jacgram.ntk(f, X, params=W) == pytest.approx(slope**2 * 4 * X @ X.T)


def test_rules_that_cannot_be_told_are_not_compared():
    @jax.custom_jvp
    def asking(x, y):
        return x * y

    def rule(primals, tangents):
        (x, y), (dx, dy) = primals, tangents
        dx, dy = (0 * x if type(d) is jax.custom_derivatives.SymbolicZero else d for d in (dx, dy))
        return x * y, dx * y + x * dy

    asking.defjvp(rule, symbolic_zeros=True)
    assert closed(lambda w, x: asking(x @ w, x[:, :1]), X, W) is None
    found = jacgram.ntk(lambda w, x: asking(x @ w, x[:, :1]), X, params=W, pattern="n i, m i -> n m")
    assert found == pytest.approx(4 * (X @ X.T) * (X[:, :1] @ X[:, :1].T))


def test_rules_of_integers_and_of_several_arguments():
    @jax.custom_jvp
    def pick(x, index):
        return x[..., index] ** 2

    pick.defjvp(lambda p, t: (pick(*p), 2 * p[0][..., p[1]] * t[0][..., p[1]]))
    f = lambda w, x: pick(x @ w, jnp.array([1, 3]))
    assert closed(f, X, W)[1] == closed(lambda w, x: pick(x @ w, jnp.array([1, 3])), X, W)[1]
    expected = jacgram.ntk(lambda w, x: (x @ w)[:, jnp.array([1, 3])] ** 2, X, params=W)
    assert jacgram.ntk(f, X, params=W) == pytest.approx(expected)

"""What compat.py needs of JAX, each by name: where one of these fails, JAX moved, and compat.py must follow."""

from __future__ import annotations

import collections

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Jaxpr

from jacgram.frontends.jax import compat


def equations(f, *arguments):
    return jax.make_jaxpr(f)(*arguments).jaxpr.eqns


@jax.custom_jvp
def square(x):
    return x * x


square.defjvp(lambda primals, tangents: (square(primals[0]), 3.0 * tangents[0]))


def test_get_bind_params_binds_plain_equations():
    (equation,) = equations(jnp.sin, 1.0)
    assert compat.bind(equation, [jnp.asarray(0.5)])[0] == jnp.sin(0.5)


def test_get_bind_params_keeps_custom_derivatives():
    (equation,) = (e for e in equations(square, 1.0) if e.primitive.name == "custom_jvp_call")
    rebound = lambda x: compat.bind(equation, [x])[0]
    assert jax.jvp(rebound, (2.0,), (1.0,)) == (4.0, 3.0)


def test_closed_keeps_constants():
    held = jnp.arange(3.0)
    closed = jax.make_jaxpr(lambda x: x + held)(held)
    assert len(compat.closed(closed).consts) == 1
    (equation,) = equations(jax.jit(lambda x: x + 1), 1.0)
    assert isinstance(compat.closed(equation.params["jaxpr"]).jaxpr, Jaxpr)


def test_node_data_tells_plain_trees():
    named = collections.namedtuple("Named", "a")
    plain = ({"a": [1, None, (2,)]}, None, 3, [], ())
    other = (named(1), [named(1)], collections.OrderedDict(a=1), jax.tree_util.Partial(jnp.sin, 1))
    assert [compat.is_plain(jax.tree.structure(tree)) for tree in (*plain, *other)] == [True] * 5 + [False] * 4


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_layout_counts_operands(reverse):
    def f(w, v, h, x):
        return jax.lax.scan(lambda h, x: (h * w + v + x, h), h, x, reverse=reverse)

    (equation,) = equations(f, 1.0, 2.0, 3.0, jnp.ones(5))
    layout = compat.scan_layout(equation)
    assert (layout.num_consts, layout.num_carry, layout.length, layout.reverse) == (2, 1, 5, reverse)
    assert len(layout.body.jaxpr.invars) == 4


def test_linear_scan_can_be_transposed():
    a = jnp.arange(1.0, 4.0)

    def f(h, x):
        (equation,) = equations(lambda h: jax.lax.scan(lambda h, x: (h, h), h, a), 1.0)
        layout = compat.scan_layout(equation)
        last, ys = compat.linear_scan(lambda h, xs: (h * xs[1] + xs[0], 2.0 * h), h, x, a, layout)
        return last, ys.sum()

    back = jax.linear_transpose(f, 1.0, a)
    h, x = back((1.0, 0.0))
    assert h == 6.0 and x.tolist() == [6.0, 3.0, 1.0]

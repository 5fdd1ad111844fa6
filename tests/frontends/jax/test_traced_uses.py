"""The uses of one example, traced once: what is spared, and where they are traced anew."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec

import jacgram
from jacgram.core.frontend import Struct
from jacgram.errors import UnsupportedError
from jacgram.frontends.jax import frontend
from kit import oracle

from .models import V, X

SEEDS = [Struct((3, 3), "float64")]


def dense(w, x):
    return jnp.tanh(x @ w)


def described(f=dense, x=X, params=V, *, structured=True):
    side = frontend().side(f, x, params, argument="x1")
    side.describe(SEEDS, structured=structured)
    return side


def arrays_of_one(side, **others):
    given = {"w": side.leaves[0], "x": side.x[0][0], "seed": jnp.eye(3)} | others
    return [given[name] for name in ("w", "x", "seed")]


def test_they_fit_arrays_of_their_types_alone():
    side = described()
    assert side.traced.fits(arrays_of_one(side), structured=True)
    assert not side.traced.fits(arrays_of_one(side), structured=False)
    for other in ({"w": V.astype("float32")}, {"x": jnp.ones(5)}, {"seed": jnp.eye(4)}):
        assert not side.traced.fits(arrays_of_one(side, **other), structured=True)
    assert not described(structured=False).traced.fits(arrays_of_one(side), structured=True)


def test_they_are_the_uses_of_any_example():
    side = described()
    seeds = [jnp.eye(3)]
    for x in (X, 2 * X[:1], jnp.zeros((0, X.shape[1]))):
        other = frontend().side(dense, x, V, argument="x2")
        other.adopt(side)
        (found,), (alone,) = (
            other.uses(seeds, structured=True),
            frontend().side(dense, x, V, argument="x2").uses(seeds, structured=True),
        )
        assert (found.leaf, found.view, found.kind) == (alone.leaf, alone.view, alone.kind)
        np.testing.assert_array_equal(found.activation, alone.activation)
        np.testing.assert_array_equal(found.cotangent, alone.cotangent)


def test_f_is_linearised_once_for_two_sides():
    calls = []

    def f(w, x):
        calls.append(x.shape)
        return dense(w, x)

    K = jax.jit(lambda w, a, b: jacgram.ntk(f, a, b, params=w))
    K.lower(V, X, 2 * X)
    assert calls == [X.shape, *[(1, X.shape[1])] * 2], "outputs, examples alone, and the uses"


def test_seeds_in_blocks_are_traced_anew():
    f = lambda w, x: jnp.tanh(x @ w)
    w, x = jnp.ones((4, 40)) / 7, jnp.linspace(-1, 1, 12).reshape(3, 4)
    whole = jacgram.ntk(f, x, params=w)
    plan = jacgram.plan(f, x, params=w, memory="80KiB")
    assert plan.seed_block != (0, 0), "the case this test is about"
    np.testing.assert_allclose(jacgram.ntk(f, x, params=w, plan=plan), whole, rtol=1e-12)


def test_products_are_in_full_precision():
    found = [
        str(e.params["precision"]) for e in described().traced.program.jaxpr.eqns if e.primitive.name == "dot_general"
    ]
    assert found and all("HIGHEST" in precision for precision in found)


def test_what_f_closes_over_is_seen_as_it_is_now():
    scale = [1.0]
    f = lambda w, x: scale[0] * (x @ w)
    K = jacgram.Jacobian(f, X, params=V) @ jacgram.Jacobian(f, 2 * X, params=V).T
    before = K.dense()
    scale[0] = 2.0
    np.testing.assert_allclose(K.dense(), 4 * before)


def test_numbers_that_give_way_keep_doing_so():
    """A weakly typed parameter: float32 examples stay float32 with it."""
    w, x = jnp.asarray(2.0), jnp.arange(3, dtype="float32")
    assert jax.typeof(w).weak_type
    f = lambda w, x: w * x
    side = frontend().side(f, x, w, argument="x1")
    (use,) = side.describe([Struct((1,), "float32")], structured=True)
    assert use.cotangent.dtype == "float32"
    assert side.traced.fits([w, x[0], jnp.ones(1, "float32")], structured=True)
    assert not side.traced.fits([w.astype(w.dtype), x[0], jnp.ones(1, "float32")], structured=True)
    np.testing.assert_array_equal(jacgram.ntk(f, x, params=w), np.outer(x, x))


@pytest.mark.parametrize("f", [lambda x: 3.0 * x, lambda x: (x * 2.0, x * 3.0), jnp.sin])
@pytest.mark.parametrize("compiled", [False, True])
def test_constants_of_weakly_typed_numbers(f, compiled):
    """An activation may be a number, which is no array yet."""
    kernel = lambda x: jacgram.gram(f, x)
    found = (jax.jit(kernel) if compiled else kernel)(jnp.asarray(1.5))
    oracle.check(found, oracle.gram(oracle.jacobian(f, jnp.asarray(1.5)), examples=False))


def test_nothing_of_a_trace_is_kept():
    cell = [1.0]
    J = jacgram.Jacobian(lambda w, x: cell[0] * dense(w, x), X[:1], params=V)
    K = J @ J.T

    def kernel(scale):
        cell[0] = scale
        found = K.dense()
        cell[0] = 1.0
        return found

    with jax.checking_leaks():
        np.testing.assert_allclose(jax.jit(kernel)(2.0), 4 * K.dense())
    assert J.stack.sides[0].traced is None


needs_shard_map = pytest.mark.skipif(
    not hasattr(jax, "shard_map"), reason="JAX 0.6.0 has it elsewhere, with other arguments"
)


def in_shard_map(spec, *, check_vma):
    mesh = Mesh(np.array(jax.devices()[:1]), ("d",))
    kernel = lambda w, x: jacgram.ntk(dense, x, params=w)
    shared = {"mesh": mesh, "in_specs": (PartitionSpec(), spec), "out_specs": spec, "check_vma": check_vma}
    return jax.jit(jax.shard_map(kernel, **shared))(V, X)


@needs_shard_map
@pytest.mark.parametrize(("spec", "check_vma"), [(PartitionSpec(), True), (PartitionSpec("d"), False)])
def test_within_shard_map(spec, check_vma):
    oracle.check(in_shard_map(spec, check_vma=check_vma), oracle.gram(oracle.jacobian(dense, X, V)))


@needs_shard_map
def test_types_that_say_along_which_axes_of_a_mesh_arrays_differ():
    with pytest.raises(UnsupportedError, match="differ along axes of a mesh by their types"):
        in_shard_map(PartitionSpec("d"), check_vma=True)

"""Kernels under jit, vmap and grad, over devices, with complex numbers and half precision, and of flax and equinox."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram
from jacgram.frontends.jax import frontend

from .models import MODELS, SEQ, B, V, W, X, normal

METHODS = [jacgram.Auto(), jacgram.Structured(), jacgram.Materialize()]
COMPOSED = ["bias", "tied_three_times", "scan_collected", "cond_on_data", "gather", "convolution", "custom_vjp_on_data"]


def naive(f, params, x1, x2=None):
    """The kernel from Jacobians, the slow way."""
    x2 = x1 if x2 is None else x2
    jacobians = [jax.tree.leaves(jax.jacrev(lambda p, x=x: f(p, x))(params)) for x in (x1, x2)]
    rank = jax.eval_shape(f, params, x1).ndim
    total = 0
    for j1, j2 in zip(*jacobians, strict=True):
        flat1, flat2 = (j.reshape(*j.shape[:rank], -1) for j in (j1, j2))
        product = jnp.tensordot(flat1, flat2.conj(), (rank, rank))
        total = total + jnp.moveaxis(product, rank, 1)
    return total


def assert_close(found, wanted, tolerance=1e-10):
    found, wanted = np.asarray(found), np.asarray(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * max(np.abs(wanted).max(initial=0), 1e-3))


@pytest.mark.parametrize("name", COMPOSED)
def test_jit(name):
    f, params, x = MODELS[name]
    found = jax.jit(lambda p, a, b: jacgram.ntk(f, a, b, params=p))(params, x, x[:2])
    assert_close(found, naive(f, params, x, x[:2]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", COMPOSED)
def test_vmap_over_an_ensemble(name, method):
    f, params, x = MODELS[name]
    members = jax.tree.map(lambda a: jnp.stack([a, 0.5 * a, a - 1]), params)
    found = jax.jit(jax.vmap(lambda p: jacgram.ntk(f, x, params=p, method=method)))(members)
    for i in range(3):
        assert_close(found[i], naive(f, jax.tree.map(lambda a, i=i: a[i], members), x))


def test_vmap_and_grad_without_jit():
    f, params, x = MODELS["bias"]
    members = jax.tree.map(lambda a: jnp.stack([a, -a]), params)
    slope = jax.grad(lambda p: jacgram.ntk(f, x, params=p, method=jacgram.Structured()).sum())
    wanted = jax.grad(lambda p: naive(f, p, x).sum())
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-9), jax.vmap(slope)(members), jax.vmap(wanted)(members))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["bias", "tied_three_times", "scan_collected", "remat", "convolution"])
def test_grad_with_respect_to_params_and_x(name, method):
    f, params, x = MODELS[name]
    weights = jnp.asarray(np.random.default_rng(0).standard_normal(naive(f, params, x).shape))
    scalar = lambda p, x: (weights * jacgram.ntk(f, x, params=p, method=method)).sum()
    ours = jax.jit(jax.grad(scalar, (0, 1)))(params, x)
    wanted = jax.jit(jax.grad(lambda p, x: (weights * naive(f, p, x)).sum(), (0, 1)))(params, x)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-9), ours, wanted)


def test_sharded_examples_stay_sharded():
    code = """
    import jax, jax.numpy as jnp, numpy as np, jacgram
    from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
    assert len(jax.devices()) == 8
    rng = np.random.default_rng(0)
    p = {"w": jnp.asarray(rng.standard_normal((5, 6))), "b": jnp.ones(6), "v": jnp.asarray(rng.standard_normal((6, 3)))}
    f = lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["v"]
    x1, x2 = rng.standard_normal((16, 5)), rng.standard_normal((4, 5))
    rows = NamedSharding(Mesh(np.array(jax.devices()), ("i",)), P("i"))
    placed = jax.device_put(jnp.asarray(x1), rows)
    for method in (jacgram.Auto(), jacgram.Structured()):
        wanted = jacgram.ntk(f, jnp.asarray(x1), jnp.asarray(x2), params=p, method=method)
        for run in (lambda a, b: jacgram.ntk(f, a, b, params=p, method=method),) * 2:
            compiled = jax.jit(run)
            found = compiled(placed, jnp.asarray(x2))
            assert len(found.sharding.device_set) == 8, found.sharding
            assert found.addressable_shards[0].data.shape[0] == 2, found.sharding
            np.testing.assert_allclose(found, wanted, atol=1e-12)
        eager = jacgram.ntk(f, placed, jnp.asarray(x2), params=p, method=method)
        np.testing.assert_allclose(eager, wanted, atol=1e-12)
        assert eager.addressable_shards[0].data.shape[0] == 2, eager.sharding
    print("equal")
    """
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=_environment(flags)
    )
    assert done.stdout.strip() == "equal", done.stderr


def _environment(extra):
    import os

    return {**os.environ, "PYTHONPATH": ":".join(sys.path), **extra}


def _complex_of_real(p, x):
    z = (x @ p["w"]) * jnp.exp(1j * (x**2 @ p["w"])) + 1j * p["b"]
    return jnp.abs(z) * z + jnp.conj(z @ (p["w"] + 0j))


def _complex_scan(p, x):
    def step(h, x_t):
        return jnp.tanh(h @ (p["w"] + 0j) * (1 + 0.5j) + x_t * jnp.conj(h) + p["b"]), None

    return jax.lax.scan(step, jnp.zeros((x.shape[0], 4), complex), x.swapaxes(0, 1))[0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("f", "x"), [(_complex_of_real, X), (_complex_scan, SEQ)])
def test_complex_outputs_of_real_parameters(f, x, method):
    params = {"w": W, "b": B}

    def rows(part):
        return jax.tree.leaves(jax.jacrev(lambda p: part(f(p, x)))(params))

    jacobians = [a + 1j * b for a, b in zip(rows(jnp.real), rows(jnp.imag), strict=True)]
    flat = jnp.concatenate([j.reshape(*j.shape[:2], -1) for j in jacobians], axis=-1)
    assert_close(jacgram.ntk(f, x, params=params, method=method), jnp.einsum("nip,mjp->nmij", flat, flat.conj()))


COMPLEX = {"w": W + 1j * normal(4, 4), "b": B * (1 - 2j)}


@pytest.mark.parametrize("method", METHODS)
def test_holomorphic_functions_of_complex_parameters(method):
    def f(p, x):
        return jnp.sin(x @ p["w"] + p["b"]) @ p["w"]

    jacobian = jax.tree.leaves(jax.jacrev(lambda p: f(p, X), holomorphic=True)(COMPLEX))
    flat = jnp.concatenate([j.reshape(*j.shape[:2], -1) for j in jacobian], axis=-1)
    assert_close(jacgram.ntk(f, X, params=COMPLEX, method=method), jnp.einsum("nip,mjp->nmij", flat, flat.conj()))


@pytest.mark.parametrize("method", METHODS)
def test_real_functions_of_complex_parameters(method):
    def f(p, x):
        z = jnp.tanh(x @ p["w"] + p["b"]) @ p["w"]
        return jnp.abs(z) ** 2 + z.imag

    def of_parts(parts, x):
        return f({k: re + 1j * im for k, (re, im) in parts.items()}, x)

    parts = {k: (v.real, v.imag) for k, v in COMPLEX.items()}
    assert_close(jacgram.ntk(f, X, params=COMPLEX, method=method), naive(of_parts, parts, X))


def test_a_function_that_is_not_holomorphic_is_refused():
    with pytest.raises(jacgram.JacgramError, match="not holomorphic"):
        jacgram.ntk(lambda p, x: jnp.conj(x @ p["w"]) * (x @ p["w"]), X, params={"w": COMPLEX["w"]})


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_gives_float32(dtype):
    params, x = {"w": V.astype(dtype), "b": jnp.ones(3, dtype)}, X.astype(dtype)
    found = jacgram.ntk(lambda p, x: jnp.tanh(x @ p["w"] + p["b"]), x, params=params, method=jacgram.Structured())
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), params)
    assert found.dtype == jnp.float32
    assert_close(found, naive(lambda p, x: jnp.tanh(x @ p["w"] + p["b"]), wide, x.astype(jnp.float64)), 0.05)


def test_equinox_module():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(4, 6, key=jax.random.key(0)),
            eqx.nn.Lambda(jnp.tanh),
            eqx.nn.MLP(6, 2, 5, 2, key=jax.random.key(1)),
        ]
    )
    params, static = eqx.partition(model, eqx.is_inexact_array)
    wanted = naive(lambda p, x: jax.vmap(eqx.combine(p, static))(x), params, X)
    for method in METHODS:
        assert_close(jacgram.ntk(model, X, params=None, method=method), wanted)
        assert_close(jacgram.ntk(lambda m, x: jax.vmap(m)(x), X, params=model, method=method), wanted)


def test_equinox_module_at_another_point_and_a_part_of_it():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.Linear(4, 2, key=jax.random.key(0))
    other = eqx.nn.Linear(4, 2, key=jax.random.key(1))
    assert_close(jacgram.ntk(model, X, params=other), jacgram.ntk(other, X))
    weight_only = eqx.tree_at(lambda m: m.bias, eqx.filter(model, eqx.is_array), None)
    wanted = naive(lambda w, x: x @ w.T, model.weight, X)
    assert_close(jacgram.ntk(model, X, params=weight_only), wanted)


def test_flax_linen_module():
    nn = pytest.importorskip("flax.linen")
    model = nn.Sequential([nn.Dense(6), nn.tanh, nn.LayerNorm(), nn.Dense(2)])
    params = model.init(jax.random.key(0), X)
    for method in METHODS:
        assert_close(jacgram.ntk(model.apply, X, params=params, method=method), naive(model.apply, params, X), 1e-5)


def test_flax_nnx_module():
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first, self.second = nnx.Linear(4, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x):
            return self.second(nnx.relu(self.first(x)))

    definition, params = nnx.split(Net(nnx.Rngs(0)), nnx.Param)
    f = lambda p, x: nnx.merge(definition, p)(x)
    plain = jax.tree.map(lambda a: a, params)
    for method in METHODS:
        assert_close(jacgram.ntk(f, X, params=params, method=method), naive(f, plain, X), 1e-5)


def test_a_rebound_closure_is_seen():
    scale = jnp.asarray(1.0)
    f = lambda p, x: scale * jnp.tanh(x @ p)
    first = jacgram.ntk(f, X, params=V)
    scale = jnp.asarray(2.0)
    assert_close(jacgram.ntk(f, X, params=V), 4 * first)


def test_run_sees_a_rebound_closure_of_one_function():
    held = [jnp.asarray(1.0)]
    function = lambda x: x * held[0]
    assert frontend().run(function, [jnp.asarray(3.0)]) == 3
    held[0] = jnp.asarray(2.0)
    assert frontend().run(function, [jnp.asarray(3.0)]) == 6


@pytest.mark.parametrize("held", [2.0, np.float64(2.0), np.full(2, 2.0)])
def test_run_tells_constants_apart(held):
    held = [held]
    inner = lambda x: jax.jit(lambda x: x * held[0])(x)
    first = np.asarray(frontend().run(lambda x: inner(x), [jnp.ones(2)]))
    held[0] = held[0] * 3
    np.testing.assert_allclose(frontend().run(lambda x: inner(x), [jnp.ones(2)]), 3 * first)

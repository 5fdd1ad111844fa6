"""The way back with factored cotangents gives what JAX's own gives, and keeps small what is small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram
from jacgram.core.uses import Conv, Einsum
from jacgram.frontends.jax.linear.backward import pulled_back
from kit import oracle

from .test_uses import assert_rows

S, T, D, K = 3, 4, 5, 6


def normal(*shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


W, V, POSITIVE, MASK = normal(D, K), normal(K, 2), jnp.exp(normal(T, D)), normal(T, D) > 0

# From taps (T, D), to outputs: linear. Whether the cotangent's core is smaller than the cotangent, and its scale there.
CASES = {
    "mean": (lambda u: u.mean(0), True, False),
    "sum": (lambda u: u.sum(0), True, False),
    "a sum of everything": (lambda u: u.sum(), True, False),
    "last position": (lambda u: u[-1], True, True),
    "first positions": (lambda u: u[:1] @ W, True, True),
    "some positions": (lambda u: u[1:3] @ W, False, False),
    "product and mean": (lambda u: (u @ W).mean(0), True, False),
    "product from the left": (lambda u: jnp.einsum("dk,td->kt", W, u).sum(1), True, False),
    "entrywise": (lambda u: (u * POSITIVE).sum(0), True, True),
    "quotient": (lambda u: (u / POSITIVE).sum(0), True, True),
    "negative": (lambda u: -u.sum(0), True, False),
    "negative within": (lambda u: (-(u * POSITIVE)).sum(0), True, True),
    "chosen": (lambda u: jnp.where(MASK, u, 0).sum(0), True, True),
    "left out": (lambda u: jnp.where(MASK, 0, u).sum(0), True, True),
    "chosen by a scalar": (lambda u: jnp.where(MASK[0, 0], u, 0).sum(0), True, True),
    "clipped and mixed": (lambda u: jnp.where(MASK, u, u[::-1]).sum(0), False, False),
    "two ways of one core": (lambda u: (u * POSITIVE + u * MASK).sum(0), True, True),
    "two ways, spread apart": (lambda u: (u * POSITIVE).sum(0) + (u * MASK).sum(0), False, False),
    "two ways of two cores": (lambda u: (u @ W).sum(0) @ V + (u @ W * MASK[:, :1]).sum(0)[:2], False, False),
    "two sums": (lambda u: u.sum(0) + u.sum(0)[::-1], True, False),
    "two axes of sums": (lambda u: u.sum(0) + u.sum(1)[:, None], False, False),
    "within jit": (lambda u: jax.jit(lambda v: (v * POSITIVE).sum(0))(u), True, True),
    "within a checkpoint": (lambda u: jax.checkpoint(lambda v: (v * POSITIVE).sum(0))(u), False, False),
    "axes in another order": (lambda u: jnp.transpose(u * POSITIVE).sum(1), True, True),
    "axes merged": (lambda u: (u.reshape(2, 2, D) * 2.0).sum((0, 1)), True, True),
    "axes merged with others": (lambda u: u.reshape(-1) @ normal(T * D), False, False),
    "spread and summed": (lambda u: (u[:, :, None] * normal(T, D, 2)).sum((0, 2)), True, True),
    "spread further": (lambda u: jnp.broadcast_to(u[:, None], (T, 2, D)).sum((0, 1)), True, True),
    "cast to fewer digits": (lambda u: (u * POSITIVE).astype(jnp.float64).sum(0).astype(jnp.float32), True, True),
    "cast": (lambda u: u.astype(jnp.float32).sum(0), True, False),
    "cast within": (lambda u: (u * POSITIVE).astype(jnp.float32).sum(0), True, True),
    "a batch of products": (lambda u: jnp.einsum("td,tdk->tk", u, normal(T, D, K)).sum(0), False, False),
    "summed features": (lambda u: (u * POSITIVE).sum(1).sum(0), True, True),
    "not reached": (lambda u: normal(2) + 0 * u[0, 0], False, False),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_cotangents_are_those_of_jax(name):
    function, is_small, has_scale = CASES[name]
    live = lambda taps: [jax.jvp(function, (jnp.ones((T, D)),), (taps[0],))[1]]
    tap = jax.ShapeDtypeStruct((T, D), jnp.float64)
    (out,) = jax.eval_shape(live, [tap])
    seeds = normal(S, *out.shape, dtype=out.dtype)
    (found,) = jax.jit(lambda seeds: [v.whole for v in pulled_back(live, [tap], [seeds])])(seeds)
    (value,) = pulled_back(live, [tap], [seeds])
    expected = jax.vmap(lambda seed: jax.linear_transpose(live, [tap])([seed])[0][0])(seeds)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 if out.dtype == jnp.float64 else 1e-5)
    assert (value.is_small, value.scale is not None) == (is_small, has_scale)
    assert value.shape == (S, T, D)


def test_infinite_derivatives_are_left_out_where_they_are_not_chosen():
    live = lambda taps: [jnp.where(MASK, taps[0] / jnp.where(MASK, POSITIVE, 0.0), 0).sum(0)]
    other = lambda taps: [(jnp.where(MASK, taps[0], 0) / jnp.where(MASK, POSITIVE, 1.0)).sum(0)]
    tap = jax.ShapeDtypeStruct((T, D), jnp.float64)
    for function in (live, other):
        (found,) = pulled_back(function, [tap], [normal(S, D)])
        expected = jax.vmap(lambda seed, f=function: jax.linear_transpose(f, [tap])([seed])[0][0])(normal(S, D))
        np.testing.assert_allclose(found.whole, expected, rtol=1e-12)


@pytest.mark.parametrize("by", ["division", "root"])
def test_infinite_cores_are_left_out_where_they_are_not_chosen(by):
    zero = jnp.zeros((D,)).at[0].set(1.0)
    post = {"division": lambda v: v / zero, "root": lambda v: v * (0.5 / jnp.sqrt(zero))}[by]
    live = lambda taps: [jnp.where(zero > 0, post(jnp.where(MASK & (zero > 0), taps[0], 0).sum(0)), 0)]
    pick = lambda taps: [post(taps[0][-1])]
    tap = jax.ShapeDtypeStruct((T, D), jnp.float64)
    for function in (live, pick):
        (found,) = pulled_back(function, [tap], [normal(S, D)])
        expected = jax.vmap(lambda seed, f=function: jax.linear_transpose(f, [tap])([seed])[0][0])(normal(S, D))
        np.testing.assert_allclose(found.whole, expected, rtol=1e-12)


# -------------------------------------------------------------------------------------------------------- as uses


def norm(x):
    x = x - x.mean(-1, keepdims=True)
    return x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)


def two_layers(pool, entrywise=jnp.tanh):
    """Layers at every position, one of them behind a residual sum, and what is made of positions."""

    def f(p, x):
        x = x @ p["embed"]
        x = x + entrywise(norm(x) * p["scale"] @ p["up"] + p["up_bias"]) @ p["down"] + p["down_bias"]
        return pool(x) @ p["head"] + p["head_bias"]

    width, hidden = 4, 8
    params = {
        "embed": normal(3, width), "scale": normal(width, seed=1), "up": normal(width, hidden, seed=2),
        "up_bias": normal(hidden, seed=3), "down": normal(hidden, width, seed=4), "down_bias": normal(width, seed=5),
        "head": normal(width, 3, seed=6), "head_bias": normal(3, seed=7),
    }  # fmt: skip
    return f, params, normal(3, T, 3, seed=8)


POOLS = {
    "mean": lambda x: x.mean(1),
    "sum": lambda x: x.sum(-2),
    "last": lambda x: x[:, -1],
    "masked mean": lambda x: (x * MASK[:, :1]).sum(1) / MASK[:, 0].sum(),
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("entrywise", [jnp.tanh, jax.nn.relu, jax.nn.gelu, jax.nn.silu])
def test_layers_ahead_of_a_pool_have_no_positions(name, entrywise):
    f, params, x = two_layers(POOLS[name], entrywise)
    uses = {use.leaf: use for use in assert_rows(f, params, x)}
    names = sorted(params)
    for leaf, activation in {"down": 1, "up": 2, "down_bias": 0, "up_bias": 1}.items():
        kind = uses[names.index(leaf)].kind
        assert isinstance(kind, Einsum)
        if name == "masked mean" and leaf.startswith("up") and entrywise is jax.nn.relu:
            continue  # how many positions there are may be none, and a mask's zeros are to stay zeros
        if name != "masked mean":  # whose mask is spread over features before it is met
            assert len(kind.activation or ()) == activation, (leaf, kind)
        assert not {*(kind.activation or ()), *kind.cotangent} - {*kind.weight}, (leaf, kind)
    assert {*uses[names.index("embed")].kind.cotangent} - {*uses[names.index("embed")].kind.weight}


def test_gates_of_one_cotangent_have_no_positions():
    def f(p, x):
        return ((jax.nn.silu(x @ p["gate"]) * (x @ p["up"])) @ p["down"]).mean(1)

    params = {"gate": normal(3, 6), "up": normal(3, 6, seed=1), "down": normal(6, 4, seed=2)}
    uses = assert_rows(f, params, normal(2, T, 3, seed=3))
    assert {sorted(params)[use.leaf]: len(use.kind.activation) for use in uses} == {"down": 1, "gate": 2, "up": 2}


def test_convolutions_ahead_of_a_pool_have_no_positions():
    def f(p, x):
        conv = lambda x, w: jax.lax.conv_general_dilated(
            x, w, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(conv(x, p["first"]))
        return (jax.nn.relu(conv(x, p["second"])).mean((1, 2))) @ p["w"]

    params = {"first": normal(3, 3, 2, 3), "second": normal(3, 2, 3, 4, seed=1), "w": normal(4, 7, seed=2)}
    uses = assert_rows(f, params, normal(2, 6, 5, 2, seed=3))
    assert [type(use.kind) for use in uses] == [Conv, Einsum, Einsum]


@pytest.mark.parametrize("twice", ["tied", "transposed"])
def test_leaves_that_are_used_twice_keep_their_positions(twice):
    def f(p, x):
        w = p["w"] if twice == "tied" else p["w"].T
        return (jnp.tanh(x @ p["w"]) @ w).mean(1)

    uses = assert_rows(f, {"w": normal(3, 3)}, normal(2, T, 3, seed=1))
    assert all({*use.kind.cotangent} - {*use.kind.weight} for use in uses)


def test_parts_of_one_leaf_are_folded_apart():
    def f(p, x):
        first, second = jnp.split(x @ p["w"], 2, axis=-1)
        return (jnp.tanh(first) + second).mean(1)

    uses = assert_rows(f, {"w": normal(3, 8)}, normal(2, T, 3, seed=1))
    assert sorted(len(use.kind.activation) for use in uses) == [1, 2]


def test_low_precision_keeps_its_sums_to_the_contraction():
    f, params, x = two_layers(POOLS["mean"])
    low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), low)
    found = jacgram.ntk(f, x.astype(jnp.bfloat16), params=low, accumulate="float64")
    J = oracle.jacobian(f, x.astype(jnp.bfloat16).astype(jnp.float64), wide)
    expected = oracle.gram(J, J)
    assert np.abs(np.asarray(found, np.float64) - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("pattern", ["n i, m j -> n m i j", "n i, m i -> n m", "n i, n i -> n i", "n i, m j -> n m"])
@pytest.mark.parametrize("memory", [None, 1 << 17])
def test_patterns_and_tiles(pattern, memory):
    f, params, x = two_layers(POOLS["mean"])
    other = normal(2 if "m" in pattern else 3, T, 3, seed=9)
    found = jacgram.ntk(f, x, other, params=params, pattern=pattern, memory=memory)
    J1, J2 = (_dense(f, params, z) for z in (x, other))
    left, right, out = pattern.replace("->", ",").replace(" ", "").split(",")
    expected = np.einsum(f"{left}p,{right}p->{out}", J1, J2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def _dense(f, params, x):
    rows = jax.tree.leaves(jax.jit(jax.jacrev(f))(params, x))
    return np.concatenate([np.asarray(leaf).reshape(len(x), 3, -1) for leaf in rows], -1)


def test_many_seeds_in_blocks_are_folded_alike():
    f, params, x = two_layers(POOLS["mean"])
    params = params | {"head": normal(4, 300, seed=6), "head_bias": normal(300, seed=7)}
    plan = jacgram.plan(f, x, params=params, memory=1 << 21)
    assert plan.seed_block < (300, 300)
    whole = jacgram.ntk(f, x, params=params)
    np.testing.assert_allclose(jacgram.ntk(f, x, params=params, memory=1 << 21), whole, rtol=0, atol=1e-11)


def test_kernels_are_differentiated_through_what_is_folded():
    f, params, x = two_layers(POOLS["mean"], jax.nn.gelu)
    total = lambda params, method: (jacgram.ntk(f, x, params=params, method=method) ** 2).sum()
    found = jax.grad(total)(params, jacgram.Structured())
    expected = jax.grad(total)(params, jacgram.Materialize())
    for ours, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def guarded_mean(p, x):
    """A mean over positions that are there, of which an example may have none."""
    count = x["mask"].sum(1)[:, None]
    total = jnp.where(x["mask"][..., None], jnp.tanh(x["x"] @ p["v"]) @ p["w"], 0).sum(1)
    return jnp.where(count > 0, total / count, 0)


def test_means_of_nothing_are_finite():
    params = {"v": normal(3, 4), "w": normal(4, 3, seed=1)}
    x = {"x": normal(3, T, 3, seed=2), "mask": jnp.asarray([[1, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], bool)}
    assert_rows(guarded_mean, params, x)


C = normal(4, 6) + 1j * normal(4, 6, seed=1)
COMPLEX = {
    "cast to complex": lambda p, x: (jnp.tanh(x @ p["v"]).astype(complex) @ C).mean(1),
    "product with complex": lambda p, x: jnp.abs((jnp.tanh(x @ p["v"])[..., None] * C).mean(1).sum(1)) ** 2,
    "a phase": lambda p, x: jnp.real((jnp.tanh(x @ p["v"]) * jnp.exp(1j * x.sum(-1, keepdims=True))).mean(1) @ C),
    "complex throughout": lambda p, x: ((x @ p["v"]) * jnp.exp(1j * x.sum(-1, keepdims=True))).sum(1),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_near_the_outputs(name):
    params, x = {"v": normal(3, 4)}, normal(3, T, 3, seed=2)
    J = oracle.jacobian(COMPLEX[name], x, params)
    oracle.check(jacgram.ntk(COMPLEX[name], x, params=params), oracle.gram(J, J))


def test_sums_over_positions_are_as_wide_as_asked_for():
    length = 4096
    sign = jnp.where(jnp.arange(length) % 2 == 0, 1.0, -1.0).astype(jnp.float32)[:, None]
    f = lambda p, x: ((x @ p["w"]) * sign).mean(1)
    params, x = {"w": normal(8, 3, dtype=np.float32)}, normal(2, length, 8, dtype=np.float32) + 100
    found = jacgram.ntk(f, x, params=params, accumulate="float64")
    wide = jax.tree.map(lambda a: a.astype(jnp.float64), (params, x))
    J = oracle.jacobian(f, wide[1], wide[0])
    expected = np.asarray(oracle.gram(J, J))
    assert np.abs(np.asarray(found) - expected).max() < 1e-6 * np.abs(expected).max()


def test_large_windows_are_not_laid_out():
    conv = lambda x, w: jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    f = lambda p, x: jax.nn.relu(conv(x, p["c"])).mean((1, 2)) @ p["w"]
    params = {"c": normal(7, 7, 16, 4, dtype=np.float32), "w": normal(4, 10, dtype=np.float32)}
    plan = jacgram.plan(f, normal(16, 32, 32, 16, dtype=np.float32), params=params)
    assert plan.peak_bytes < 32 << 20

"""The uses that the frontend finds, against a Jacobian taken the plain way, in float64."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jacgram.frontends.jax import frontend
from kit.rows import jacobian_of_uses

from .models import MODELS


def naive_rows(f, params, x):
    """Per leaf of params ``(n, s, *leaf)``, all entries of all outputs along ``s``."""
    n = jax.tree.leaves(x)[0].shape[0]

    def flat(params):
        return jnp.concatenate([y.reshape(n, -1) for y in jax.tree.leaves(f(params, x))], axis=1)

    return jax.tree.leaves(jax.jit(jax.jacrev(flat))(params))


def basis(side):
    sizes = [int(np.prod(struct.shape[1:])) for struct in side.outputs]
    return [jnp.eye(size).reshape(size, *s.shape[1:]) for size, s in zip(sizes, side.outputs, strict=True)]


def uses_of(f, params, x, *, structured=True):
    side = frontend().side(f, x, params, argument="x")
    seeds, found = basis(side), []

    def operands(*arrays):
        found[:] = side.with_arrays(arrays).uses(seeds, structured=structured)
        return [(use.activation, use.cotangent) for use in found]

    arrays = frontend().run(operands, side.arrays())
    uses = [replace(use, activation=a, cotangent=g) for use, (a, g) in zip(found, arrays, strict=True)]
    return side, uses, sum(seed.shape[0] for seed in seeds)


def assert_rows(f, params, x, *, structured=True):
    side, uses, n_seeds = uses_of(f, params, x, structured=structured)
    found = jacobian_of_uses(uses, [s.shape for s in side.variable], side.n, n_seeds)
    for path, ours, wanted in zip(side.paths, found, naive_rows(f, params, x), strict=True):
        scale = max(np.abs(wanted).max(initial=0.0), 1e-3)
        np.testing.assert_allclose(ours, wanted, rtol=0, atol=1e-10 * scale, err_msg=path)
    return uses


@pytest.mark.parametrize("name", MODELS)
def test_rows_are_those_of_the_naive_jacobian(name):
    f, params, x = MODELS[name]
    assert_rows(f, params, x)


@pytest.mark.parametrize("name", ["bias", "scan_collected", "cond_on_data", "gather", "unused_leaf", "tree_out"])
def test_identity_uses_are_rows_too(name):
    f, params, x = MODELS[name]
    uses = assert_rows(f, params, x, structured=False)
    assert not any(use.structured for use in uses)

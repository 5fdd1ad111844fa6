"""The models of this folder through the public face: ``ntk`` by every strategy against Jacobians, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram

from .models import MODELS


def naive(f, params, x1, x2):
    """The kernel with the output axes of each example flattened, summed over leaves of params."""

    def flat(params, x):
        return jnp.concatenate([y.reshape(y.shape[0], -1) for y in jax.tree.leaves(f(params, x))], axis=1)

    jacobians = (jax.tree.leaves(jax.jit(jax.jacrev(flat))(params, x)) for x in (x1, x2))
    pairs = zip(*jacobians, strict=True)
    return sum(jnp.einsum("nip,mjp->nmij", *(j.reshape(*j.shape[:2], -1) for j in pair)) for pair in pairs)


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured()])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "tree_out"])
def test_exact(name, method):
    f, params, x = MODELS[name]
    found = jacgram.ntk(f, x, x[:2], params=params, method=method)
    wanted = np.asarray(naive(f, params, x, x[:2]))
    assert found.shape == (3, 2, *f(params, x).shape[1:] * 2)
    found = np.asarray(found).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * max(np.abs(wanted).max(), 1e-3))


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured()])
def test_a_tree_of_outputs_gives_a_tree_of_trees(method):
    f, params, x = MODELS["tree_out"]
    found = jacgram.ntk(f, x, params=params, method=method)
    wanted = np.asarray(naive(f, params, x, x))
    np.testing.assert_allclose(found["a"]["b"][1], wanted[:, :, :4, 6], atol=1e-10)
    np.testing.assert_allclose(found["b"][0]["b"][1], wanted[:, :, 4:6, 6], atol=1e-10)

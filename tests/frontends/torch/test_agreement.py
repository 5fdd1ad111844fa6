"""A model written in both frameworks has the same uses in both, after merging and sorting, and the same kernel."""

import math

import numpy as np
import pytest

import jacgram
from jacgram.core.frontend import Struct
from jacgram.frontends.select import load
from jacgram.plan.factors import factors
from kit import zoo

pytest.importorskip("jax")

# Where one framework keeps more structure than the other, and why.
UNLIKE = {
    "squared": "JAX follows products of parameters into the program; here they are pulled back as rows",
    "derivative": "derivatives within f are rows here",
    "conv_odd": "JAX's transposed convolution has one output more, which is then cut off",
    "attention": "JAX moves the split of the fused projection before the product: three views of one weight",
}


def uses_in(framework, name):
    """What each leaf's uses are: kind, entries read in JAX's order, axes in activation and cotangent; positions added up."""
    model = zoo.MODELS[name]
    f, params, x = model.on(framework, 3)
    side = load(framework).side(f, x, params, argument="x1")
    seeds = [Struct((math.prod(y.shape[1:]), *y.shape[1:]), "float64") for y in side.outputs]
    found = {}
    uses = side.describe(seeds, structured=True)
    for factor in factors(uses):
        use = uses[factor.use]
        path = side.paths[use.leaf]
        layout = model.layouts.get(path) if framework == "torch" else None
        order = np.arange(math.prod(model.shapes[path])).reshape(model.shapes[path])
        order = (order if layout is None else order.transpose(layout)).reshape(-1)
        entries = tuple(np.sort(order[factor.view.indices()].reshape(-1)))
        axes = sorted(zip(factor.view.shape, factor.roles, strict=True))
        axes = tuple(pair for pair in axes if pair[0] != 1)
        sizes = factor.sizes()
        positions = math.prod(sizes[label] for label in factor.positions)
        key = path, type(use.kind).__name__, entries, axes
        found[key] = found.get(key, 0) + positions
    return found


@pytest.mark.parametrize("name", [name for name in zoo.MODELS if name not in UNLIKE])
def test_uses_agree(name):
    assert uses_in("torch", name) == uses_in("jax", name)


@pytest.mark.parametrize("name", ["attention", "tied_embedding", "derivative", "complex_output"])
def test_kernels_agree(name):
    kernels = []
    for framework in ("jax", "torch"):
        f, params, x1 = zoo.MODELS[name].on(framework, 3)
        _, _, x2 = zoo.MODELS[name].on(framework, 2, seed=1)
        found = jacgram.ntk(f, x1, x2, params=params)
        kernels.append([np.asarray(part) for part in _leaves(found)])
    for a, b in zip(*kernels, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11 * max(np.abs(a).max(initial=0), 1e-30))


def _leaves(tree):
    return [leaf for key in sorted(tree) for leaf in _leaves(tree[key])] if isinstance(tree, dict) else [tree]

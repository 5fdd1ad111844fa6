"""What the tests of this folder compare with: one ordinary backward pass per row, and the kit's loops over uses."""

import copy

import numpy as np
import torch

from frontends.torch.models import MODELS
from frontends.torch.transformers_zoo import TRANSFORMERS
from jacgram.core.frontend import Struct
from jacgram.core.uses import Identity
from jacgram.frontends.torch import frontend
from kit import oracle
from kit.rows import jacobian_of_uses

FRONTEND = frontend()


def rows_of(module, x, f=None):
    """Jacobian of ``f(module, x)``, by default ``module(x)``, one backward pass per row, of a copy of the module."""
    module = copy.deepcopy(module)
    leaves = [p for p in module.parameters() if p.requires_grad]
    y = module(x) if f is None else f(module, x)
    rows = [
        torch.autograd.grad(value, leaves, retain_graph=True, allow_unused=True, materialize_grads=True)
        for value in y.reshape(-1)
    ]
    return [
        oracle.Rows(tuple(y.shape), [np.stack([r[k].numpy().reshape(-1) for r in rows]) for k in range(len(leaves))])
    ]


def points(name):
    """f, module, x1 and x2 of an awkward model or a transformer."""
    if name in MODELS:
        (module, x1), (_, x2) = MODELS[name](3), MODELS[name](2, seed=5)
        return lambda m, x: m(x), module, x1, x2
    (f, module, x1), (_, _, x2) = TRANSFORMERS[name](3), TRANSFORMERS[name](2, seed=5)
    return f, module, x1, x2


def basis(side):
    """Per output leaf of one example, all unit vectors."""
    shapes = [struct.shape[1:] if side.has_examples else struct.shape for struct in side.outputs]
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [
        torch.eye(size, dtype=torch.float64).reshape(size, *shape) for size, shape in zip(sizes, shapes, strict=True)
    ]


def described(side, seeds, *, structured=True):
    return side.describe([Struct(tuple(seed.shape), "float64") for seed in seeds], structured=structured)


def check_uses(side, J, rtol=1e-9, *, structured=True):
    """Uses equal the rows of J, on the scale of the largest; and their description says what they are."""
    seeds = basis(side)
    shapes = described(side, seeds, structured=structured)
    uses = side.uses(seeds, structured=structured)
    check_described(shapes, uses)
    found = jacobian_of_uses(uses, [struct.shape for struct in side.variable], side.n, sum(map(len, seeds)))
    scale = max(np.abs(leaf).max(initial=0) for rows in J for leaf in rows.leaves)
    for k, struct in enumerate(side.variable):
        expected = np.concatenate([rows.leaves[k].reshape(side.n, -1, *struct.shape) for rows in J], 1)
        np.testing.assert_allclose(found[k], expected, rtol=0, atol=rtol * scale, err_msg=side.paths[k])
    return uses


def check_described(shapes, uses):
    """Descriptions have the uses' leaves, views, kinds and shapes, and share cotangents where uses do."""
    assert len(shapes) == len(uses)
    for shape, use in zip(shapes, uses, strict=True):
        assert (shape.leaf, shape.view, shape.kind) == (use.leaf, use.view, use.kind)
        assert shape.cotangent.shape == (1, *use.cotangent.shape[1:])
        assert shape.cotangent.dtype == str(use.cotangent.dtype).removeprefix("torch.")
        assert (shape.activation is None) == (use.activation is None)
        if use.activation is not None:
            assert shape.activation.shape == (1, *use.activation.shape[1:])
    for k, first in enumerate(uses):
        for j, second in enumerate(uses[:k]):
            assert (first.cotangent is second.cotangent) == (shapes[k].cotangent is shapes[j].cotangent), (k, j)


def share_structured(side, uses):
    """Share of the parameters none of whose uses is an identity use."""
    unstructured = {use.leaf for use in uses if isinstance(use.kind, Identity)}
    sizes = [int(np.prod(struct.shape)) for struct in side.variable]
    return 1 - sum(sizes[leaf] for leaf in unstructured) / sum(sizes)

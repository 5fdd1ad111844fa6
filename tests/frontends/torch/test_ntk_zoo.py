"""Kernels of awkward models, x1 ≠ x2, against one backward pass per row."""

import dataclasses

import numpy as np
import pytest

import jacgram
from frontends.torch.checks import points, rows_of
from frontends.torch.models import MODELS
from frontends.torch.transformers_zoo import TRANSFORMERS
from kit import oracle

ALL = [*MODELS, *TRANSFORMERS]


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured()], ids=["auto", "structured"])
@pytest.mark.parametrize("name", ALL)
def test_kernel(name, method):
    f, module, x1, x2 = points(name)
    expected = oracle.gram(rows_of(module, x1, f), rows_of(module, x2, f))[0]
    kernel = jacgram.ntk(f, x1, x2, params=module, method=method)
    np.testing.assert_allclose(kernel, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["cnn", "lstm", "experts", "branch_on_data", "gpt2", "mixtral"])
def test_kernel_in_tiles_of_one_example(name):
    """Examples recorded one at a time may take different paths in different tiles."""
    f, module, x1, x2 = points(name)
    expected = oracle.gram(rows_of(module, x1, f), rows_of(module, x2, f))[0]
    K = jacgram.Jacobian(f, x1, params=module) @ jacgram.Jacobian(f, x2, params=module).T
    plan = K.plan(method=jacgram.Structured())
    tiled = K.dense(plan=dataclasses.replace(plan, tile=(1, 1)))
    np.testing.assert_allclose(tiled, expected, rtol=0, atol=1e-9 * np.abs(expected).max())

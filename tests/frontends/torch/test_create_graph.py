"""Kernels that can be differentiated."""

import numpy as np
import pytest
import torch

import jacgram
from frontends.torch.models import MODELS
from kit import zoo

METHODS = [jacgram.Auto(), jacgram.Structured(), jacgram.Materialize(), jacgram.MatrixFree()]


def dense_kernel(f, params, x1, x2):
    """The kernel by `torch.func`, differentiable."""
    J1, J2 = (torch.func.jacrev(lambda p: f(p, x))(params) for x in (x1, x2))  # noqa: B023
    return sum(torch.einsum("nip,mjp->nmij", J1[key].flatten(2), J2[key].flatten(2)) for key in params)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("name", ["dense", "attention", "tied", "integer_input"])
def test_gradient_of_a_kernel(name, method):
    f, params, x1 = zoo.MODELS[name].on("torch", 3)
    _, _, x2 = zoo.MODELS[name].on("torch", 2, seed=3)
    params = {key: value.clone().requires_grad_() for key, value in params.items()}
    x1 = x1.clone().requires_grad_() if x1.is_floating_point() else x1
    inputs = [*params.values(), *([x1] if x1.requires_grad else [])]
    found = jacgram.ntk(f, x1, x2, params=params, method=method, create_graph=True)
    expected = dense_kernel(f, params, x1, x2)
    torch.testing.assert_close(found, expected)
    seed = torch.randn_like(found)
    options = {"allow_unused": True, "materialize_grads": True}
    pairs = (torch.autograd.grad(kernel, inputs, seed, **options) for kernel in (found, expected))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["transformer_encoder", "lora", "branch_on_data", "residual_by_transforms"])
def test_gradient_of_a_modules_kernel(name):
    module, x = MODELS[name](2)
    kernel = jacgram.ntk(module, x, create_graph=True).sum()
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(kernel, parameters, allow_unused=True, materialize_grads=True)
    directions = [torch.randn_like(p) for p in parameters]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))
    values = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for p, d in zip(parameters, directions, strict=True):
                p.add_(step * d)
        values.append(float(jacgram.ntk(module, x).sum()))
    np.testing.assert_allclose((values[0] - values[1]) / 2e-5, slope, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS[2:], ids=lambda method: type(method).__name__)
def test_norm_layers_have_right_derivatives_of_every_order(method):
    module, x = MODELS["transformer_encoder"](2)
    options = {"allow_unused": True, "materialize_grads": True}
    wanted, found = (
        torch.autograd.grad(
            jacgram.ntk(module, x, method=m, create_graph=True).sum(), list(module.parameters()), **options
        )
        for m in (jacgram.Structured(), method)
    )
    torch.testing.assert_close(found, wanted)


def test_without_it_results_are_constants():
    module, x = MODELS["lora"](2)
    assert not jacgram.ntk(module, x.requires_grad_()).requires_grad


WITHIN = {
    "a gradient within f": lambda p, x: (
        torch.vmap(torch.func.grad(lambda z: torch.tanh(z @ p["w"].exp()).sum()))(x) * p["s"]
    ),
    "weight norm": lambda p, x: torch.tanh(x @ torch._weight_norm(p["w"], p["s"][:, None], 0)),
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("f", WITHIN.values(), ids=WITHIN)
def test_slope_of_a_kernel_of_what_pytorch_differentiates_wrongly_twice(f, method):
    params = {"w": torch.randn(3, 3, dtype=torch.float64), "s": torch.rand(3, dtype=torch.float64) + 0.5}
    x = torch.randn(2, 3, dtype=torch.float64)
    moved = {key: value.clone().requires_grad_() for key, value in params.items()}
    kernel = jacgram.ntk(f, x, params=moved, method=method, create_graph=True)
    weights = torch.randn_like(kernel)
    gradients = torch.autograd.grad((weights * kernel).sum(), list(moved.values()))
    for key, gradient in zip(params, gradients, strict=True):
        step = 1e-6 * torch.randn_like(params[key])
        ends = [jacgram.ntk(f, x, params=params | {key: params[key] + sign * step}) for sign in (1, -1)]
        slope = float((weights * (ends[0] - ends[1])).sum()) / 2
        assert slope == pytest.approx(float((gradient * step).sum()), rel=1e-5, abs=1e-12)


def test_gradient_at_examples_that_are_one_tensor_repeated():
    """Each of them is a number of its own, although they lie in one place."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    repeated = torch.randn(1, 3, dtype=torch.float64).expand(4, 3).detach().requires_grad_()
    apart = repeated.detach().clone().requires_grad_()
    weights = torch.randn(4, 4, 2, 2, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad((jacgram.ntk(module, x, create_graph=True) * weights).sum(), x)[0]
        for x in (repeated, apart)
    )
    torch.testing.assert_close(found, expected)

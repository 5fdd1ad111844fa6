"""Uses of awkward models against one backward pass per row, at least as structured as they should be."""

import copy

import pytest
import torch

from frontends.torch.checks import FRONTEND, check_uses, rows_of, share_structured
from frontends.torch.models import MODELS
from frontends.torch.transformers_zoo import TRANSFORMERS
from jacgram.frontends.torch import cotangents

# Shares of parameters whose uses are all structured, where that is not all of them.
SHARES = {
    "tied_thrice": 0.3,  # a reshape of the shared weight is no view
    "weight_norm": 0.1,
    "spectral_norm": 0.1,
    "lora": 0.6,  # the base weights; the factors come as rows
    "products": 0.6,
    "old_function_of_weight": 0.6,
    "state_space": 0.9,
    "mamba": 0.9,
}
ONE_BY_ONE = {"branch_on_data", "experts"}
OFF_THE_GRAPH = {
    "old_function",
    "old_function_of_weight",
    "buffer_in_place",
    "residual_by_transforms",
    "residual_by_autograd",
}


@pytest.mark.parametrize("name", MODELS)
def test_uses_are_the_rows_of_autograd(name):
    module, x = MODELS[name](3)
    side = FRONTEND.side(module, x, None, argument="x1")
    side.check_examples()
    uses = check_uses(side, rows_of(module, x))
    assert share_structured(side, uses) >= SHARES.get(name, 1.0)
    assert any("recorded one by one" in note for note in side.notes) == (name in ONE_BY_ONE), side.notes
    assert any("read off autograd's graph" in note for note in side.notes) == (name in OFF_THE_GRAPH), side.notes


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ONE_BY_ONE | OFF_THE_GRAPH])
def test_uses_are_the_same_where_seeds_are_taken_in_turn(name, monkeypatch):
    """As they are where cotangents are large; nothing is noted of it, for nothing is lost by it."""
    monkeypatch.setattr(cotangents, "_LARGE_BYTES", 0)
    monkeypatch.setattr(cotangents._Pull, "_at_once", None)
    module, x = MODELS[name](3)
    side = FRONTEND.side(module, x, None, argument="x1")
    check_uses(side, rows_of(module, x))
    assert not any("output by output" in note for note in side.notes)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_uses_of_transformers_are_the_rows_of_autograd(name):
    f, module, x = TRANSFORMERS[name](3)
    side = FRONTEND.side(f, x, module, argument="x1")
    side.check_examples()
    uses = check_uses(side, rows_of(module, x, f))
    assert share_structured(side, uses) >= SHARES.get(name, 1.0)


@pytest.mark.parametrize("name", ["cnn", "lstm", "embeddings", "experts", "residual_by_autograd", "norms", "lora"])
def test_products_with_vectors_are_those_of_autograd(name):
    module, x = MODELS[name](3)
    J = rows_of(module, x)
    side = FRONTEND.side(module, x, None, argument="x1")
    u = [torch.randn(struct.shape, dtype=torch.float64) for struct in side.variable]
    v = [torch.randn(struct.shape, dtype=torch.float64) for struct in side.outputs]
    expected_u = torch.cat([leaf.reshape(-1) for leaf in u])
    matrix = torch.cat([torch.from_numpy(leaf) for leaf in J[0].leaves], 1)
    assert torch.allclose(side.jvp(u)[0].reshape(-1), matrix @ expected_u, rtol=1e-9, atol=1e-12)
    pulled = torch.cat([leaf.reshape(-1) for leaf in side.vjp(v)])
    assert torch.allclose(pulled, v[0].reshape(-1) @ matrix, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["buffer_in_place", "spectral_norm", "cnn", "old_function"])
def test_a_module_stays_as_it_was(name):
    module, x = MODELS[name](3)
    module.train(mode=name == "spectral_norm")
    hook = module.register_forward_hook(lambda m, args, out: setattr(m, "last_output", out))
    state = copy.deepcopy(module.state_dict())
    attributes = {id(part): set(vars(part)) for part in module.modules()}
    modes = [part.training for part in module.modules()]
    random_state = torch.get_rng_state()
    side = FRONTEND.side(module, x, None, argument="x1")
    side.uses([torch.eye(side.outputs[0].shape[1], dtype=torch.float64)], structured=True)
    side.jvp(side.leaves)
    assert all(torch.equal(value, state[key]) for key, value in module.state_dict().items())
    assert {id(part): set(vars(part)) for part in module.modules()} == attributes
    assert [part.training for part in module.modules()] == modes
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)
    hook.remove()

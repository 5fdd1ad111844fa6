"""Each way in which recording, batching or differentiating has gone wrong in silence, kept as a test."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import jacgram
from frontends.torch.checks import FRONTEND, basis, check_uses, rows_of
from frontends.torch.models import MODELS, Of, weight
from jacgram.core.uses import Gather
from kit import oracle


def side(f, x, params=None, **kwargs):
    return FRONTEND.side(f, x, params, argument="x1", **kwargs)


class CountKernels(TorchDispatchMode):
    """Counts the calls that reach PyTorch's kernels."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def kernels(made, n_seeds):
    seeds = [torch.randn(n_seeds, *made.outputs[0].shape[1:], dtype=torch.float64)]
    made.uses(seeds, structured=True)  # the first time is checked
    with CountKernels() as counter:
        made.uses(seeds, structured=True)
    return counter.count


@pytest.mark.parametrize(
    "name", ["cnn", "conv_of_every_rank", "lstm", "transformer_encoder", "fused_attention", "embeddings"]
)
def test_kernel_calls_do_not_grow_with_examples_or_seeds(name):
    few, many = (side(*MODELS[name](n)) for n in (2, 5))
    assert kernels(few, 2) == kernels(many, 7)


def test_a_backward_without_batching_rule_loops_knowingly():
    """`torch.func.vmap` warns once per process and loops; here it is said in the plan, and nothing warns."""

    def f(m, x):
        where = torch.full((len(x), 1, 2), 0.3, dtype=x.dtype)
        return functional.fractional_max_pool2d(m.a(x), 2, output_size=2, _random_samples=where).flatten(1)

    module, x = Of(f, a=nn.Linear(5, 4)).double(), torch.randn(3, 1, 4, 5, dtype=torch.float64)
    made = side(module, x)
    check_uses(made, rows_of(module, x))
    assert "an operation without a batching rule ran in a loop" in made.notes


def test_legacy_batched_gradients_are_not_used():
    """``is_grads_batched=True`` is the old ``vmap``, which loops over most operations in silence."""
    from pathlib import Path

    import jacgram.frontends.torch as package

    for path in Path(package.__file__).parent.rglob("*.py"):
        assert "is_grads_batched" not in path.read_text(), path


def test_in_place_operation_on_a_view_of_a_recorded_output():
    def f(m, x):
        h = m.a(x)
        h[:, ::2].mul_(3.0)  # h is then the base of a view that was written to
        h.view(-1, 2, 2)[:, 0].add_(1.0)
        return m.b(h)

    module = Of(f, a=nn.Linear(3, 4), b=nn.Linear(4, 2)).double()
    x = torch.randn(3, 3, dtype=torch.float64)
    uses = check_uses(side(module, x), rows_of(module, x))
    assert all(use.structured for use in uses)


def test_in_place_activation_after_a_convolution():
    """A convolution's output under ``vmap`` is a view, whose edge an in-place activation replaces."""
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(8, 2)).double()
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    uses = check_uses(side(module, x), rows_of(module, x))
    assert all(use.structured for use in uses)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_prelu_with_as_many_examples_as_outputs(n):
    """PReLU under two levels of ``vmap`` is wrong when their sizes are equal."""
    module = nn.Sequential(nn.Linear(3, n), nn.PReLU(n), nn.Linear(n, n)).double()
    x = torch.randn(n, 3, dtype=torch.float64)
    made = side(module, x)
    check_uses(made, rows_of(module, x))
    check_uses(made, rows_of(module, x), structured=False)


@pytest.mark.parametrize("structured", [True, False])
def test_cdist(structured):
    """`torch.func.jacrev` of `torch.cdist` is wrong in silence; the self-check tells."""
    module = Of(
        lambda m, x: torch.cdist(m.a(x), m.c[None].expand(len(x), 2, 3)).flatten(1), a=nn.Linear(3, 3), c=weight(2, 3)
    )
    module, x = module.double(), torch.randn(4, 2, 3, dtype=torch.float64)
    check_uses(side(module, x), rows_of(module, x), structured=structured)


def test_padding_rows_have_no_gradient_in_either_direction():
    """Forward mode forgets ``padding_idx``."""
    module = nn.Sequential(nn.Embedding(5, 3, padding_idx=1), nn.Flatten(), nn.Linear(9, 2)).double()
    with torch.no_grad():
        module[0].weight.normal_()
    x = torch.tensor([[0, 1, 1], [4, 1, 0]])
    J = rows_of(module, x)
    made = side(module, x)
    uses = check_uses(made, J)
    assert isinstance(uses[0].kind, Gather)
    u = [torch.randn(s.shape, dtype=torch.float64) for s in made.variable]
    np.testing.assert_allclose(made.jvp(u)[0], oracle.push(J, u)[0], atol=1e-12)


def test_forward_mode_that_differs_from_backward_mode():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(x):
            return x**2

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] * grad

        @staticmethod
        def jvp(ctx, tangent):
            return 3 * ctx.saved_tensors[0] * tangent

    module = Of(lambda m, x: Wrong.apply(m.a(x)), a=nn.Linear(3, 2)).double()
    x = torch.randn(3, 3, dtype=torch.float64)
    made = side(module, x)
    u = [torch.randn(s.shape, dtype=torch.float64) for s in made.variable]
    np.testing.assert_allclose(made.jvp(u)[0], oracle.push(rows_of(module, x), u)[0], atol=1e-12)
    assert any("forward mode differs" in note for note in made.notes)


def test_fused_attention_has_all_derivatives():
    q = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    f = lambda p, x: functional.scaled_dot_product_attention(x @ p, x, x, is_causal=True)
    w = torch.randn(6, 6, dtype=torch.float64)
    made = side(f, q, w)
    few = q[:1, :1, :2]
    check_uses(side(f, few, w), oracle.jacobian(f, few, w))
    assert made.jvp([torch.randn_like(w)])[0].shape == q.shape


@pytest.mark.parametrize("name", ["residual_by_transforms", "residual_by_autograd"])
def test_derivatives_within_f_are_caught_by_the_check(name):
    """Calls show a part of the uses only: recorded ones were off by 104%."""
    module, x = MODELS[name](3)
    made = side(module, x)
    uses = check_uses(made, rows_of(module, x))
    assert all(use.structured for use in uses)
    assert len(uses) > len(made.variable)


def test_a_weight_hidden_in_a_custom_function_comes_as_rows():
    module, x = MODELS["old_function_of_weight"](3)
    plan = jacgram.plan(module, x, method=jacgram.Structured())
    assert any("w: no reading for OldProductBackward" in note for note in plan.notes)
    assert any("uses are read off autograd's graph" in note for note in plan.notes)
    with pytest.raises(jacgram.JacgramError, match="w"):
        jacgram.ntk(module, x, method=jacgram.Structured(strict=True))


def test_a_branch_on_data_that_another_side_did_not_take():
    """Tiles and sides may take other paths than those on which the level was found."""
    module, x = MODELS["branch_on_data"](6)
    J = rows_of(module, x)
    expected = oracle.gram(J)[0]
    for k in range(6):
        found = jacgram.ntk(module, x[k : k + 1], x)
        np.testing.assert_allclose(found, expected[k : k + 1], atol=1e-12)


def test_tied_weights_have_their_cross_terms():
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
    module[2].weight = module[0].weight
    x = torch.randn(3, 3, dtype=torch.float64)
    expected = oracle.gram(rows_of(module, x))[0]
    np.testing.assert_allclose(jacgram.ntk(module, x), expected, atol=1e-12)


def test_a_rebound_closure_is_seen():
    """Nothing but which calls are made is remembered of f."""
    scale = torch.tensor(1.0, dtype=torch.float64)
    f = lambda p, x: scale * torch.tanh(x @ p)
    w, x = torch.randn(3, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    first = jacgram.ntk(f, x, params=w)
    scale = torch.tensor(3.0, dtype=torch.float64)
    torch.testing.assert_close(jacgram.ntk(f, x, params=w), 9 * first)


def test_float32_within_float64():
    """Norm layers of float64 models that compute in float32 are no mismatch."""
    module = Of(
        lambda m, x: m.b(functional.layer_norm(m.a(x).float(), (4,)).double()), a=nn.Linear(3, 4), b=nn.Linear(4, 2)
    )
    module, x = module.double(), torch.randn(5, 3, dtype=torch.float64)
    made = side(module, x)
    made.check_examples()
    uses = check_uses(made, rows_of(module, x), 1e-5)
    assert all(use.structured for use in uses)


def test_constant_leaves_whose_gradients_cancel():
    """A bias ahead of a norm layer has no gradient but rounding, which is no mismatch."""
    module = nn.Sequential(nn.Conv1d(1, 2, 3), nn.InstanceNorm1d(2), nn.Flatten(), nn.Tanh()).double()
    x = torch.randn(3, 1, 6, dtype=torch.float64)
    made = side(module, x)
    uses = made.uses(basis(made), structured=True)
    assert all(use.structured for use in uses)


def test_a_tile_none_of_whose_examples_takes_a_branch():
    """Uses are laid out by examples of other tiles, which had other numbers of seeds."""

    def f(p, x):
        return torch.stack([row @ p["a"] if row.sum() > 0 else row @ p["b"] for row in x])

    params = {name: torch.randn(3, 4, dtype=torch.float64) for name in "ab"}
    x = torch.randn(6, 3, dtype=torch.float64).abs() * torch.tensor([1, 1, 1, -1, -1, -1])[:, None]
    expected = oracle.gram(oracle.jacobian(f, x, params))
    for memory in (None, 4000, 2000, 1500, 1000):
        try:
            jacgram.plan(f, x, params=params, memory=memory)
        except jacgram.JacgramError:
            continue
        oracle.check(jacgram.ntk(f, x, params=params, memory=memory), expected)


@pytest.mark.parametrize("outputs", [1, 3])
def test_what_is_computed_anew_on_the_way_back(outputs):
    from torch.utils.checkpoint import checkpoint

    def f(p, x):
        hidden = checkpoint(lambda h: torch.relu(h @ p["w"] + p["b"]), torch.tanh(x @ p["w"]), use_reentrant=False)
        return hidden[:, :outputs]

    params = {"w": torch.randn(3, 3, dtype=torch.float64), "b": torch.randn(3, dtype=torch.float64)}
    x = torch.randn(4, 3, dtype=torch.float64)
    oracle.check(jacgram.ntk(f, x, params=params), oracle.gram(oracle.jacobian(f, x, params)))

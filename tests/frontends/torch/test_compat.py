"""Each name that PyTorch does not promise to keep does what we need; named, so that the one that moved is seen."""

import inspect
import warnings

import pytest
import torch
from torch import nn

from jacgram.frontends.torch import compat
from jacgram.frontends.torch.marks import is_batched, mark


def test_transform_level_counts_the_transforms_around():
    levels = [compat.transform_level()]

    def inner(x):
        levels.append(compat.transform_level())
        return x

    torch.func.vmap(inner)(torch.ones(2))
    torch.func.vmap(lambda x: torch.func.jvp(inner, (x,), (x,))[1])(torch.ones(2))
    assert levels == [0, 1, 2]


@pytest.mark.parametrize("axis", [0, 1])
def test_unbatched_opens_a_single_level_and_batched_closes_it(axis):
    x = torch.randn(2, 2)

    def one(row):
        inside, at, level = compat.unbatched(row)
        assert inside is x
        assert at == axis
        assert compat.unbatched(torch.ones(2)) is None
        assert torch.func.vmap(lambda entry: entry + (compat.unbatched(entry) is None))(row).shape == (2,)
        return compat.batched(2 * inside, level)

    torch.testing.assert_close(torch.func.vmap(one, in_dims=axis)(x), 2 * x)


def test_unbatched_leaves_other_transforms_alone():
    seen = []

    def one(row):
        torch.func.grad(lambda at: (seen.append((compat.unbatched(at), compat.unbatched(row))), at.sum())[1])(row)
        return row

    torch.func.vmap(one)(torch.ones(2, 3))
    assert seen == [(None, None)]


def test_is_view_tells_views_from_copies():
    x = torch.randn(2, 3, requires_grad=True)
    assert compat.is_view(x[0])
    assert compat.is_view(torch.empty(2, 3, device="meta").t())
    assert not compat.is_view(x.clone())
    assert not compat.is_view(torch.empty(2, 3, device="meta").t().reshape(-1))


def test_no_hidden_loops_raises_where_a_batching_rule_is_missing():
    x = torch.randn(3, 4, requires_grad=True)
    with compat.known_loops():
        y = torch.func.vmap(lambda x: x.take(torch.tensor([0, 3])))(x)
    backward = torch.func.vmap(lambda v: torch.autograd.grad(y, x, v, retain_graph=True))
    with compat.no_hidden_loops(), pytest.raises(RuntimeError, match="fallback"):
        backward(torch.ones(2, 3, 2))
    with warnings.catch_warnings(), compat.known_loops():
        backward(torch.ones(2, 3, 2))


def test_drop_backward_hooks_empties_the_tables():
    module = nn.Linear(2, 2)
    module.register_full_backward_hook(lambda *args: None)
    module.register_full_backward_pre_hook(lambda *args: None)
    compat.drop_backward_hooks(module)
    assert not module._backward_hooks
    assert not module._backward_pre_hooks


def test_load_forward_mode_does_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compat.load_forward_mode.cache_clear()
        compat.load_forward_mode()


def test_function_class_names_custom_functions():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 2 * x

    x = torch.ones(1, requires_grad=True)
    assert compat.function_class(Twice.apply(x).grad_fn) is Twice
    assert compat.function_class((2 * x).grad_fn) is None


def test_variable_of_a_node_is_the_leaf_it_accumulates_into():
    w = torch.ones(2, 3, requires_grad=True)
    node = (w * 2).grad_fn
    assert compat.variable_of(node.next_functions[0][0]) is w
    assert compat.variable_of(node) is None


def test_saved_operands_and_axes_of_nodes():
    w, x = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3)
    product = (x @ w.t()).grad_fn
    assert torch.equal(compat.saved(product, "self"), x)
    assert compat.saved(product, "mat2") is None
    assert compat.saved(w.transpose(-1, 0).grad_fn, "dim0") == 2**64 - 1
    assert compat.saved(torch.addmm(w, x[:2], x[:3].T @ x[:3, :3], alpha=3).grad_fn, "alpha") == 3
    assert tuple(compat.saved(w.permute(1, 0).grad_fn, "dims")) == (1, 0)
    assert compat.saved((w.sin() * w.cos()).grad_fn, "other").shape == (2, 3)


def test_signed_axes_count_from_the_last():
    w = torch.ones(2, 3, requires_grad=True)
    assert compat.signed(compat.saved(w.transpose(-1, 0).grad_fn, "dim0")) == -1
    assert compat.signed(1) == 1


def test_gradient_like_an_output():
    w = torch.ones(2, 3, requires_grad=True)
    assert compat.gradient_like((w * 2).grad_fn, 0) == ((2, 3), torch.float32)
    assert compat.gradient_like(w.double().unbind(1)[2].grad_fn, 2) == ((2,), torch.float64)
    assert compat.gradient_like((w * 2).grad_fn.next_functions[0][0], 0) == ((2, 3), torch.float32)


def test_gradients_past_a_node_free_nothing():
    a, b = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3)
    node = (a * b).grad_fn
    for _ in range(2):
        first, second = compat.gradients_past(node, torch.ones(2, 3))
        assert torch.equal(first, b)
        assert second is None
    assert torch.equal(compat.gradients_past(a.relu().grad_fn, b)[0], b * (a > 0))


def test_every_name_here_has_its_test():
    names = [
        name
        for name, value in vars(compat).items()
        if inspect.isfunction(inspect.unwrap(value)) and value.__module__ == compat.__name__
    ]
    tests = [name for name in globals() if name.startswith("test_")]
    told = {name for name in names if any(name in test for test in tests) or name == "known_loops"}
    assert set(names) == told


def test_packs_saved_sees_hooks_on_what_is_saved():
    assert not compat.packs_saved()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        assert compat.packs_saved()
    assert not compat.packs_saved()


# Public, but what we rely on is described rather than specified.


def test_debug_unwrap_tells_what_is_batched():
    seen = []
    torch.func.vmap(lambda x: (seen.append((is_batched(x), is_batched(torch.ones(1)), is_batched(x.sum() * 0))), x)[1])(
        torch.ones(2, 3)
    )
    assert seen == [(True, False, True)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_mark_sees_examples_first_at_every_depth(axis):
    x = torch.randn(2, 3, 4, requires_grad=True)
    seen = []

    def tell(tensor):
        seen.append(tensor)
        return tensor

    def inner(row):
        return torch.func.vmap(lambda part: mark(2 * part, tell).sum(), in_dims=-1)(row)

    y = torch.func.vmap(inner, in_dims=axis)(x)
    shape = [size for k, size in enumerate(x.shape) if k != axis]
    assert seen[0].shape == (x.shape[axis], shape[1], shape[0])
    (gradient,) = torch.autograd.grad(y.sum(), seen[0])
    torch.testing.assert_close(gradient, torch.ones_like(seen[0]))


@pytest.mark.parametrize("axis", [0, 1])
def test_mark_of_one_level_goes_on_with_what_it_is_given(axis):
    x = torch.randn(2, 3, requires_grad=True)
    seen = []

    def tell(tensor):
        seen.append(tensor.clone())
        return seen[-1]

    y = torch.func.vmap(lambda part: mark(2 * part, tell).sin(), in_dims=axis)(x)
    torch.testing.assert_close(y, (2 * x).movedim(axis, 0).sin())
    (gradient,) = torch.autograd.grad(y.sum(), seen[0])
    torch.testing.assert_close(gradient, seen[0].cos())


def test_gradients_at_edges_under_vmap():
    x = torch.randn(3, 4, requires_grad=True)
    u = 2 * torch.tanh(x)
    edge = torch.autograd.graph.get_gradient_edge(u)
    y = u.exp_()  # u is another value now, and the edge still that of the product
    grads = torch.func.vmap(lambda v: torch.autograd.grad(y, [edge], v, retain_graph=True)[0])(
        torch.eye(3)[:, :, None].expand(3, 3, 4)
    )
    torch.testing.assert_close(grads.sum(0), (2 * torch.tanh(x)).exp())
    again = torch.func.vmap(lambda v: torch.autograd.grad([edge], [x], [v], retain_graph=True)[0])(torch.ones(2, 3, 4))
    torch.testing.assert_close(again[0], 2 - 2 * torch.tanh(x) ** 2)


def test_weight_norm_is_called_by_this_name():
    from jacgram.frontends.torch.norms import weight_norm

    v, seen = torch.randn(3, 4), []

    class Seen(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    with Seen():
        layer(torch.randn(2, 4))
    function = getattr(torch, compat.WEIGHT_NORM)
    assert function in seen
    for axis, shape in ((0, (3, 1)), (1, (1, 4)), (-1, ())):
        g = torch.rand(shape)
        torch.testing.assert_close(weight_norm(v, g, axis), function(v, g, axis))

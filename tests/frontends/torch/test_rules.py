"""Rules at random settings, in the forms in which they are called, and rules of third parties."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn import functional

from frontends.torch.checks import FRONTEND, check_uses
from jacgram.core.uses import Conv, Einsum, Gather, Identity
from jacgram.frontends.torch.rules import RULES, Call, Used, register
from jacgram.frontends.torch.tape import Reading
from kit import oracle

RANDOM = settings(max_examples=25, deadline=None)


def check(f, params, x, rtol=1e-11, *, structured=True):
    """Uses of ``f(params, x)`` equal the rows of autograd; all are structured, unless told otherwise."""
    side = FRONTEND.side(f, x, params, argument="x1")
    uses = check_uses(side, oracle.jacobian(f, x, params), rtol)
    assert all(use.structured for use in uses) == structured, [use.kind for use in uses]
    return uses


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")
@RANDOM
@given(data=st.data())
def test_convolutions(data):
    dims = data.draw(st.integers(1, 2))
    groups = data.draw(st.integers(1, 2))
    draw = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(dims))
    window, stride, dilation = draw(1, 3), draw(1, 2), draw(1, 2)
    space = tuple(4 + extra for extra in draw(0, 2))
    transposed = data.draw(st.booleans())
    padding = (
        data.draw(st.sampled_from(["same", "valid"])) if not transposed and data.draw(st.booleans()) else draw(0, 1)
    )
    stride = (1,) * dims if padding == "same" else stride
    shape = (2 * groups, 2, *window)
    name = f"conv_transpose{dims}d" if transposed else f"conv{dims}d"
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    if transposed:
        options["output_padding"] = tuple(s - 1 for s in stride)
    bias = normal(2 * groups)

    def f(p, x):
        return getattr(functional, name)(x, p["w"], p["b"], **options).flatten(1)[:, :5]

    params = {"w": normal(*shape), "b": bias}
    try:
        f(params, normal(1, 2 * groups, *space))
    except RuntimeError:
        return  # the window is larger than the input
    uses = check(f, params, normal(2, 2 * groups, *space))
    assert {type(use.kind) for use in uses} == {Conv, Einsum}


@pytest.mark.parametrize(("groups", "padding"), [(1, 0), (2, "valid"), (1, 1)])
def test_windows_of_one_entry_with_strides(groups, padding):
    f = lambda p, x: functional.conv2d(x, p["w"], p["b"], (2, 3), padding, groups=groups).flatten(1)[:, :9]
    params = {"w": normal(4, 4 // groups, 1, 1), "b": normal(4)}
    kinds = [use.kind for use in check(f, params, normal(3, 4, 5, 4))]
    assert [kind.strides for kind in kinds if isinstance(kind, Conv)] == [(2, 3) if padding == 1 else (1, 1)]


def test_strides_that_pytorch_refuses_stay_refused():
    x, w = normal(1, 1, 5), normal(1, 1, 1)
    call = Call(torch.conv1d, (x, w, None, 2, "same"), {}, lambda value: value is w)
    with pytest.raises(RuntimeError, match="padding='same' is not supported for strided convolutions"):
        RULES[torch.conv1d](call)


def test_many_groups_of_a_transposed_convolution():
    f = lambda p, x: functional.conv_transpose1d(x, p, groups=17).flatten(1)[:, :3]
    check(f, normal(17, 1, 2), normal(2, 17, 3), structured=False)


@RANDOM
@given(data=st.data())
def test_matrix_products_with_broadcast_axes(data):
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=0, max_size=2))
    shown = [data.draw(st.sampled_from([1, size])) for size in sizes][data.draw(st.integers(0, len(sizes))) :]
    left = data.draw(st.booleans())
    w = normal(*shown, 2, 3) if left else normal(*shown, 3, 2)
    x = normal(2, *sizes, 3, 2) if left else normal(2, *sizes, 2, 3)
    check((lambda p, x: (p @ x).flatten(1)) if left else (lambda p, x: (x @ p).flatten(1)), w, x)


@RANDOM
@given(data=st.data())
def test_entrywise_operations_with_broadcasting(data):
    out = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    shape = [data.draw(st.sampled_from([1, size])) for size in out][data.draw(st.integers(0, len(out))) :]
    call = data.draw(
        st.sampled_from(
            [
                lambda w, x: x + w,
                lambda w, x: w - 2 * x,
                lambda w, x: torch.sub(x, w, alpha=3),
                lambda w, x: x * w,
                lambda w, x: w / (3 + x**2),
                lambda w, x: x / (3 + w),
                lambda w, x: torch.where(x > 0, w, x),
                lambda w, x: torch.addcmul(x, w, x, value=0.5),
                lambda w, x: x.clone().mul_(w).add_(w),
            ]
        )
    )
    check(lambda p, x: call(p, x).flatten(1), normal(*shape), normal(2, *out))


@pytest.mark.parametrize(
    ("equation", "shape"),
    [
        ("nti,ik->ntk", (3, 4)),
        ("nti,ki->nkt", (4, 3)),
        ("nti,tik->nk", (2, 3, 4)),
        ("nti,i->nt", (3,)),
        ("nti,nti,tk->nk", (2, 4)),
        ("nti,tt->ni", (2, 2)),
        ("nti,ik", (3, 4)),
        ("nti,kj->nti", (4, 2)),
    ],
)
def test_einsum(equation, shape):
    x = normal(3, 2, 3)
    operands = equation.split("->")[0].count(",")
    f = lambda p, x: torch.einsum(equation, *[x] * operands, p).movedim(0, 0).flatten(1)
    if equation == "nti,ik":
        f = lambda p, x: torch.einsum(equation, x, p).movedim(1, 0).flatten(1)
    check(f, normal(*shape), x, structured=equation not in ("nti,tt->ni", "nti,kj->nti"))


@pytest.mark.parametrize(
    "f",
    [
        lambda p, x: p[x],
        lambda p, x: functional.embedding(x, p, padding_idx=-1),
        lambda p, x: p.t()[:, x].movedim(1, 0),
        lambda p, x: torch.index_select(p, 0, x.flatten()).unflatten(0, x.shape),
        lambda p, x: p[-1 - x],
        lambda p, x: torch.stack([p[i] for row in x for i in row]).unflatten(0, x.shape),
        lambda p, x: functional.embedding(x, 2 * p[:, :2]),
        lambda p, x: functional.embedding(torch.arange(3), p) * x[..., None],
    ],
)
def test_gathers(f):
    params, x = normal(5, 3), torch.tensor([[0, 4, 0], [1, 2, 3]])
    uses = check(lambda p, x: f(p, x).flatten(1), params, x)
    assert all(isinstance(use.kind, Gather) for use in uses)


def test_layouts_of_lists_and_masks_are_read_whole():
    params, x = normal(5, 3), normal(2, 3)
    check(
        lambda p, x: x @ p[torch.tensor([True, False, True, True, False])], normal(5, 3), normal(2, 3), structured=False
    )
    check(lambda p, x: torch.maximum(p[0], x), params, x, structured=False)
    check(lambda p, x: x @ p[[0, 2, 1]], params, x, structured=False)


def test_norm_layers_in_all_their_forms():
    x, w, b = normal(2, 4, 3), normal(4, 3), normal(4, 3)
    forms = [
        lambda p, x: functional.layer_norm(x, (4, 3), p["w"], p["b"]),
        lambda p, x: torch.layer_norm(x, (4, 3), weight=p["w"], bias=p["b"]),
        lambda p, x: functional.rms_norm(x, (4, 3), p["w"]) + p["b"],
        lambda p, x: functional.group_norm(x, 2, p["w"][:, 0], p["b"][:, 1]),
        lambda p, x: torch.group_norm(x, 2, p["w"][:, 0], p["b"][:, 1]),
        lambda p, x: functional.instance_norm(x, weight=p["w"][:, 0], bias=p["b"][:, 1]),
        lambda p, x: functional.batch_norm(
            x, p["w"][:, 2].detach(), torch.ones(4).double(), p["w"][:, 0], p["b"][:, 1]
        ),
    ]
    for form in forms:
        check(lambda p, x: form(p, x).flatten(1)[:, :5], {"w": w, "b": b}, x)  # noqa: B023


def test_weight_and_bias_share_their_cotangent():
    def f(p, x):
        h = functional.conv1d(x, p["k"], p["c"])
        return functional.linear(functional.layer_norm(h.mT, (2,), p["s"], p["t"]), p["w"], p["b"]).flatten(1)

    params = {"k": normal(2, 3, 2), "c": normal(2), "s": normal(2), "t": normal(2), "w": normal(2, 2), "b": normal(2)}
    side = FRONTEND.side(f, normal(2, 3, 4), params, argument="x1")
    uses = {side.paths[u.leaf]: u for u in check_uses(side, oracle.jacobian(f, side.x[0], params))}
    for one, other in (("k", "c"), ("s", "t"), ("w", "b")):
        assert uses[one].cotangent is uses[other].cotangent


def test_activations_and_cotangents_are_not_copied():
    """A convolution's record is channels last by permutation alone."""
    f = lambda p, x: functional.conv2d(x, p).flatten(1)
    x = normal(2, 3, 4, 5)
    (use,) = FRONTEND.side(f, x, normal(2, 3, 2, 2), argument="x1").uses([normal(2, 24)], structured=True)
    assert use.activation.shape == (2, 4, 5, 3)
    assert use.activation.data_ptr() == x.data_ptr()


# --------------------------------------------------------------------------------------------- rules of third parties


def doubled_product(x, w):
    """A third party's operation, dispatched as PyTorch's own are."""
    if torch.overrides.has_torch_function((x, w)):
        return torch.overrides.handle_torch_function(doubled_product, (x, w), x, w)
    return 2 * x @ w


def test_a_registered_rule():
    f = lambda p, x: doubled_product(x, p)
    params, x = normal(3, 2), normal(4, 3)
    (use,) = check(f, params, x, structured=False)
    assert use.kind == Identity("no rule for doubled_product")

    def rule(call: Call) -> Used:
        x, w = call.bind("x", "w")
        return Used(doubled_product(x, w), [Reading(w, Einsum(("t", "i"), ("t", "k"), ("i", "k")), x, scale=2)])

    register(doubled_product, rule=rule)
    try:
        (use,) = check(lambda p, x: doubled_product(x, p), params, x)
        np.testing.assert_allclose(use.activation, 2 * x[:, None])
    finally:
        del RULES[doubled_product]


def test_a_wrong_rule_is_caught():
    def rule(call: Call) -> Used:
        x, w = call.bind("x", "w")
        return Used(doubled_product(x, w), [Reading(w, Einsum(("t", "i"), ("t", "k"), ("i", "k")), x)])

    register(doubled_product, rule=rule)
    try:
        check(lambda p, x: doubled_product(x, p), normal(3, 2), normal(4, 3))  # read off the graph instead
        f = lambda p, x: doubled_product(x, torch.cosh(p))
        (use,) = check(f, normal(3, 2), normal(4, 3), structured=False)
        assert "do not add up to autograd's own gradient" in use.kind.reason
    finally:
        del RULES[doubled_product]

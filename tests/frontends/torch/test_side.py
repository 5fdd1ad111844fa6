"""Sides: what they are made of, and products with J against one backward pass per row."""

import dataclasses
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

import jacgram
from frontends.torch.checks import FRONTEND, basis, check_described, check_uses, described
from jacgram.errors import InteractingExamplesError, StructureError
from jacgram.frontends.torch import recurrent
from kit import oracle, zoo
from kit.rows import jacobian_of_uses


def side(f, x, params=None, **kwargs):
    return FRONTEND.side(f, x, params, argument="x1", **kwargs)


def random_like(structs, *, complex_too=False):
    dtypes = [torch.complex128 if complex_too else getattr(torch, struct.dtype) for struct in structs]
    return [torch.randn(struct.shape, dtype=dtype) for struct, dtype in zip(structs, dtypes, strict=True)]


@pytest.mark.parametrize("structured", [True, False])
@pytest.mark.parametrize("name", zoo.MODELS)
def test_uses_of_the_zoo(name, structured):
    f, params, x = zoo.MODELS[name].on("torch", 3)
    made = side(f, x, params)
    made.check_examples()
    check_uses(made, oracle.jacobian(f, x, params), 1e-12, structured=structured)
    assert made.checked == "checked"


@pytest.mark.parametrize("name", zoo.MODELS)
def test_products_with_vectors(name):
    f, params, x = zoo.MODELS[name].on("torch", 3)
    made, J = side(f, x, params), oracle.jacobian(f, x, params)
    for complex_too in (False, True):
        if complex_too and made.real_part:
            continue
        u, v = (random_like(structs, complex_too=complex_too) for structs in (made.variable, made.outputs))
        for found, expected in zip(made.jvp(u), oracle.push(J, u), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)
        for found, expected in zip(made.vjp(v), oracle.pull(J, v), strict=True):
            np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-11, atol=1e-12)


def test_real_outputs_of_complex_parameters():
    w = torch.randn(3, 2, dtype=torch.complex128)
    x = torch.randn(4, 3, dtype=torch.float64)

    def f(params, x):
        return torch.sin(x.to(params.dtype) @ params).abs()

    made, J = side(f, x, w), oracle.jacobian(f, x, w)
    assert made.real_part
    check_uses(made, J, 1e-12)
    check_uses(made, J, 1e-12, structured=False)
    u = torch.randn_like(w)
    np.testing.assert_allclose(made.jvp([u])[0], oracle.push(J, u)[0].real, atol=1e-12)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize(
    "name", ["dense", "conv", "integer_input", "dict_output", "derivative", "complex_output", "squared"]
)
def test_few_examples(name, n):
    f, params, x = zoo.MODELS[name].on("torch", n)
    made = side(f, x, params)
    made.check_examples()
    assert made.n == n
    assert made.checked == "unchecked (fewer than two examples)"
    for structured in (True, False):
        seeds = basis(made)
        uses = made.uses(seeds, structured=structured)
        check_described(described(made, seeds, structured=structured), uses)
        assert all(use.cotangent.shape[0] == n for use in uses)
    assert [tuple(y.shape) for y in made.jvp(made.leaves)] == [struct.shape for struct in made.outputs]
    assert [tuple(u.shape) for u in made.vjp(random_like(made.outputs))] == [s.shape for s in made.variable]


def test_blocks_of_examples():
    f, params, x = zoo.MODELS["recurrent"].on("torch", 5)
    made, J = side(f, x, params), oracle.jacobian(f, x, params)
    seeds = basis(made)
    whole = jacobian_of_uses(made.uses(seeds, structured=True), [s.shape for s in made.variable], 5, 2)
    part = made.examples(1, 3)
    found = jacobian_of_uses(part.uses(seeds, structured=True), [s.shape for s in made.variable], 3, 2)
    for a, b in zip(whole, found, strict=True):
        np.testing.assert_allclose(a[1:4], b, atol=1e-12)
    assert part.n == 3
    assert J[0].shape == (5, 2)


def test_jacobian_to_x():
    F = torch.randn(7, 4, dtype=torch.float64)
    x = {"a": torch.rand(4, dtype=torch.float64), "b": torch.rand(2, dtype=torch.float64)}

    def f(x):
        return torch.sqrt(F @ x["a"]).sum() * x["b"], x["b"].prod()

    made = side(f, x)
    assert (made.has_examples, made.n, made.paths, made.output_paths) == (False, 1, ("a", "b"), ("0", "1"))
    made.check_examples()
    assert made.checked.startswith("unchecked (no examples")
    seeds = basis(made)
    for structured in (True, False):
        uses = made.uses(seeds, structured=structured)
        check_described(described(made, seeds, structured=structured), uses)
        found = jacobian_of_uses(uses, [(4,), (2,)], 1, 3)
        expected = oracle.jacobian(f, x)
        for k, leaf in enumerate(found):
            np.testing.assert_allclose(leaf[0], np.concatenate([rows.leaves[k] for rows in expected]), atol=1e-12)


def test_matrix_product_with_x_is_structured():
    F = torch.randn(7, 4, dtype=torch.float64)
    made = side(lambda x: torch.sqrt(F @ x), torch.rand(4, dtype=torch.float64))
    (use,) = made.uses(basis(made), structured=True)
    assert use.structured


# ------------------------------------------------------------------------------------------- what may be passed


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2).double()

    def forward(self, image, index, scale=1.0):
        return scale * self.linear(image) + index[:, None]


def test_a_module_takes_a_dict_by_keyword():
    module = TwoInputs()
    x = {"index": torch.tensor([1, 2]), "image": torch.randn(2, 3, dtype=torch.float64)}
    made = side(module, x)
    assert made.paths == ("linear.weight", "linear.bias")
    assert made.jvp(made.leaves)[0].shape == (2, 2)


def test_constants_in_x_are_passed_on():
    def f(params, x):
        return x["a"] @ params if x["flag"] and x["nothing"] is None and x["name"] == "w" else None

    x = {"a": torch.randn(2, 3), "flag": True, "nothing": None, "name": "w"}
    assert side(f, x, torch.randn(3, 2)).n == 2


def test_numpy_arrays_follow_the_parameters():
    made = side(lambda p, x: x @ p, np.ones((2, 3)), torch.randn(3, 2, dtype=torch.float64))
    assert isinstance(made.x[0], torch.Tensor)


def test_own_parameters_are_those_that_require_gradients():
    module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    module[0].bias.requires_grad_(False)
    x = torch.randn(2, 3, dtype=torch.float64)
    for made in (side(module, x), side(lambda m, x: m(x), x, module), side(module, x, module)):
        assert made.paths == ("0.weight", "1.weight", "1.bias")
        check_uses(made, oracle.jacobian(module, x), 1e-12)


def test_a_subset_of_a_modules_parameters():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    x = torch.randn(2, 3, dtype=torch.float64)
    params = {"2.bias": torch.randn(2, dtype=torch.float64), "0.weight": torch.randn(4, 3, dtype=torch.float64)}
    made = side(module, x, params)
    assert made.paths == ("2.bias", "0.weight")
    J = oracle.jacobian(module, x, params)  # leaves by sorted key
    J = [oracle.Rows(rows.shape, rows.leaves[::-1]) for rows in J]
    check_uses(made, J, 1e-12)
    assert set(made.unflatten_variable([1, 2])) == set(params)


def test_another_checkpoint():
    first, second = (nn.Linear(3, 2).double() for _ in range(2))
    x = torch.randn(2, 3, dtype=torch.float64)
    u = [torch.randn(2, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
    f = nn.Sequential(first)
    other = nn.Sequential(second)
    assert side(f, x, other).leaves[0] is second.weight
    assert torch.equal(side(f, x, other).jvp(u)[0], x @ u[0].T)


def test_tied_tensors_of_a_dict_are_one_leaf():
    w = torch.randn(3, 3, dtype=torch.float64)
    x = torch.randn(2, 3, dtype=torch.float64)

    def f(params, x):
        return torch.tanh(x @ params["a"]) @ params["b"]

    made = side(f, x, {"a": w, "b": w})
    assert made.paths == ("a",)
    check_uses(made, oracle.jacobian(lambda w, x: f({"a": w, "b": w}, x), x, w), 1e-12)
    assert made.unflatten_variable([1]) == {"a": 1, "b": None}
    assert made.flatten_variable({"a": w, "b": w}, "u")[0] is w
    assert made.flatten_variable({"a": w, "b": None}, "u")[0] is w
    with pytest.raises(StructureError, match="one leaf; give the same value, or None"):
        made.flatten_variable({"a": w, "b": 2 * w}, "u")


def test_tied_parameters_of_a_module_are_one_leaf():
    module = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
    module[2].weight = module[0].weight
    x = torch.randn(2, 3, dtype=torch.float64)
    new = torch.randn(3, 3, dtype=torch.float64)
    assert side(module, x).paths == ("0.weight", "0.bias", "2.bias")
    for name in ("0.weight", "2.weight"):
        made = side(module, x, {name: new})
        twin = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)).double()
        twin.load_state_dict(module.state_dict() | {"0.weight": new, "2.weight": new})
        twin[2].weight = twin[0].weight
        for part in (twin[0].bias, twin[2].bias):
            part.requires_grad_(False)
        check_uses(made, oracle.jacobian(twin, x), 1e-12)
    assert side(module, x, {"0.weight": new, "2.weight": new}).paths == ("0.weight",)
    with pytest.raises(StructureError, match=r"different tensors to '0.weight' and '2.weight'"):
        side(module, x, {"0.weight": new, "2.weight": new + 1})


Point = namedtuple("Point", ["w", "b"])


@dataclasses.dataclass
class Output:
    mean: torch.Tensor
    extra: tuple


def test_containers_of_all_kinds():
    params = Point([torch.randn(3, 2), torch.randn(2, 2)], OrderedDict(z=torch.randn(2), a=torch.randn(2)))

    def f(params, x):
        h = x["k"][0] @ params.w[0] @ params.w[1]
        return Output(h + params.b["z"], (h.sum(1) * params.b["a"][0],))

    made = side(f, {"k": (torch.randn(4, 3),)}, params)
    assert made.paths == ("w.0", "w.1", "b.z", "b.a")
    assert made.output_paths == ("mean", "extra.0")
    tree = made.unflatten_output(["y", "z"])
    assert tree == {"mean": "y", "extra": ("z",)}
    assert made.flatten_output({"mean": torch.ones(4, 2), "extra": (torch.ones(4),)}, "v")[1].shape == (4,)
    again = made.unflatten_variable(made.flatten_variable(params, "u"))
    assert again.w == params.w
    assert list(again.b) == ["z", "a"]


def test_leaves_of_a_dict_come_by_sorted_key():
    made = side(lambda p, x: x @ p["b"] + p["a"], torch.randn(2, 3), {"b": torch.randn(3, 1), "a": torch.randn(1)})
    assert made.paths == ("a", "b")
    assert list(made.unflatten_variable([1, 2])) == ["b", "a"]
    assert made.unflatten_variable([1, 2]) == {"a": 1, "b": 2}


def test_same_point():
    f, params, x = zoo.MODELS["dense"].on("torch", 3)
    made = side(f, x, params)
    assert made.same_point(side(f, x, params))
    assert made.same_point(made.with_arrays(made.arrays()))
    assert not made.same_point(side(f, x.clone(), params))
    assert not made.same_point(side(lambda p, x: f(p, x), x, params))


def test_sides_that_differ_in_their_examples_alone_are_alike():
    f, params, x = zoo.MODELS["dense"].on("torch", 3)
    jacgram.ntk(f, x, params=params)  # so that it is known how f runs
    made, other = side(f, x, params), side(f, torch.cat([x, 2 * x]), params)
    assert made.like(other)
    assert made.example_bytes == x.numel() * 8
    both = made.joined(other)
    assert both.n == 9
    assert both.outputs[0].shape[0] == 9
    torch.testing.assert_close(both.x[0], torch.cat([x, x, 2 * x]))
    other.adopt(made)
    assert other.shared is made.shared
    same = {name: leaf.clone() for name, leaf in params.items()}
    for changed in (
        side(lambda p, x: f(p, x), x, params), side(f, x, same), side(f, x.float(), {n: p.float() for n, p in same.items()})
    ):  # fmt: skip
        assert not made.like(changed)
        assert made.joined(changed) is None


def test_a_function_that_may_branch_on_data_is_like_no_other():
    """Values decide which uses it has."""

    def f(w, x):
        return torch.stack([row @ w if row[0] > 0 else row.sum() * w.sum(0) for row in x])

    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    assert not side(f, x, w).like(side(f, x + 1, w))
    module = torch.nn.Linear(3, 2).double()
    first = side(lambda m, x: m(x), x, module)
    assert not first.like(side(lambda m, x: m(x), x, module)), "a function is itself alone"
    nested = {"a": x, "flag": True}
    g = lambda m, x: m(x["a"]) if x["flag"] else -m(x["a"])
    assert not side(g, nested, module).like(side(g, {"a": x, "flag": True}, module)), "nothing is known of it yet"
    jacgram.ntk(g, nested, params=module)
    assert side(g, nested, module).like(side(g, {"a": x, "flag": True}, module))
    assert not side(g, nested, module).like(side(g, {"a": x, "flag": False}, module))


# ----------------------------------------------------------------------------------------------------- bad input

W, X = torch.randn(3, 2), torch.randn(4, 3)


@pytest.mark.parametrize(
    ("f", "x", "params", "message"),
    [
        (3, X, W, "f is int 3, expected a function or an nn.Module"),
        (lambda p, x: x @ p, X, {}, "params holds no tensor"),
        (lambda p, x: x @ p, {}, W, "x1 holds no tensor"),
        (lambda p, x: x @ p, X, W.long(), r"params has dtype torch.int64, expected floating point or complex"),
        (lambda p, x: x @ p, X, {"w": W.bool()}, r"params leaf 'w' has dtype torch.bool"),
        (lambda x: x.sum(), X.long(), None, "x1 has dtype torch.int64.*J is taken with respect to x"),
        (lambda p, x: (x @ p).argmax(1), X, W, "the output of f has dtype torch.int64.*not classes"),
        (lambda p, x: (x @ p) > 0, X, W, "the output of f has dtype torch.bool"),
        (lambda p, x: None, X, W, "the output of f holds no tensor"),
        (lambda p, x: (x @ p, 3.0), X, W, "the output of f leaf '1' is float within tuple, expected a tensor"),
        (lambda p, x: (x @ p).sum(0), X, W, "has 2 examples on axis 0 for 1 in x"),
        (lambda p, x: (x @ p).sum(), X, W, "the output of f is a scalar, expected examples on axis 0"),
        (
            lambda p, x: x["a"] @ p,
            {"a": X, "b": X[1:]},
            W,
            r"x1 has leaves whose example axes \(axis 0\) differ: a: \(4, 3\)",
        ),
        (lambda p, x: x @ p, torch.tensor(1.0), W, "x1 is a scalar, expected examples on axis 0"),
        (lambda p, x: x @ p, 3.0, W, "x1 is float 3.0, expected a tensor"),
        (lambda p, x: x @ p, X, [W, 1.0], "params leaf '1' is float 1.0, expected a tensor"),
        (lambda p, x: x @ p, X.to_sparse(), W, "x1 has layout torch.sparse_coo, expected a dense tensor"),
        (lambda p, x: x @ p, X.to("meta"), W, "x1 is on the meta device"),
        (
            nn.Linear(3, 2),
            X,
            {"wieght": W},
            "params names 'wieght', which f does not have; its parameters are weight, bias",
        ),
        (nn.Linear(3, 2), X, {"weight": W}, r"params leaf 'weight' has shape \(3, 2\), expected \(2, 3\) as in f"),
        (nn.Linear(3, 2), X, W, "params is Tensor for an nn.Module f, expected a dict"),
        (lambda m, x: x, X, nn.Tanh(), "params is a module without parameters that require gradients"),
        (lambda p, x: (x @ p, x.to(p.dtype) @ p), X, W + 0j, None),
        (lambda p, x: ((x + 0j) @ p, ((x + 0j) @ p).abs()), X, W + 0j, "both real and complex outputs"),
    ],
)
def test_bad_input(f, x, params, message):
    if message is None:
        return
    with pytest.raises(StructureError, match=message):
        side(f, x, params)


def test_an_array_of_another_framework():
    jax = pytest.importorskip("jax")
    with pytest.raises(StructureError, match="x1 is a JAX array among torch tensors"):
        side(lambda p, x: x @ p, jax.numpy.ones((2, 3)), W)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": W}, r"u has keys \['w'\], expected a dict with keys \['b', 'w'\]"),
        (W, "u has Tensor, expected a dict"),
        ({"w": [W], "b": [W, W]}, "u at 'b' is list of 2, expected list of 1"),
        ({"w": [W], "b": [W]}, r"u leaf 'b.0' has shape \(3, 2\), expected \(2,\)"),
        ({"w": [W], "b": [None]}, "u leaf 'b.0' is NoneType, expected a tensor"),
    ],
)
def test_vectors_of_the_wrong_shape(tree, message):
    made = side(lambda p, x: x @ p["w"][0] + p["b"][0], X, {"w": [W], "b": [torch.ones(2)]})
    with pytest.raises(StructureError, match=message):
        made.flatten_variable(tree, "u")


def test_mixed_trees_of_outputs():
    made = side(lambda p, x: {"a": x @ p}, X, W)
    with pytest.raises(StructureError, match=r"v has keys \['b'\], expected a dict with keys \['a'\]"):
        made.flatten_output({"b": torch.ones(4, 2)}, "v")


# ------------------------------------------------------------------------------------------ examples that interact


@pytest.mark.parametrize(
    "f",
    [
        lambda p, x: x @ p / len(x),
        lambda p, x: (x - x.mean(0)) @ p,
        lambda p, x: torch.cumsum(x, 0) @ p,
        lambda p, x: torch.nn.functional.dropout(x @ p, 0.5),
    ],
)
def test_interacting_examples_raise(f):
    with pytest.raises(
        InteractingExamplesError, match=r"examples interact: an output of 4 examples.*draw nothing at random"
    ):
        side(f, X, W).check_examples()


@pytest.mark.parametrize("head", [torch.zeros, torch.ones])
def test_interacting_examples_raise_behind_a_head_of_zeros(head):
    f = lambda p, x: ((h := torch.tanh(x @ p["w"])) - h.mean(0)) @ p["v"]
    params = {"w": W, "v": head(2, 2)}
    with pytest.raises(InteractingExamplesError, match="examples interact"):
        side(f, X, params).check_examples()


def test_examples_of_which_f_knows_no_others_are_compared_as_they_are():
    """Moved a little they are no truth values any more, and f refuses them."""

    def f(p, x):
        if not bool(((x == 0) | (x == 1)).all()):
            raise ValueError("x must be 0 or 1")
        return x @ p

    made = side(f, torch.ones(4, 3), W)
    made.check_examples()
    assert made.checked == "checked"


def test_outputs_that_lose_their_example_axis():
    with pytest.raises(
        InteractingExamplesError, match=r"of shape \(1, 2\) for the whole batch of 4, but of shape \(1, 2\)"
    ):
        side(lambda p, x: (x @ p).mean(0, keepdim=True), X, W).check_examples()


@pytest.mark.parametrize("tracks", [True, False])
def test_batch_norm_in_training_mode_names_the_layer(tracks):
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=tracks)).train(mode=tracks)
    with pytest.raises(
        InteractingExamplesError, match=r"batch norm in training mode mixes examples: '1'; call .eval\(\)"
    ):
        side(module, X)


def test_non_finite_examples_stay_apart():
    x = X.double().clone()
    x[1, 0], x[2, 1] = torch.nan, torch.inf
    f = lambda p, x: torch.tanh(x @ p)
    made = side(f, x, W.double())
    made.check_examples()
    uses = made.uses(basis(made), structured=True)
    rows = jacobian_of_uses(uses, [(3, 2)], 4, 2)[0]
    clean = oracle.jacobian(f, x[[0, 3]], W)[0].leaves[0].reshape(2, 2, 3, 2)
    np.testing.assert_allclose(rows[[0, 3]], clean, atol=1e-12)
    assert np.isnan(rows[1]).any()


def test_a_plan_says_that_f_was_run_for_it():
    for method, is_run in ((jacgram.Structured(), True), (jacgram.Materialize(), False)):
        plan = jacgram.plan(lambda p, x: torch.tanh(x @ p), X, params=W, method=method)
        assert ("note: planned by a forward pass of f" in str(plan)) == is_run


def test_not_holomorphic_behind_a_head_of_zeros():
    params = {"w": torch.ones(3, dtype=torch.complex128), "v": torch.zeros((), dtype=torch.complex128)}
    made = side(lambda p, x: (x * p["w"].conj()).sum(1) * p["v"], torch.ones(2, 3, dtype=torch.complex128), params)
    with pytest.raises(StructureError, match="f is not holomorphic in its complex parameters"):
        made.check_examples()


def test_not_holomorphic():
    w = torch.randn(3, 2, dtype=torch.complex128)
    made = side(lambda p, x: (x.to(p.dtype) @ p).conj() ** 2, X.double(), w)
    with pytest.raises(StructureError, match="f is not holomorphic in its complex parameters"):
        made.check_examples()


# ----------------------------------------------------------------------------------------- the caller's own modes


def test_under_no_grad_and_inference_mode():
    module = nn.Linear(3, 2)
    with torch.no_grad():
        assert side(module, X).uses([torch.eye(2)], structured=True)[0].structured
    with torch.inference_mode():
        made = side(module, torch.randn(4, 3))
        made.check_examples()
        uses = made.uses([torch.eye(2)], structured=True)
        assert torch.is_inference_mode_enabled()
    assert uses[0].structured
    assert not uses[0].cotangent.is_inference()
    assert made.jvp([torch.ones(2, 3), torch.ones(2)])[0].shape == (4, 2)


def test_ambient_autocast_is_switched_off_and_inner_autocast_stays():
    module = nn.Linear(3, 2)

    def inner(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m(x)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert side(module, X).outputs[0].dtype == "float32"
        assert torch.is_autocast_enabled("cpu")
    made = side(inner, X, module)
    assert made.outputs[0].dtype == "bfloat16"
    made.check_examples()
    uses = made.uses([torch.eye(2)], structured=True)
    rows = jacobian_of_uses([dataclasses.replace(u, cotangent=u.cotangent.float()) for u in uses], [(2, 3), (2,)], 4, 2)
    expected = np.einsum("ni,sk->nski", X, np.eye(2))
    np.testing.assert_allclose(rows[0], expected, atol=2e-2)


def test_precision_switches_are_put_back():
    matmul = torch.backends.cuda.matmul
    found = matmul.fp32_precision
    seen = []

    def f(p, x):
        seen.append(matmul.fp32_precision)
        return x @ p

    try:
        matmul.fp32_precision = "tf32"
        side(f, X, W)
        assert matmul.fp32_precision == "tf32"
        FRONTEND.run(lambda a: seen.append(matmul.fp32_precision), [X])
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = found
    assert set(seen) == {"ieee"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_lower_precisions(dtype):
    f, params, x = zoo.MODELS["attention"].on("torch", 3, dtype=dtype)
    made = side(f, x, params)
    made.check_examples()
    uses = made.uses([torch.eye(2)], structured=True)
    assert {str(use.cotangent.dtype) for use in uses} == {f"torch.{dtype}"}
    assert all(use.structured for use in uses)


def test_state_is_put_back_after_an_exception():
    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(3, 2))
            self.calls = 0
            self.seen = {}

        def forward(self, x):
            self.calls += 1
            self.seen["x"] = x
            self.training = not self.training
            torch.rand(1)
            if len(x) > 1:
                raise RuntimeError("out of luck")
            return x @ self.w

    module, state = Breaks(), torch.get_rng_state()
    made = side(module, X)
    with pytest.raises(RuntimeError, match="out of luck"):
        made.jvp([torch.ones(3, 2)])
    assert (module.calls, module.seen, module.training) == (0, {}, True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()


def test_backward_hooks_are_left_alone():
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    calls = []
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    J = oracle.jacobian(module, x.detach())
    module[0].register_full_backward_hook(lambda *args: calls.append(args))
    module[0].weight.register_hook(lambda grad: calls.append(grad))
    check_uses(side(module, x), J, 1e-12)
    assert not calls
    module(x).sum().backward()
    assert len(calls) == 2


def test_a_buffer_that_params_name_is_a_leaf():
    """Buffers are replaced by copies in each call, but not by those the leaves stand for."""

    class Shifted(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("shift", torch.randn(3, dtype=torch.float64))
            self.register_buffer("scale", torch.randn(3, dtype=torch.float64))

        def forward(self, x):
            return torch.tanh(self.scale * x + self.shift)

    module, x, shift = Shifted(), torch.randn(4, 3, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    f = lambda p, x: torch.tanh(module.scale * x + p)
    kernel = jacgram.ntk(module, x, params={"shift": shift})
    torch.testing.assert_close(kernel, jacgram.ntk(f, x, params=shift))
    assert kernel.abs().max() > 0.01


def test_the_steps_of_a_recurrent_layer_are_pulled_back_as_one_array():
    """The gradient of one step's part of the input would be as large as that of all steps."""
    x, h = torch.randn(9, 2, 3, requires_grad=True), torch.zeros(1, 2, 4)
    params = [torch.randn(4, 3), torch.randn(4, 4), torch.randn(4), torch.randn(4)]
    output, _ = recurrent.rnn_tanh(x, h, params, True, 1, 0.0, False, False, False)
    nodes, todo = set(), [output.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += [parent for parent, _ in node.next_functions]
    names = [node.name() for node in nodes]
    assert names.count("UnbindBackward0") == 1
    assert "SelectBackward0" not in names

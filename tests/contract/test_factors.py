"""Leaves condensed to rows a few examples at a time: the same kernel, whatever the block, the pattern or the tiling."""

from collections import OrderedDict
from dataclasses import replace

import pytest

import jacgram
from jacgram.arrays import adapter
from jacgram.contract import rows, structured
from jacgram.contract.loops import collected
from jacgram.operator import compute
from jacgram.plan import condensing, make
from kit import oracle, zoo

PATTERNS = [None, "n ..., m ... -> n m", "n ..., n ... -> n ..."]


@pytest.fixture
def always(monkeypatch):
    """Every leaf is condensed, two examples at a time, so that the last block is ragged."""
    monkeypatch.setattr(condensing, "_SAVED", float("inf"))
    monkeypatch.setattr(condensing, "_block", lambda side, pass_bytes: min(2, side.n))
    monkeypatch.setattr(make, "SHARES", (float("inf"),))
    whole = make._structured_options
    monkeypatch.setattr(make, "_structured_options", lambda *asked: whole(*asked)[1:] or whole(*asked))


def given(monkeypatch, framework, **traits):
    """The framework's traits, some of them others."""
    changed = replace(adapter(framework).traits, **traits)
    monkeypatch.setattr(type(adapter(framework)), "traits", property(lambda self: changed))
    monkeypatch.setattr(compute, "_prepared", OrderedDict())  # what was compiled before was so with its own


def kernel(f, x1, x2, params, pattern=None, **options):
    plan = jacgram.plan(f, x1, x2, params=params, pattern=pattern, method=jacgram.Structured(), **options)
    assert len(plan.condensed) > 0
    assert plan.pass_blocks == (2, 2)
    return jacgram.ntk(f, x1, x2, params=params, pattern=pattern, method=jacgram.Structured(), **options)


@pytest.mark.parametrize("name", ["dense", "conv", "tied_embedding", "recurrent", "unused", "sequence_output"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_as_the_oracle(always, name, pattern, framework):
    if framework == "jax" and pattern is not None and name != "conv":
        pytest.skip("compiling takes the time: in JAX every pattern of one model, in PyTorch of all")
    f, params, x1 = zoo.MODELS[name].on(framework, 5)
    _, _, x2 = zoo.MODELS[name].on(framework, 5 if pattern and "m" not in pattern else 4, seed=1)
    J1 = oracle.jacobian(f, x1, params)
    for second, J2 in ((x2, oracle.jacobian(f, x2, params)), (None, None)):
        oracle.check(kernel(f, x1, second, params, pattern), oracle.gram(J1, J2, pattern))


@pytest.mark.parametrize("few", [1, 1000, 1 << 20])
def test_patches_of_any_number_of_examples(always, few, framework, monkeypatch):
    """One example's patches that are too many are read window by window, more of them some examples at a time."""
    given(monkeypatch, framework, patch_entries=few)
    monkeypatch.setattr(rows, "_FEW", few)
    monkeypatch.setattr(condensing, "_block", lambda side, pass_bytes: side.n)
    f, params, x = zoo.MODELS["conv"].on(framework, 5)
    expected = oracle.gram(oracle.jacobian(f, x, params))
    oracle.check(jacgram.ntk(f, x, params=params, method=jacgram.Structured()), expected)


def test_patches_of_all_examples_where_no_cache_is_to_be_kept_to(always, framework, monkeypatch):
    given(monkeypatch, framework, pass_bytes=2.0**40, patch_entries=1 << 40)
    monkeypatch.setattr(rows, "_FEW", 1)
    sizes = []
    monkeypatch.setattr(
        rows, "collected", lambda xp, n, size, body: sizes.append((n, size)) or collected(xp, n, size, body)
    )
    f, params, x = zoo.MODELS["conv"].on(framework, 5)
    expected = oracle.gram(oracle.jacobian(f, x, params))
    oracle.check(jacgram.ntk(f, x, params=params, method=jacgram.Structured()), expected)
    assert sizes, "in a cache of one entry, windows would be read one by one"


@pytest.mark.parametrize(
    ("n", "most", "shares", "block"),
    [(16, 3, 2, 2), (100, 64, 1, 50), (5, 4, 2, 4), (32, 1, 64, 1), (3, 100, 64, 3), (16, 16, 4, 16), (9, 100, 2, 8)],
)
def test_blocks_of_patches_are_alike_and_divide_among_the_cores(n, most, shares, block):
    assert rows._block(n, most, shares) == block


def test_several_outputs(always, framework):
    f, params, x = zoo.MODELS["dict_output"].on(framework, 3)
    expected = oracle.gram(oracle.jacobian(f, x, params))
    oracle.check(kernel(f, x, None, params), expected)


def test_leaves_apart(always, framework):
    f, params, x = zoo.MODELS["conv"].on(framework, 3)
    apart = jacgram.ntk(f, x, params=params, method=jacgram.Structured(), by_leaf=True)
    assert set(apart) == set(params)
    oracle.check(sum(apart.values()), oracle.gram(oracle.jacobian(f, x, params)))


def test_under_a_budget(always, framework):
    f, params, x1 = zoo.MODELS["conv"].on(framework, 5)
    whole = jacgram.plan(f, x1, params=params, method=jacgram.Structured()).peak_bytes
    expected = oracle.gram(oracle.jacobian(f, x1, params))
    oracle.check(jacgram.ntk(f, x1, params=params, method=jacgram.Structured(), memory=whole // 2), expected)


def test_a_plan_says_so_and_survives_json(always, framework):
    f, params, x = zoo.MODELS["conv"].on(framework, 4)
    plan = jacgram.plan(f, x, params=params, method=jacgram.Structured())
    assert jacgram.Plan.from_json(plan.to_json()) == plan
    assert "2 and 2 examples at a time" in str(plan)
    assert "Conv" in str(plan)


def test_convolutions_are_condensed_unasked():
    jax = pytest.importorskip("jax")
    import numpy as np

    w = np.ones((3, 3, 4, 4), np.float32)
    conv = lambda p, x: jax.lax.conv_general_dilated(x, p, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    each = np.random.default_rng(0).standard_normal((32, 32, 4, 4)).astype(np.float32)  # positions differ
    f = lambda p, x: jax.numpy.einsum("nhwc,hwco->no", conv(p, x), each)
    plan = jacgram.plan(f, np.ones((512, 32, 32, 4), np.float32), params=jax.numpy.asarray(w))
    assert plan.condensed == (0,)
    assert plan.pass_blocks[0] < 512


def test_a_smaller_budget_makes_smaller_passes_before_smaller_tiles():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(32, 32, 3, padding=1)]
    module = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32 * 32 * 32, 10))
    x1, x2 = torch.randn(2, 32, 3, 32, 32)
    large, small = (jacgram.plan(module, x1, x2, memory=memory) for memory in ("1GiB", "256MiB"))
    assert large.tile == small.tile == (32, 32)
    assert large.pass_blocks[0] > small.pass_blocks[0] > 0


def test_passes_over_all_examples(always, framework):
    """So a plan says that was written down without sizes of passes."""
    f, params, x = zoo.MODELS["conv"].on(framework, 5)
    plan = jacgram.plan(f, x, params=params, method=jacgram.Structured())
    whole = replace(plan, pass_blocks=(0, 0))
    oracle.check(jacgram.ntk(f, x, params=params, plan=whole), oracle.gram(oracle.jacobian(f, x, params)))


def test_an_empty_leaf_beside_a_convolution():
    jax = pytest.importorskip("jax")
    import numpy as np

    rng = np.random.default_rng(0)
    conv = lambda k, x: jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    each = rng.standard_normal((32, 32, 4, 4))  # positions differ
    f = lambda p, x: jax.numpy.einsum("nhwc,hwco->no", jax.numpy.tanh(conv(p["k"], x)), each) + p["z"].sum()
    params = {"k": jax.numpy.asarray(rng.standard_normal((3, 3, 4, 4))), "z": jax.numpy.zeros((0, 4))}
    x = jax.numpy.asarray(rng.standard_normal((64, 32, 32, 4)))
    assert jacgram.plan(f, x, params=params, pattern="n i, m i -> n m").condensed == (0,)
    found = jacgram.ntk(f, x, params=params, pattern="n i, m i -> n m")
    expected = jacgram.ntk(f, x, params=params, pattern="n i, m i -> n m", method=jacgram.Materialize())
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.fixture
def joined(monkeypatch):
    """Whether each kernel's sides shared their pass."""
    found = []
    real = structured.StructuredKernel._joined

    def spy(kernel):
        both = real(kernel)
        found.append(both is not None)
        return both

    monkeypatch.setattr(structured.StructuredKernel, "_joined", spy)
    return found


@pytest.mark.parametrize("name", ["dense", "tied_embedding", "unused", "dict_output"])
def test_small_sides_share_a_pass(joined, name, framework):
    f, params, x1 = zoo.MODELS[name].on(framework, 3)
    _, _, x2 = zoo.MODELS[name].on(framework, 3, seed=1)
    plan = jacgram.plan(f, x1, x2, params=params, method=jacgram.Structured())
    assert plan.joined
    assert "one pass" in str(plan)
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, params))
    oracle.check(jacgram.ntk(f, x1, x2, params=params, method=jacgram.Structured()), expected)
    assert joined == [True]


def test_sides_with_other_parameters_do_not(joined, framework):
    f, params, x1 = zoo.MODELS["dense"].on(framework, 3)
    _, others, x2 = zoo.MODELS["dense"].on(framework, 3, seed=1)
    K = jacgram.Jacobian(f, x1, params=params) @ jacgram.Jacobian(f, x2, params=others).T
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, others))
    oracle.check(K.dense(method=jacgram.Structured()), expected)
    assert joined == [False]


@pytest.mark.parametrize("pattern", ["n i, m j -> n m i", "n i, m i -> n m", "n i, n i -> n"])
def test_passes_are_shared_where_both_sides_have_the_same_seeds(joined, pattern, framework):
    f, params, x1 = zoo.MODELS["dense"].on(framework, 3)
    _, _, x2 = zoo.MODELS["dense"].on(framework, 3, seed=1)
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, params), pattern)
    oracle.check(jacgram.ntk(f, x1, x2, params=params, pattern=pattern, method=jacgram.Structured()), expected)
    assert joined == [pattern != "n i, m j -> n m i"]


def test_flags_among_examples_and_parameters_tell_sides_apart(framework):
    """Sides that share f and every array, and take another branch of it each."""
    _, params, x1 = zoo.MODELS["dense"].on(framework, 3)
    _, _, x2 = zoo.MODELS["dense"].on(framework, 3, seed=1)
    w = params["w2"]

    def f(p, x):
        y = x[0][:, :4] @ p["w"][:4]
        return y**2 if p["squared"] is None else y * 3

    sides = [({"w": w, "squared": None}, (x1,)), ({"w": w, "squared": ()}, (x2,))]
    J1, J2 = (jacgram.Jacobian(f, x, params=p) for p, x in sides)
    K = (J1 @ J2.T).dense(method=jacgram.Structured())
    expected = oracle.gram(*(oracle.jacobian(f, x, p) for p, x in sides))
    oracle.check(K, expected)


def test_a_strided_convolution_without_output():
    jax = pytest.importorskip("jax")
    ones = jax.numpy.ones
    conv = lambda x, k: jax.lax.conv_general_dilated(x, k, (2,), [(0, 0)], dimension_numbers=("NHC", "HIO", "NHC"))
    f = lambda p, x: conv(x, p["k"]).sum(1) + p["b"]
    K = jacgram.ntk(f, ones((2, 3, 2)), 2 * ones((2, 3, 2)), params={"k": ones((5, 2, 3)), "b": ones(3)})
    assert (jax.numpy.eye(3)[None, None] == K).all()


def test_examples_that_f_shrinks_are_not_copied_to_share_a_pass():
    jax = pytest.importorskip("jax")
    f = lambda p, x: x.reshape(len(x), 4, -1).mean(-1) @ p
    x = [jax.numpy.ones((2, 1 << 22)) * k for k in (1, 2)]
    assert not jacgram.plan(f, *x, params=jax.numpy.ones((4, 2)), method=jacgram.Structured()).joined


def test_a_plan_of_another_function_is_refused(framework):
    f, params, x = zoo.MODELS["dense"].on(framework, 3)
    g, others, y = zoo.MODELS["unused"].on(framework, 3)
    plan = jacgram.plan(g, y, params=others, method=jacgram.Structured())
    with pytest.raises(jacgram.JacgramError, match=r"Fix: make the plan with K\.plan"):
        jacgram.ntk(f, x, params=params, plan=plan)


def test_a_plan_that_materializes_is_run_as_it_is(framework):
    f, params, x = zoo.MODELS["conv"].on(framework, 3)
    plan = jacgram.plan(f, x, params=params, method=jacgram.Materialize())
    oracle.check(jacgram.ntk(f, x, params=params, plan=plan), oracle.gram(oracle.jacobian(f, x, params)))

"""Products with J, its transposes and its Gram matrices, against the oracle."""

from dataclasses import replace

import numpy as np
import pytest

import jacgram
from jacgram.errors import ArgumentError, BudgetError, StructureError, UnsupportedError
from kit import oracle, zoo
from kit.native import array, seeds_problem

SMOOTH = ["dense", "conv", "recurrent", "attention", "tied_embedding", "dict_output", "unused", "derivative"]


def _jacobians(name, framework, n1=3, n2=2):
    f, params, x1 = zoo.MODELS[name].on(framework, n1)
    _, _, x2 = zoo.MODELS[name].on(framework, n2, seed=1)
    pairs = [(jacgram.Jacobian(f, x, params=params), oracle.jacobian(f, x, params)) for x in (x1, x2)]
    return pairs, params, f


def _random_like(framework, tree, rng):
    if isinstance(tree, dict):
        return {key: _random_like(framework, part, rng) for key, part in tree.items()}
    return array(framework, rng.standard_normal(tuple(tree.shape)))


@pytest.mark.parametrize("name", SMOOTH)
def test_products(name, framework):
    rng = np.random.default_rng(0)
    ((J1, D1), (J2, D2)), params, f = _jacobians(name, framework)
    u = _random_like(framework, params, rng)
    oracle.check(J1 @ u, oracle.push(D1, u))
    _, _, x2 = zoo.MODELS[name].on(framework, 2, seed=1)
    v = _random_like(framework, f(params, x2), rng)
    pulled = oracle.pull(D2, v)
    found = [oracle.to_numpy(leaf).reshape(-1) for leaf in oracle.leaves(J2.T @ v)]
    for a, b in zip(found, pulled, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    K = J1 @ J2.T
    flat = np.concatenate([oracle.to_numpy(leaf).reshape(-1) for leaf in oracle.leaves(v)])
    expected = oracle.matrix(D1, D2) @ flat
    got = np.concatenate([oracle.to_numpy(leaf).reshape(-1) for leaf in oracle.leaves(K @ v)])
    np.testing.assert_allclose(got, expected, atol=1e-10)
    np.testing.assert_allclose(oracle.to_numpy(K @ array(framework, flat)), expected, atol=1e-10)


@pytest.mark.parametrize("name", SMOOTH)
def test_matrix_diagonal_and_trace(name, framework):
    ((J1, D1), (J2, D2)), _, _ = _jacobians(name, framework)
    K = J1 @ J2.T
    oracle.check(K.matrix(), [oracle.matrix(D1, D2)])
    assert K.shape == oracle.matrix(D1, D2).shape
    oracle.check(K.T.matrix(), [oracle.matrix(D2, D1)])
    square = J1 @ J1.H
    oracle.check(square.diagonal(), [np.diag(oracle.matrix(D1))])
    oracle.check(square.trace(), [np.trace(oracle.matrix(D1))])


def test_complex_transposes(framework):
    ((J1, D1), (J2, D2)), _, _ = _jacobians("holomorphic", framework)
    A = oracle.matrix(D1, D2)
    rows2 = np.concatenate([np.hstack(rows.leaves) for rows in D2])
    rows1 = np.concatenate([np.hstack(rows.leaves) for rows in D1])
    plain = rows1 @ rows2.T
    for K, expected in (
        (J1 @ J2.H, A),
        ((J1 @ J2.H).T, A.T),
        ((J1 @ J2.H).H, A.conj().T),
        (J1 @ J2.T, plain),
        ((J1 @ J2.T).T, plain.T),
        ((J1 @ J2.T).H, plain.conj().T),
        ((J1 @ J2.H).T.T, A),
        ((J1 @ J2.T).H.H, plain),
    ):
        oracle.check(K.matrix(), [expected])
        v = np.random.default_rng(0).standard_normal(expected.shape[1]) * (1 + 0.5j)
        np.testing.assert_allclose(oracle.to_numpy(K @ array(framework, v)), expected @ v, atol=1e-10)


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.MatrixFree(), jacgram.Materialize()])
def test_two_checkpoints(method, framework):
    f, first, x1 = zoo.MODELS["attention"].on(framework, 3)
    _, second, x2 = zoo.MODELS["attention"].on(framework, 2, seed=1, params_seed=1)
    K = jacgram.Jacobian(f, x1, params=first) @ jacgram.Jacobian(f, x2, params=second).T
    expected = oracle.gram(oracle.jacobian(f, x1, first), oracle.jacobian(f, x2, second))
    oracle.check(K.dense(method=method), expected)


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.MatrixFree(), jacgram.Materialize()])
def test_two_functions(method, framework):
    f, params, x1 = zoo.MODELS["dense"].on(framework, 3)
    _, _, x2 = zoo.MODELS["dense"].on(framework, 2, seed=1)

    def loss(p, x):
        return (f(p, x) ** 2).sum(1)

    K = jacgram.Jacobian(f, x1, params=params) @ jacgram.Jacobian(loss, x2, params=params).T
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(loss, x2, params))
    oracle.check(K.dense(method=method), expected)
    oracle.check(K.dense("n i, m -> n m", method=method), [expected[0].sum(2)])


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.MatrixFree(), jacgram.Materialize()])
def test_vstack(method, framework):
    f, params, x1 = zoo.MODELS["dense"].on(framework, 3)
    _, _, x2 = zoo.MODELS["dense"].on(framework, 2, seed=1)

    def edge(p, x):
        return f(p, x).sum(1) ** 2

    J = jacgram.vstack([jacgram.Jacobian(f, x1, params=params), jacgram.Jacobian(edge, x2, params=params)])
    D = oracle.jacobian(f, x1, params) + oracle.jacobian(edge, x2, params)
    K = J @ J.T
    oracle.check(K.matrix(method=method), [oracle.matrix(D)])
    dense = K.dense(method=method)
    oracle.check([block for row in dense for block in row], oracle.gram(D))
    v = np.random.default_rng(0).standard_normal(K.shape[1])
    np.testing.assert_allclose(
        oracle.to_numpy(K @ array(framework, v)), oracle.matrix(D) @ v, atol=1e-9 * np.abs(oracle.matrix(D)).max()
    )
    oracle.check(K.diagonal(method=method), [np.diag(oracle.matrix(D))])
    assert isinstance(J @ params, tuple)


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured(), jacgram.MatrixFree(), jacgram.Materialize()])
def test_by_leaf_adds_up(method, framework):
    f, params, x = zoo.MODELS["tied_embedding"].on(framework, 3)
    parts = jacgram.ntk(f, x, params=params, method=method, by_leaf=True)
    assert set(parts) == set(params)
    J = oracle.jacobian(f, x, params)
    for position, key in enumerate(sorted(params)):
        oracle.check(parts[key], oracle.gram(J, leaf=position))


def test_scipy_runs_on_it(framework):
    linalg = pytest.importorskip("scipy.sparse.linalg")
    f, params, x = zoo.MODELS["dense"].on(framework, 6)
    J = jacgram.Jacobian(f, x, params=params)
    operator = (J @ J.T).to_scipy()
    dense = oracle.matrix(oracle.jacobian(f, x, params))
    values = linalg.eigsh(operator, k=3, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(values), np.linalg.eigvalsh(dense)[-3:], rtol=1e-8)
    b = dense @ np.ones(dense.shape[1])
    solution, info = linalg.cg(operator, b, rtol=1e-12)
    assert info == 0
    np.testing.assert_allclose(dense @ solution, b, rtol=1e-6)
    np.testing.assert_allclose(operator.T @ b, dense.T @ b, rtol=1e-9)


METHODS = [
    jacgram.Auto(),
    jacgram.Structured(),
    jacgram.MatrixFree(),
    jacgram.MatrixFree(block=2),
    jacgram.Materialize(),
]


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_the_known_figures(method, framework):
    f, x1, x2, expected = seeds_problem(framework)
    for found in (
        jacgram.gram(f, x1, x2, method=method),
        (jacgram.Jacobian(f, x1) @ jacgram.Jacobian(f, x2).T).dense(method=method),
    ):
        assert "float32" in str(found.dtype)
        np.testing.assert_allclose(oracle.to_numpy(found), expected, rtol=0, atol=2e-6 * expected.max())


def test_products_of_the_known_problem(framework):
    f, x1, x2, expected = seeds_problem(framework)
    J1, J2 = jacgram.Jacobian(f, x1), jacgram.Jacobian(f, x2)
    f64, *points, _ = seeds_problem(framework, np.float64)
    D1, D2 = (oracle.jacobian(f64, x) for x in points)
    rng = np.random.default_rng(0)
    u, v = (rng.standard_normal(n).astype(np.float32) for n in (10000, 5))
    K = J1 @ J2.T
    for found, wanted in (
        (J1 @ array(framework, u), D1[0].leaves[0] @ u),
        (J2.T @ array(framework, v), v @ D2[0].leaves[0]),
        (K @ array(framework, v), expected @ v),
        (K.T @ array(framework, v), expected.T @ v),
    ):
        np.testing.assert_allclose(oracle.to_numpy(found), wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())


def test_outputs_without_entries(framework):
    f, params, x = zoo.MODELS["dense"].on(framework, 3)
    both = lambda p, x: {"a": f(p, x), "none": f(p, x)[:, :0], "nothing": f(p, x)[:, None, :0]}
    for K in (jacgram.ntk(both, x, params=params), jacgram.ntk(both, x, x + 0, params=params)):
        np.testing.assert_allclose(K["a"]["a"], jacgram.ntk(f, x, params=params), rtol=1e-9)
        assert tuple(K["a"]["none"].shape) == (3, 3, 4, 0)
        assert tuple(K["none"]["nothing"].shape) == (3, 3, 0, 1, 0)


def test_rebound_closures_are_seen(framework):
    f, x1, x2, _ = seeds_problem(framework)
    scale = array(framework, np.float32(1.0))

    def g(x):
        return f(x) * scale

    first = oracle.to_numpy(jacgram.gram(g, x1, x2))
    scale = array(framework, np.float32(3.0))
    np.testing.assert_allclose(oracle.to_numpy(jacgram.gram(g, x1, x2)), 9 * first, rtol=1e-5)


class TestBadInput:
    def test_both_jacobians_untransposed(self, framework):
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        with pytest.raises(ArgumentError, match="J1 @ J2 multiplies two Jacobians"):
            J1 @ J2

    def test_vectors_of_the_wrong_shape(self, framework):
        ((J1, _), _), _, _ = _jacobians("dense", framework)
        with pytest.raises(StructureError, match="u"):
            J1 @ array(framework, np.ones(7))
        with pytest.raises(StructureError, match="v"):
            J1.T @ array(framework, np.ones(7))
        with pytest.raises(StructureError, match="v"):
            (J1 @ J1.T) @ array(framework, np.ones((3, 4, 1)))

    def test_different_variables(self, framework):
        ((J1, _), _), _, _ = _jacobians("dense", framework)
        ((J2, _), _), _, _ = _jacobians("loop", framework)
        with pytest.raises(StructureError, match="the variables of J1 and J2 differ in structure or shape"):
            J1 @ J2.T
        with pytest.raises(StructureError, match="the variables of the first Jacobian and Jacobian 1 differ"):
            jacgram.vstack([J1, J2])
        _, _, x = zoo.MODELS["loop"].on(framework, 2)
        with pytest.raises(StructureError, match="one is taken with respect to parameters, the other"):
            J1 @ jacgram.Jacobian(lambda a: a * 2, x).T

    def test_nothing_to_stack(self):
        with pytest.raises(ArgumentError, match="vstack got no Jacobians"):
            jacgram.vstack([])
        with pytest.raises(StructureError, match="item 0 is int, expected a Jacobian"):
            jacgram.vstack([3])

    def test_conjugates_that_are_no_jacobian(self, framework):
        ((J, _), _), _, _ = _jacobians("holomorphic", framework)
        with pytest.raises(ArgumentError, match=r"J\.H\.T is the conjugate of J"):
            _ = J.H.T
        with pytest.raises(ArgumentError, match=r"J\.T\.H is the conjugate of J"):
            _ = J.T.H

    def test_diagonal_of_a_rectangle(self, framework):
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        with pytest.raises(ArgumentError, match="need a square K"):
            (J1 @ J2.T).diagonal()

    def test_a_plan_for_another_kernel(self, framework):
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        plan = (J1 @ J1.T).plan()
        with pytest.raises(ArgumentError, match="plan was made for"):
            (J1 @ J2.T).dense(plan=plan)
        oracle_free = (J1 @ J1.T).dense(plan=plan)
        assert oracle_free.shape == (3, 3, 4, 4)

    def test_a_plan_that_slices_what_another_pattern_keeps(self, framework):
        """A trace adds up slices of its outputs; a kernel of all outputs must not."""
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        K, trace = J1 @ J2.T, "n i, m i -> n m"
        plan = K.plan(trace)
        sliced = tuple(
            replace(leaf, choice=replace(leaf.choice, slice_label="y:i", slice_size=1, parted=None, dealt=None))
            for leaf in plan.leaves[0]
        )
        plan = replace(plan, leaves=(sliced,))
        np.testing.assert_allclose(K.dense(trace, plan=plan), K.dense(trace), rtol=1e-6)
        with pytest.raises(ArgumentError, match=r"plan was made for another pattern: it contracts leaf .* Fix: make"):
            K.dense("n i, m j -> n m i j", plan=plan)

    def test_a_plan_of_one_side_is_none_of_two(self, framework):
        """It computes a triangle, and a plan of two sides may have tiles that are not square."""
        f, params, x = zoo.MODELS["dense"].on(framework, 8)
        J, again = (jacgram.Jacobian(f, y, params=params) for y in (x, x + 0))
        thin = jacgram.Device("thin", products=((1, 1e6), (1024, 1e6)), copies=((1e6, 1e12),), call_s=1e-9)
        plan = (J @ J.T).plan("n i, m i -> n m", method=jacgram.Auto(device=thin))
        assert plan.panels > 1
        with pytest.raises(
            ArgumentError, match="plan was made for one side with itself, and this kernel is of two sides"
        ):
            (J @ again.T).dense("n i, m i -> n m", plan=plan)
        with pytest.raises(ArgumentError, match="or has another pattern"):
            (J @ J.T).dense("n i, n i -> n", plan=plan)
        with pytest.raises(
            ArgumentError, match="plan was made for two sides, and this kernel is of one side with itself"
        ):
            (J @ J.T).dense("n i, m i -> n m", plan=(J @ again.T).plan("n i, m i -> n m"))
        same = (J @ J.T).dense("n i, m i -> n m", plan=plan)
        np.testing.assert_allclose(same, (J @ again.T).dense("n i, m i -> n m"), rtol=1e-9)

    def test_a_plan_whose_tiles_no_triangle_has(self, framework):
        """Tiles of a sum over examples need not be square; mirrored ones must be."""
        f, params, x = zoo.MODELS["dense"].on(framework, 5)
        K = jacgram.Jacobian(f, x, params=params) @ jacgram.Jacobian(f, x, params=params).T
        plan = K.plan("n i, m j -> i j", method=jacgram.Structured())
        thin = replace(plan, tile=(1, 2), panels=0)
        np.testing.assert_allclose(K.dense("n i, m j -> i j", plan=thin), K.dense("n i, m j -> i j"), rtol=1e-9)
        for pattern in ("n i, m j -> n m i j", "n i, n j -> n i j"):
            with pytest.raises(ArgumentError, match="or has another pattern"):
                K.dense(pattern, plan=replace(K.plan(pattern, method=jacgram.Structured()), tile=(1, 2), panels=0))

    def test_a_plan_for_blocks_of_seeds_that_a_pattern_has_not(self, framework):
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        K = J1 @ J2.T
        plan = replace(K.plan("n i, m j -> n m", method=jacgram.Structured()), seed_block=(1, 1))
        with pytest.raises(ArgumentError, match="or has another pattern"):
            K.dense("n i, m j -> n m", plan=plan)

    def test_a_plan_for_other_shapes_of_the_same_names(self, framework):
        f, params, x = zoo.MODELS["sequence_output"].on(framework, 3)
        longer = np.concatenate([oracle.to_numpy(x)] * 4, 1)
        K, other = (
            (J := jacgram.Jacobian(f, array(framework, x), params=params)) @ J.T for x in (oracle.to_numpy(x), longer)
        )
        pattern = "n ..., m ... -> n m"
        with pytest.raises(ArgumentError, match="plan was made for arrays of other shapes"):
            other.dense(pattern, plan=K.plan(pattern))

    def test_a_plan_beside_memory(self, framework):
        ((J1, _), (J2, _)), _, _ = _jacobians("dense", framework)
        K = J1 @ J2.T
        plan = K.plan()
        assert K.dense(plan=plan, memory=plan.peak_bytes).shape == K.dense().shape
        with pytest.raises(BudgetError, match=r"plan takes .* and memory=1 allows less"):
            K.dense(plan=plan, memory=1)
        with pytest.raises(ArgumentError, match="memory cannot be read from 'much'"):
            K.dense(plan=plan, memory="much")
        with pytest.raises(ArgumentError, match="memory must be an int or a str, got list"):
            K.dense(memory=[1])

    def test_sums_in_another_precision_than_a_method_has(self, framework):
        x, w = (array(framework, np.ones(shape, np.float32)) for shape in ((2, 3), (3, 2)))
        J = jacgram.Jacobian(lambda p, x: x @ p, x, params=w)
        with pytest.raises(
            UnsupportedError, match=r"MatrixFree\(\) sums within f, in float32, .* Fix: leave accumulate out"
        ):
            (J @ J.T).dense(method=jacgram.MatrixFree(), accumulate="float64")

    @pytest.mark.parametrize("plan", ["plan", {}, 3])
    def test_what_is_no_plan(self, plan, framework):
        ((J1, _), _), _, _ = _jacobians("dense", framework)
        with pytest.raises(ArgumentError, match=r"plan must be a Plan or None, got .* Fix: make it with K\.plan"):
            (J1 @ J1.T).dense(plan=plan)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"method": "auto"},
                r"method must be Auto\(\), Structured\(\), MatrixFree\(\) or Materialize\(\), got 'auto'",
            ),
            ({"method": jacgram.Auto}, r"Call it: strategies are objects"),
            ({"memory": 0}, "memory must be positive"),
            ({"memory": "many"}, "memory cannot be read from 'many'"),
            ({"accumulate": "float16"}, "accumulate must be None, 'float32' or 'float64'"),
            ({"pattern": "n, m -> n"}, "side 1 names 1 axes of an output with 2"),
        ],
    )
    def test_options(self, options, message, framework):
        f, params, x = zoo.MODELS["dense"].on(framework, 2)
        with pytest.raises(ArgumentError, match=message):
            jacgram.ntk(f, x, params=params, **options)

    def test_block_of_no_rows(self):
        for block in (0, 2.5, "a", True):
            with pytest.raises(
                ArgumentError, match=r"MatrixFree\(block=…\) must be None or a whole number of at least 1"
            ):
                jacgram.MatrixFree(block=block)


@pytest.mark.parametrize("pattern", [None, "n i, m j -> i j"])
@pytest.mark.parametrize("memory", [None, 3000])
def test_products_summed_in_double_precision_are_planned_and_kept_so(pattern, memory, framework):
    rng = np.random.default_rng(0)
    x, w = (array(framework, rng.standard_normal(shape).astype(np.float32)) for shape in ((6, 3), (3, 4)))
    J = jacgram.Jacobian(lambda p, x: x @ p, x, params=w)
    K = J @ J.T
    plan = K.plan(pattern, memory=memory, accumulate="float64")
    assert plan.dtype == "float64"
    assert plan.method == "structured"
    found = K.dense(pattern, plan=plan, accumulate="float64")
    assert str(found.dtype).removeprefix("torch.") == "float32"
    found = oracle.to_numpy(found)
    exact = np.einsum("ni,mi,jk->nmjk", *[oracle.to_numpy(x).astype(np.float64)] * 2, np.eye(4))
    exact = exact if pattern is None else exact.sum((0, 1))
    np.testing.assert_array_equal(found, exact.astype(np.float32))


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured(), jacgram.MatrixFree(), jacgram.Materialize()])
def test_outputs_of_no_entries(method, framework):
    x, w = (array(framework, np.ones(shape)) for shape in ((3, 2), (2, 2)))
    empty = jacgram.ntk(lambda p, x: (x @ p)[:, :0], x, params=w, method=method)
    assert tuple(empty.shape) == (3, 3, 0, 0)
    tree = jacgram.ntk(lambda p, x: {"a": x[:, :0], "b": x @ p}, x, params=w, method=method)
    assert tuple(tree["a"]["b"].shape) == (3, 3, 0, 2)
    np.testing.assert_allclose(tree["b"]["b"], np.full((3, 3, 1, 1), 2.0) * np.eye(2))

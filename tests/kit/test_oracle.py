"""The reference is itself checked: against formulas, against a finite difference, and across frameworks."""

import numpy as np
import pytest

from kit import oracle, zoo

F = np.random.default_rng(0).standard_normal((3, 4))


@pytest.mark.parametrize("name", zoo.MODELS)
def test_frameworks_agree(name):
    pytest.importorskip("jax")
    pytest.importorskip("torch")
    model = zoo.MODELS[name]
    values = {}
    for framework in ("jax", "torch"):
        f, params, x = model.on(framework)
        values[framework] = oracle.leaves(f(params, x)), oracle.gram(oracle.jacobian(f, x, params))
    for a, b in zip(values["jax"][0], values["torch"][0], strict=True):
        np.testing.assert_allclose(oracle.to_numpy(a), oracle.to_numpy(b), rtol=1e-12, atol=1e-12)
    oracle.check(values["torch"][1], values["jax"][1], rtol=1e-12)


def test_jacobian_of_a_matrix_is_the_matrix(framework):
    x = _array(framework, F.T)
    [rows] = oracle.jacobian(lambda p, x: p["u"] @ x, x, {"u": _array(framework, np.ones((1, 4)))})
    assert rows.shape == (1, 3)
    np.testing.assert_allclose(rows.leaves[0], F)


def test_jacobian_to_x(framework):
    matrix = _array(framework, F)
    J = oracle.jacobian(lambda x: matrix @ x, _array(framework, np.ones(4)))
    np.testing.assert_allclose(J[0].leaves[0], F)
    [K] = oracle.gram(J, examples=False)
    np.testing.assert_allclose(K, F @ F.T)
    np.testing.assert_allclose(oracle.matrix(J), F @ F.T)
    np.testing.assert_allclose(oracle.push(J, [np.arange(4.0)])[0], F @ np.arange(4.0))
    np.testing.assert_allclose(oracle.pull(J, [np.arange(3.0)])[0], np.arange(3.0) @ F)


@pytest.mark.parametrize("name", ["dense", "attention", "derivative"])
def test_jacobian_is_a_finite_difference(name, framework):
    f, params, x = zoo.MODELS[name].on(framework)
    [rows] = oracle.jacobian(f, x, params)
    step = 1e-5
    for k, key in enumerate(sorted(params)):
        direction = np.random.default_rng(k).standard_normal(tuple(params[key].shape))
        moved = [{**params, key: params[key] + s * step * _array(framework, direction)} for s in (1, -1)]
        up, down = (oracle.to_numpy(f(p, x)) for p in moved)
        expected = (rows.leaves[k] @ direction.reshape(-1)).reshape(rows.shape)
        np.testing.assert_allclose((up - down) / (2 * step), expected, atol=1e-7)


def test_patterns_are_einsums_over_the_full_kernel():
    rng = np.random.default_rng(0)
    J1 = [oracle.Rows((2, 3), [rng.standard_normal((6, 5))])]
    J2 = [oracle.Rows((4, 3), [rng.standard_normal((12, 5))])]
    [full] = oracle.gram(J1, J2)
    assert full.shape == (2, 4, 3, 3)

    def by(pattern):
        return oracle.gram(J1, J2, pattern)[0]

    np.testing.assert_allclose(by("n i, m j -> n m i j"), full)
    np.testing.assert_allclose(by("n i, m i -> n m"), np.trace(full, axis1=2, axis2=3))
    np.testing.assert_allclose(by("n ..., m ... -> n m"), np.trace(full, axis1=2, axis2=3))
    np.testing.assert_allclose(by("n i, m j -> n m"), full.sum((2, 3)))
    np.testing.assert_allclose(by("n i, m i -> n m i"), np.einsum("nmii->nmi", full))
    np.testing.assert_allclose(
        oracle.gram(J1, pattern="n i, n i -> n")[0], (J1[0].leaves[0] ** 2).sum(1).reshape(2, 3).sum(1)
    )


def test_check_tells_a_wrong_number():
    with pytest.raises(AssertionError):
        oracle.check([np.ones((2, 2))], [np.ones((2, 2)) + 1e-6])
    with pytest.raises(AssertionError):
        oracle.check([np.ones((2, 1))], [np.ones((2, 2))])


def _array(framework, value):
    if framework == "torch":
        import torch

        return torch.from_numpy(np.asarray(value, dtype=float))
    import jax.numpy as jnp

    return jnp.asarray(value, dtype=float)

"""Kernels against the oracle: every model of the zoo, by every method, in both frameworks."""

import pytest

import jacgram
from kit import oracle, zoo

METHODS = [
    jacgram.Auto(),
    jacgram.Structured(),
    jacgram.MatrixFree(),
    jacgram.MatrixFree(block=2),
    jacgram.Materialize(),
]
PATTERNS = [
    "n i, m j -> n m i j",
    "n i, m i -> n m",
    "n i, m i -> n m i",
    "n i, n j -> n i j",
    "n i, n i -> n",
    "n i, m j -> n m",
    "n i, m j -> i j",
    "n i, m j -> j m",
    "n i, m i -> i",
    "n ..., m ... -> n m",
    "n ..., m ... -> m ... n",
    "n i, m ... -> ... i n m",
]


def _sides(name, framework, n1=3, n2=2):
    f, params, x1 = zoo.MODELS[name].on(framework, n1)
    _, _, x2 = zoo.MODELS[name].on(framework, n2, seed=1)
    return f, params, x1, x2


def _spare_compiling(framework, method, *enough):
    """In JAX nearly all of the time is compiling: there a test runs with enough methods, in PyTorch with all."""
    if framework == "jax" and method not in enough:
        pytest.skip("another test compiles this method in JAX")


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_rectangular(name, framework, method):
    _spare_compiling(framework, method, METHODS[1], METHODS[3])
    f, params, x1, x2 = _sides(name, framework)
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, params))
    oracle.check(jacgram.ntk(f, x1, x2, params=params, method=method), expected)


@pytest.mark.parametrize("name", zoo.MODELS)
def test_plans_can_be_written(name, framework):
    """Whatever shapes a frontend reports, they are numbers that JSON knows."""
    f, params, x1, x2 = _sides(name, framework)
    plan = jacgram.plan(f, x1, x2, params=params)
    assert jacgram.Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("name", zoo.MODELS)
def test_symmetric(name, framework, method):
    _spare_compiling(framework, method, METHODS[0], METHODS[2])
    f, params, x1, _ = _sides(name, framework)
    K = jacgram.ntk(f, x1, params=params, method=method)
    oracle.check(K, oracle.gram(oracle.jacobian(f, x1, params)))
    if not isinstance(K, dict):
        K = oracle.to_numpy(K)
        o = (K.ndim - 2) // 2
        swapped = K.transpose(1, 0, *range(2 + o, 2 + 2 * o), *range(2, 2 + o)).conj()
        assert (swapped == K).all(), "Hermitian to the last bit"


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(pattern, framework, method):
    _spare_compiling(framework, method, METHODS[0], METHODS[3])
    for same in (False, True):
        f, params, x1, x2 = _sides("attention", framework, n1=3, n2=3)
        J1 = oracle.jacobian(f, x1, params)
        J2 = None if same else oracle.jacobian(f, x2, params)
        found = jacgram.ntk(f, x1, None if same else x2, params=params, pattern=pattern, method=method)
        oracle.check(found, oracle.gram(J1, J2, pattern))


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize(
    "pattern", ["n t i, m s i -> n m t s", "n t u i, m t u i -> n t m", "n a b c, n a e f -> c n f"]
)
def test_patterns_of_several_output_axes(pattern, framework, method):
    name = "three_axis_output" if pattern.count(" ") > 10 else "sequence_output"
    f, params, x1, x2 = _sides(name, framework, n1=2, n2=2)
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, params), pattern)
    oracle.check(jacgram.ntk(f, x1, x2, params=params, pattern=pattern, method=method), expected)

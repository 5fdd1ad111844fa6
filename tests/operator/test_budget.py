"""Any budget that is accepted gives the same numbers; one that is too small is refused with the one that would do."""

import re

import numpy as np
import pytest

import jacgram
from kit import oracle, zoo

MODELS = ["dense", "conv", "attention", "tied_embedding", "sequence_output"]
PATTERNS = [None, "n ..., m ... -> n m", "n ..., n ... -> n ..."]
CASES = [(name, pattern) for name in MODELS for pattern in PATTERNS] + [("dict_output", None)]


@pytest.mark.parametrize(("name", "pattern"), CASES)
def test_equal_under_any_tiling(name, pattern, framework):
    if framework == "jax" and (name, pattern) not in CASES[::5]:
        pytest.skip("compiling takes the time: in JAX every fifth case, in PyTorch all")
    f, params, x1 = zoo.MODELS[name].on(framework, 5)
    _, _, x2 = zoo.MODELS[name].on(framework, 5 if pattern and "m" not in pattern else 4, seed=1)
    J1 = oracle.jacobian(f, x1, params)
    for second, J2 in ((x2, oracle.jacobian(f, x2, params)), (None, None)):
        expected = oracle.gram(J1, J2, pattern)
        seen = set()
        for tiles in _budgets(f, x1, second, params, pattern):
            plan = jacgram.plan(
                f, x1, second, params=params, pattern=pattern, method=jacgram.Structured(), memory=tiles
            )
            if (plan.tile, plan.seed_block) in seen:
                continue
            seen.add((plan.tile, plan.seed_block))
            assert plan.peak_bytes <= plan.budget_bytes
            found = jacgram.ntk(
                f, x1, second, params=params, pattern=pattern, method=jacgram.Structured(), memory=tiles
            )
            oracle.check(found, expected)
        assert len(seen) > 1, "the budgets made no difference"


def _budgets(f, x1, x2, params, pattern):
    """From what everything at once needs down to the least that is accepted."""
    whole = jacgram.plan(f, x1, x2, params=params, pattern=pattern, method=jacgram.Structured()).peak_bytes
    least = _least(f, x1, x2, params, pattern)
    return [whole, *(int(least + (whole - least) * share) for share in (0.5, 0.2, 0.0))]


def _least(f, x1, x2, params, pattern):
    with pytest.raises(jacgram.JacgramError, match=r"the smallest needs \d+ bytes") as error:
        jacgram.plan(f, x1, x2, params=params, pattern=pattern, method=jacgram.Structured(), memory=1)
    return int(re.search(r"needs (\d+) bytes", str(error.value))[1])


@pytest.mark.parametrize(
    "method",
    [jacgram.Auto(), jacgram.Structured(), jacgram.MatrixFree(), jacgram.MatrixFree(block=4), jacgram.Materialize()],
)
def test_the_smallest_budget_named_is_enough(method, framework):
    f, params, x = zoo.MODELS["attention"].on(framework, 4)
    with pytest.raises(jacgram.JacgramError, match="Fix: pass memory=") as error:
        jacgram.ntk(f, x, params=params, method=method, memory=100)
    least = int(re.search(r"needs (\d+) bytes", str(error.value))[1])
    expected = oracle.gram(oracle.jacobian(f, x, params))
    oracle.check(jacgram.ntk(f, x, params=params, method=method, memory=least), expected)


@pytest.mark.parametrize(
    "pattern", [None, "n i, m i -> n m", "n i, m j -> i j", "n i, n j -> n i j", "n i, m j -> n j m i"]
)
@pytest.mark.parametrize("method", [jacgram.Structured(), jacgram.MatrixFree(), jacgram.MatrixFree(block=2)], ids=str)
def test_of_one_side_hermitian_to_the_last_bit_under_any_tiling(method, pattern, framework):
    if framework == "jax" and (pattern is not None) != isinstance(method, jacgram.MatrixFree):
        pytest.skip("compiling takes the time: in JAX some, in PyTorch all")
    f, params, x = zoo.MODELS["dense"].on(framework, 5)
    expected = oracle.gram(oracle.jacobian(f, x, params), None, pattern)
    axes = {None: (1, 0, 3, 2), "n i, n j -> n i j": (0, 2, 1), "n i, m j -> n j m i": (2, 3, 0, 1)}.get(
        pattern, (1, 0)
    )
    tilings = set()
    for memory in (10**7, 20000, 9000, 5000):
        try:
            plan = jacgram.plan(f, x, params=params, pattern=pattern, method=method, memory=memory)
        except jacgram.JacgramError:
            continue
        if (plan.tile, plan.seed_block, plan.block) in tilings:
            continue
        tilings.add((plan.tile, plan.seed_block, plan.block))
        found = oracle.to_numpy(jacgram.ntk(f, x, params=params, pattern=pattern, method=method, memory=memory))
        oracle.check(found, expected)
        np.testing.assert_array_equal(found, found.transpose(axes))
    assert tilings

"""The process grows by no more than the budget: benchmark models, in both frameworks."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CASES = [("fcn", 64), ("cnn", 48), ("transformer", 32)]


@pytest.fixture
def budget(monkeypatch):
    """The benchmark that measures it."""
    monkeypatch.syspath_prepend(ROOT)
    if not Path("/proc/self/clear_refs").exists() or importlib.util.find_spec("benchmarks") is None:
        pytest.skip("needs /proc and the benchmarks folder")
    from benchmarks import budget

    yield budget
    sys.modules.pop("benchmarks.budget", None)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["128MiB", "512MiB"])
@pytest.mark.parametrize(("name", "n"), CASES)
def test_growth(budget, framework, name, n, memory):
    found = budget.measured(framework, name, n, memory)
    assert found["planned"] <= found["budget"]
    assert found["grown"] <= 1.1 * found["budget"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n"), CASES[1:])
def test_a_mebibyte_is_refused(budget, framework, name, n):
    import jacgram

    f, params, x1, x2 = budget.inputs(framework, name, n)
    with pytest.raises(jacgram.JacgramError, match=r"the smallest needs \d+ bytes"):
        jacgram.plan(f, x1, x2, params=params, memory="1MiB")

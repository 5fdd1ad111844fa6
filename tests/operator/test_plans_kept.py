"""Plans are made once for shapes, budget, device and method; whatever decides them makes another."""

import numpy as np
import pytest

import jacgram
from jacgram.core.frontend import Struct
from jacgram.core.uses import Einsum, Use
from jacgram.core.views import View
from jacgram.operator import compute
from jacgram.plan.strategies import Structured
from jacgram.plan.task import SideShapes, Task

torch = pytest.importorskip("torch")


@pytest.fixture
def planned(monkeypatch):
    """A list that grows with the plans made."""
    made = []
    real = compute.make_plan
    monkeypatch.setattr(compute, "make_plan", lambda *args: made.append(args) or real(*args))
    compute._planned.cache_clear()
    yield made
    compute._planned.cache_clear()


def test_the_same_shapes_are_planned_once(planned):
    f = lambda p, x: torch.tanh(x @ p)
    w, x = torch.randn(3, 2), torch.randn(4, 3)
    first = jacgram.ntk(f, x, params=w, memory="1GiB")
    np.testing.assert_array_equal(jacgram.ntk(f, x, params=w, memory="1GiB"), first)
    jacgram.ntk(f, 2 * x, params=3 * w, memory="1GiB")
    assert len(planned) == 1


CHANGES = {
    "examples": {"x": torch.randn(5, 3)},
    "dtype": {"x": torch.randn(4, 3).double(), "params": torch.randn(3, 2).double()},
    "outputs": {"params": torch.randn(3, 4)},
    "pattern": {"pattern": "n i, m i -> n m"},
    "memory": {"memory": "2GiB"},
    "method": {"method": Structured()},
    "accumulate": {"accumulate": "float64"},
    "another function": {"f": lambda p, x: torch.tanh(x @ p).sin() @ p.T},
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_task_is_planned_anew(planned, name):
    call = {"f": lambda p, x: torch.tanh(x @ p), "x": torch.randn(4, 3), "params": torch.randn(3, 2), "memory": "1GiB"}
    for options in (call, call | CHANGES[name]):
        options = dict(options)
        jacgram.ntk(options.pop("f"), options.pop("x"), **options)
    assert len(planned) == 2


def test_which_operands_are_one_object_tells_equal_tasks_apart():
    kind, view = Einsum(("i",), ("k",), ("i", "k")), View.of((3, 2))
    cotangents = [Struct((1, 1, 2), "float32") for _ in range(2)]

    def task(*chosen):
        uses = tuple(Use(0, view, kind, Struct((1, 3), "float32"), cotangents[k]) for k in chosen)
        side = SideShapes(4, True, (Struct((4, 2), "float32"),), (1,), uses)
        return Task((side, side), (), (("w", Struct((3, 2), "float32")),), "float32", hermitian=True)

    assert task(0, 0) == task(0, 1)
    assert compute._sharing(task(0, 0)) == compute._sharing(task(1, 1))
    assert compute._sharing(task(0, 0)) != compute._sharing(task(0, 1))


def test_free_memory_is_rounded_downwards():
    for exact in (0, 1, 15, 17, 1000, 3 * 2**30 + 12345):
        rounded = compute._rounded(exact)
        assert rounded <= exact < rounded * 1.125 + 1
        assert compute._rounded(rounded) == rounded

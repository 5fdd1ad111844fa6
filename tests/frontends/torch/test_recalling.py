"""Descriptions are recalled for what f did before, and never believed for what it does now."""

import numpy as np
import pytest
import torch
from torch import nn

import jacgram
from frontends.torch.checks import FRONTEND, basis, described, rows_of
from jacgram.core.frontend import DescriptionChanged, Struct
from jacgram.errors import ArgumentError, InteractingExamplesError, UnsupportedError
from jacgram.frontends.torch.side import TorchSide
from kit import oracle


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


def check(f, params, x1, x2):
    """The kernel is that of rows by autograd."""
    expected = oracle.gram(oracle.jacobian(f, x1, params), oracle.jacobian(f, x2, params))[0]
    np.testing.assert_allclose(jacgram.ntk(f, x1, x2, params=params), expected, atol=1e-10)


def check_module(module, x):
    np.testing.assert_allclose(jacgram.ntk(module, x), oracle.gram(rows_of(module, x))[0], atol=1e-10)


def counted(f):
    """f, and a list that grows with its calls."""
    calls = []

    def counting(*args):
        calls.append(1)
        return f(*args)

    return counting, calls


def test_how_often_a_warm_call_runs_f():
    """For the uses: once for both sides where only examples differ, or else once a side; and by a `Jacobian` for y."""
    f, calls = counted(lambda p, x: torch.tanh(x @ p))
    w, x1, x2 = normal(3, 2), normal(4, 3), normal(5, 3)

    def count(run):
        run()
        calls.clear()
        run()
        return len(calls)

    def by_hand(other):
        J1, J2 = jacgram.Jacobian(f, x1, params=w), jacgram.Jacobian(f, x2, params=other)
        return (J1 @ J2.T).dense()

    check(f, w, x1, x2)
    assert count(lambda: jacgram.ntk(f, x1, x2, params=w)) == 1
    assert count(lambda: by_hand(w)) == 3, "neither Jacobian knows of the other when it is made"
    assert count(lambda: by_hand(w.clone())) == 4


def test_a_side_beside_another_is_told_apart_by_all_but_its_examples():
    f = lambda p, x: torch.tanh(x["a"] @ p["w"]) * (2.0 if x["twice"] else 1.0)
    p, x = {"w": normal(3, 2)}, {"a": normal(4, 3), "twice": False}
    jacgram.ntk(f, x, params=p)  # so that it is known that values decide nothing
    first = FRONTEND.side(f, x, p, argument="x1")
    same = FRONTEND.side(f, {"a": normal(6, 3), "twice": False}, p, argument="x2", beside=first)
    assert same.shared is not first.shared and same.notes is not first.notes
    assert (same.n, same.outputs[0].shape) == (6, (6, 2))
    for other, params in (({"a": normal(4, 3), "twice": True}, p), (x, {"w": p["w"].clone()})):
        expected = FRONTEND.side(f, other, params, argument="x2")
        found = FRONTEND.side(f, other, params, argument="x2", beside=first)
        assert found.program == expected.program
        np.testing.assert_allclose(
            found.vjp([torch.ones(4, 2).double()])[0], expected.vjp([torch.ones(4, 2).double()])[0]
        )
    with pytest.raises(jacgram.JacgramError, match="x2"):
        FRONTEND.side(f, {"a": normal(4, 3).numpy().tolist(), "twice": False}, p, argument="x2", beside=first)


def test_sides_that_were_alike_until_f_came_to_branch_on_data():
    """Each side has uses of its own then, whatever it had in common with the other before."""
    branches = False

    def f(p, x):
        if not branches:
            return torch.tanh(x @ p)
        return torch.stack([torch.tanh(r @ p) if r[0] > 0 else torch.sin(r.sum() * p.sum(0)) for r in x])

    p, x1, x2 = normal(3, 2), normal(4, 3).abs(), -normal(5, 3).abs()
    check(f, p, x1, x2)
    branches = True
    check(f, p, x1, x2)
    check(f, p, x1, x2)


def test_a_jacobian_that_is_held_while_f_takes_other_branches():
    threshold = 0.0

    def f(p, x):
        return torch.stack([torch.tanh(r @ p) if r[0] > threshold else torch.sin(r.sum() * p.sum(0)) for r in x])

    p, x = normal(3, 2), normal(4, 3).abs()
    J = jacgram.Jacobian(f, x, params=p)
    for threshold in (0.0, 1e6, 0.0):  # noqa: B007
        expected = oracle.gram(oracle.jacobian(f, x, p))
        oracle.check((J @ J.T).dense(method=jacgram.Structured()), expected)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("by_graph", [True, False])
def test_outputs_of_other_shapes_than_before_are_refused(held, by_graph):
    """Of one output, three would come by stretching its seed."""
    width = 1

    def f(p, x):
        if not by_graph:
            return torch.tanh(x @ p)[:, :width]
        x = x.detach().requires_grad_()
        return torch.autograd.grad(torch.tanh(x @ p).sum(), x, create_graph=True)[0][:, :width]

    p, x = normal(3, 3), normal(4, 3)
    J = jacgram.Jacobian(f, x, params=p)
    (J @ J.T).dense(method=jacgram.Structured())
    width = 3
    if held:
        with pytest.raises(
            UnsupportedError, match=r"shapes \[\(3,\)\], and gave \[\(1,\)\].*make a Jacobian that is kept anew"
        ):
            (J @ J.T).dense(method=jacgram.Structured())
    check(f, p, x, normal(5, 3))


METHODS = [jacgram.Structured(), jacgram.Materialize(), jacgram.MatrixFree()]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("pattern", [None, "n i, m j -> i n j m"])
def test_outputs_that_are_recalled_and_not_there_any_more(method, pattern):
    width = 3
    f = lambda p, x: torch.tanh(x @ p)[:, :width]
    p, x1, x2 = normal(3, 4), normal(4, 3), normal(5, 3)
    for width in (3, 3, 1, 4, 4, 2):  # noqa: B007
        found = jacgram.ntk(f, x1, x2, params=p, pattern=pattern, method=method)
        expected = oracle.gram(oracle.jacobian(f, x1, p), oracle.jacobian(f, x2, p))[0]
        np.testing.assert_allclose(found, expected if pattern is None else expected.transpose(2, 0, 3, 1), atol=1e-10)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_outputs_of_another_structure_than_those_recalled(method):
    """Names and order of leaves are the result's own, whatever they were before."""
    names = ("a", "b")
    f = lambda p, x: dict(zip(names, (torch.tanh(x @ p), torch.sin(x @ p)), strict=True))
    p, x = normal(3, 2), normal(4, 3)
    for names in (("a", "b"), ("a", "b"), ("b", "a"), ("b", "a"), ("c", "a")):
        found = jacgram.ntk(f, x, params=p, method=method)
        assert set(found) == set(names)
        one = lambda p, x, name=names[0]: f(p, x)[name]
        np.testing.assert_allclose(found[names[0]][names[0]], oracle.gram(oracle.jacobian(one, x, p))[0], atol=1e-10)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_batch_statistics_that_a_function_comes_to_take(method):
    is_training = False

    def f(p, x):
        y = x @ p
        return torch.nn.functional.batch_norm(y, torch.zeros(2).double(), torch.ones(2).double(), training=is_training)

    p, x = normal(3, 2), normal(4, 3)
    for _ in range(2):
        found = jacgram.ntk(f, x, params=p, method=method)
        np.testing.assert_allclose(found, oracle.gram(oracle.jacobian(f, x, p))[0], atol=1e-10)
    is_training = True
    with pytest.raises(InteractingExamplesError, match="batch norm in training mode mixes examples"):
        jacgram.ntk(f, x, params=p, method=method)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
@pytest.mark.parametrize("n2", [0, 3])
def test_outputs_are_not_believed_where_nothing_calls_f(method, n2):
    """Of no outputs there is no row, and of no examples neither."""
    width = 0
    f = lambda p, x: torch.tanh(x @ p)[:, :width]
    p, x1, x2 = normal(3, 4), normal(4, 3), normal(n2, 3)
    for pattern in (None, "n i, m i -> n m", "n i, m j -> n m"):
        for width in (0, 0, 2, 2, 0):  # noqa: B007
            found = jacgram.ntk(f, x1, x2, params=p, pattern=pattern, method=method)
            expected = jacgram.ntk(lambda p, x: f(p, x), x1, x2, params=p, pattern=pattern, method=method)
            np.testing.assert_allclose(found, expected, atol=1e-10)


class Breakable:
    """A function that raises while it is broken, and counts its calls."""

    def __init__(self):
        self.is_broken, self.calls = False, 0

    def __call__(self, p, x):
        self.calls += 1
        if self.is_broken:
            raise ZeroDivisionError("broken")
        return torch.tanh(x @ p)

    def counted(self, run):
        """How often a run calls it."""
        self.calls = 0
        run()
        return self.calls


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_an_error_of_f_is_raised_as_it_is_and_changes_nothing(method):
    f, p, x = Breakable(), normal(3, 2), normal(4, 3)
    expected = oracle.gram(oracle.jacobian(f, x, p))[0]

    def run():
        np.testing.assert_allclose(jacgram.ntk(f, x, params=p, method=method), expected, atol=1e-10)

    run()
    warm = f.counted(run)
    f.is_broken = True
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="broken"):
            jacgram.ntk(f, x, params=p, method=method)
    f.is_broken = False
    assert f.counted(run) == warm
    jacgram.ntk(f, x, params=p, method=jacgram.Structured(strict=True))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_an_error_of_f_at_a_jacobian_that_is_kept_changes_nothing(method):
    f = Breakable()
    J = jacgram.Jacobian(f, normal(4, 3), params=normal(3, 2))
    run = lambda: (J @ J.T).dense(method=method)
    run()
    warm = f.counted(run)
    f.is_broken = True
    with pytest.raises(ZeroDivisionError, match="broken"):
        run()
    f.is_broken = False
    run()
    assert f.counted(run) == warm


def test_an_error_beside_f_is_raised_at_once():
    f, calls = counted(lambda p, x: x @ p)
    p, x = normal(3, 2), normal(4, 3)
    jacgram.ntk(f, x, params=p)
    calls.clear()
    with pytest.raises(ArgumentError, match="memory"):
        jacgram.ntk(f, x, params=p, memory="none")
    assert len(calls) <= 1


def test_heads_that_are_chosen_by_the_examples_are_recalled_apart():
    heads = {"a": lambda h: h, "b": lambda h: h[:, :1]}
    f, calls = counted(lambda p, x: heads[x["head"]](torch.tanh(x["x"] @ p)))
    p, x = normal(3, 2), normal(4, 3)
    for head in "abab":
        calls.clear()
        found = jacgram.ntk(f, {"x": x, "head": head}, params=p)
        one = lambda p, x, head=head: heads[head](torch.tanh(x @ p))
        np.testing.assert_allclose(found, oracle.gram(oracle.jacobian(one, x, p))[0], atol=1e-10)
    assert len(calls) <= 4, "f was not tried anew"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_batch_statistics_that_f_takes_once_its_jacobian_was_made(method):
    is_training = False

    def f(p, x):
        y = x @ p
        return torch.nn.functional.batch_norm(y, torch.zeros(2).double(), torch.ones(2).double(), training=is_training)

    J = jacgram.Jacobian(f, normal(4, 3), params=normal(3, 2))
    (J @ J.T).dense(method=method)
    is_training = True
    with pytest.raises(UnsupportedError, match=r"batch norm in training mode, which mixes examples.*\.eval\(\)"):
        (J @ J.T).dense(method=method)


SWITCHED = {
    "another use": (lambda p, x: x @ p, lambda p, x: torch.tanh(x @ p) @ p),
    "a use less": (lambda p, x: torch.tanh(x @ p) @ p, lambda p, x: x @ p),
    "none": (lambda p, x: x @ p, lambda p, x: x * 2),
    "another view": (lambda p, x: x @ p, lambda p, x: x @ p.T),
    "a part": (lambda p, x: x @ p, lambda p, x: x[:, :2] @ p[:2]),
    "another kind": (lambda p, x: x @ p, lambda p, x: x * p[0]),
    "more positions": (lambda p, x: x @ p, lambda p, x: (x[:, None].repeat(1, 4, 1).cumsum(1) @ p).sum(1)),
    "an index": (lambda p, x: x @ p, lambda p, x: p[(x[:, 0] > 0).long()] * x),
    "shared cotangents": (lambda p, x: x @ p + p[0], lambda p, x: (x @ p).sin() + p[0]),
    "a call that vmap cannot run": (lambda p, x: x @ p, lambda p, x: x @ p * x.detach().sum(1).tolist()[0]),
    "derivatives within": (
        lambda p, x: x @ p,
        lambda p, x: torch.func.vmap(torch.func.grad(lambda at: torch.cosh(at @ p).sum()))(x),
    ),
    "rows": (lambda p, x: x @ p, lambda p, x: torch.linalg.solve(p, x[..., None])[..., 0]),
}


@pytest.mark.parametrize("back", [False, True], ids=["to", "back"])
@pytest.mark.parametrize("name", SWITCHED)
def test_a_function_that_changes_is_described_anew(name, back):
    before, after = SWITCHED[name][::-1] if back else SWITCHED[name]
    now = before
    f = lambda p, x: now(p, x)
    w, x1, x2 = normal(3, 3), normal(1, 3), normal(1, 3)
    check(f, w, x1, x2)
    check(f, w, x1, x2)
    now = after
    check(f, w, x1, x2)
    check(f, w, x1, x2)
    now = before
    check(f, w, x1, x2)


def test_a_tensor_that_f_closes_over_may_take_another_value_and_shape():
    held = normal(5, 3)
    f = lambda p, x: torch.tanh((x[:, None] * held) @ p).sum(1)
    w, x1, x2 = normal(3, 2), normal(4, 3), normal(2, 3)
    check(f, w, x1, x2)
    held.mul_(2)
    check(f, w, x1, x2)
    held = normal(7, 3)
    check(f, w, x1, x2)


def test_a_buffer_may_change():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 2).double()
            self.register_buffer("scale", normal(4, 1))

        def forward(self, x):
            return torch.tanh(self.dense(x[:, None] * self.scale)).sum(1)

    module, x = Scaled(), normal(3, 3)
    check_module(module, x)
    module.scale = 3 * module.scale
    check_module(module, x)
    module.scale = normal(6, 1)
    check_module(module, x)


def test_a_module_in_another_mode_is_another():
    class Switched(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3).double(), nn.Linear(3, 2).double()

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)) if self.training else x)

    module, x = Switched(), normal(3, 3)
    for mode in (True, False, True):
        check_module(module.train(mode), x)


def test_another_shape_or_dtype_is_described_by_itself():
    f = lambda p, x: torch.tanh(x @ p).sum(1)
    w = normal(3, 2)
    for x in (normal(2, 4, 3), normal(2, 6, 3), normal(3, 4, 3)):
        check(f, w, x, x + 1)
    assert jacgram.ntk(f, normal(2, 4, 3).float(), params=w.float()).dtype == torch.float32


def test_uses_that_differ_raise_before_they_are_used():
    transposed = False
    f = lambda p, x: x @ (p.T if transposed else p)
    w, x = normal(3, 3), normal(4, 3)
    first = FRONTEND.side(f, x, w, argument="x1")
    seeds = basis(first)
    described(first, seeds)
    first.uses(seeds, structured=True)
    structs = [Struct(tuple(seed.shape), "float64") for seed in seeds]
    transposed = True
    second = FRONTEND.side(f, x, w, argument="x1")
    assert second.describe(structs, structured=True, recall=True) is described(first, seeds)
    with pytest.raises(DescriptionChanged):
        second.uses(seeds, structured=True)
    (anew,) = second.describe(structs, structured=True, recall=True)
    assert anew.view.strides == (1, 3)
    second.uses(seeds, structured=True)


def test_nothing_is_recalled_where_examples_are_recorded_one_by_one():
    one = lambda p, row: row @ p if row.sum() > 0 else torch.tanh(row @ p) @ p
    f = lambda p, x: torch.stack([one(p, row) for row in x])
    w, x = normal(3, 3), normal(2, 3)
    check(f, w, x, -x)
    check(f, w, -x, x)
    side = FRONTEND.side(f, x, w, argument="x1")
    side.describe([Struct((3, 3), "float64")], structured=True, recall=True)
    assert not side.shared.recalled


def test_a_plan_asked_for_is_made_of_what_f_does_now():
    shared = False
    f = lambda p, x: (torch.tanh(x @ p) @ p) if shared else x @ p
    w, x = normal(3, 3), normal(4, 3)
    jacgram.ntk(f, x, params=w)
    shared = True
    K = jacgram.Jacobian(f, x, params=w)
    plan = (K @ K.T).plan()
    np.testing.assert_allclose((K @ K.T).dense(plan=plan), oracle.gram(oracle.jacobian(f, x, w))[0], atol=1e-10)


def test_an_error_of_f_is_raised_as_it_is():
    broken = False

    def f(p, x):
        if broken and len(x) > 0 and torch.is_grad_enabled() and p.requires_grad:
            raise ValueError("no such luck")
        return x @ p

    w, x = normal(3, 2), normal(4, 3)
    jacgram.ntk(f, x, params=w)
    broken = True
    with pytest.raises(Exception, match="no such luck"):
        jacgram.ntk(f, x, params=w)
    broken = False
    check(f, w, x, x)


def test_what_f_does_may_change_between_two_calls_of_one_kernel():
    shared = False
    f = lambda p, x: torch.tanh(x @ p["w"] @ p["v"] + (x @ p["w"] @ p["v"] if shared else 0)) @ p["v"]
    params, x = {"w": normal(3, 4), "v": normal(4, 4)}, normal(5, 3)
    J = jacgram.Jacobian(f, x, params=params)
    K = J @ J.T
    for shared in (False, True, False):  # noqa: B007  (f reads it)
        expected = oracle.gram(oracle.jacobian(f, x, params))[0]
        np.testing.assert_allclose(K.dense(), expected, atol=1e-9)


def test_a_plan_made_after_f_changed_forgets_what_was_recalled_under_other_patterns():
    shared = False
    f = lambda p, x: torch.tanh(x @ p @ p + (x @ p if shared else 0))
    w, x, trace = normal(3, 3), normal(4, 3), "n i, m i -> n m"
    for _ in range(2):
        K = jacgram.Jacobian(f, x, params=w)
        (K @ K.T).dense()
        (K @ K.T).dense(trace)
    K = jacgram.Jacobian(f, x, params=w)
    (K @ K.T).dense()
    shared = True
    expected = np.einsum("nmii->nm", oracle.gram(oracle.jacobian(f, x, w))[0])
    np.testing.assert_allclose((K @ K.T).dense(trace, plan=(K @ K.T).plan(trace)), expected, atol=1e-9)


def test_uses_that_never_are_as_described(monkeypatch):
    def changed(self, seeds, *, structured):
        raise DescriptionChanged

    monkeypatch.setattr(TorchSide, "uses", changed)
    with pytest.raises(UnsupportedError, match="f does other things with its parameters from one call to the next"):
        jacgram.ntk(lambda p, x: x @ p, normal(4, 3), params=normal(3, 3))

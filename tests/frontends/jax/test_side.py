"""Sides: what is accepted, what raises before any work, examples that interact, edges."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram
from jacgram.errors import InteractingExamplesError, StructureError, UnsupportedError
from jacgram.frontends.jax import frontend

from .models import MODELS, V, X

PARAMS = {"w": V, "b": jnp.ones(3)}


def dense(p, x):
    return jnp.tanh(x @ p["w"] + p["b"])


def make(f=dense, x=X, params=PARAMS):
    return frontend().side(f, x, params, argument="x1")


BAD = {
    "empty params": (dense, X, {}, "params holds no array"),
    "empty x": (dense, {}, PARAMS, "x1 holds no array"),
    "empty x as the variable": (jnp.sin, [], None, "x1 holds no array"),
    "integer params": (dense, X, {"w": jnp.ones((4, 3), int), "b": jnp.ones(3)}, "params leaf 'w' has dtype int64"),
    "boolean params": (dense, X, jnp.ones(3, bool), "params has dtype bool, expected floating point"),
    "integer x as the variable": (jnp.sin, jnp.arange(3), None, "x1 has dtype int64"),
    "a string in params": (dense, X, {"w": "no"}, "params leaf 'w' is str 'no', expected an array"),
    "f that is no function": (3, X, PARAMS, "f is int 3, expected a function"),
    "no array out": (lambda p, x: None, X, PARAMS, "f returned no array but None"),
    "a string out": (lambda p, x: {"a": "yes"}, X, PARAMS, "output of f leaf 'a' is str 'yes'"),
    "integer out": (lambda p, x: dense(p, x).argmax(1), X, PARAMS, "output of f has dtype int64"),
    "boolean out": (lambda p, x: dense(p, x) > 0, X, PARAMS, "output of f has dtype bool"),
    "no example axis out": (lambda p, x: dense(p, x).sum(), X, PARAMS, "output of f is a scalar"),
    "wrong example axis out": (lambda p, x: dense(p, x)[:2], X, PARAMS, "has 2 examples on axis 0 for 3 in x"),
    "different example axes out": (
        lambda p, x: (dense(p, x), x[:2]),
        X,
        PARAMS,
        "example axes (axis 0) differ: 0: (3, 3)",
    ),
    "different example axes in": (lambda p, x: dense(p, x[0]), (X, X[:2]), PARAMS, "x1 has leaves whose example axes"),
    "a scalar x": (dense, 1.0, PARAMS, "x1 is a scalar, expected examples on axis 0"),
    "real and complex out of complex": (
        lambda p, x: (x @ p, (x @ p).real),
        X,
        V + 1j,
        "both real and complex outputs",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_raises_before_any_work(case):
    f, x, params, message = BAD[case]
    with pytest.raises(StructureError, match=re.escape(message)):
        make(f, x, params)


def test_torch_tensors_among_jax_arrays():
    torch = pytest.importorskip("torch")
    with pytest.raises(StructureError, match="params leaf 'b' is a torch Tensor among JAX arrays"):
        make(params={"w": V, "b": torch.ones(3)})


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": V}, "u is PyTreeDef"),
        ({"w": V.T, "b": jnp.ones(3)}, "u leaf 'w' has shape (3, 4), expected (4, 3)"),
        ({"w": V, "b": "x"}, "u leaf 'b' is str"),
    ],
)
def test_vectors_of_the_wrong_form(tree, message):
    with pytest.raises(StructureError, match=re.escape(message)):
        make().flatten_variable(tree, "u")


def test_output_vectors_of_the_wrong_form():
    with pytest.raises(StructureError, match=re.escape("v has shape (3,), expected (3, 3)")):
        make().flatten_output(jnp.ones(3), "v")
    with pytest.raises(StructureError, match="v is PyTreeDef"):
        make().flatten_output([jnp.ones((3, 3))], "v")


def test_what_a_side_says_of_itself():
    side = make(lambda p, x: {"a": dense(p, x), "b": x[:, 0]}, X, PARAMS)
    assert side.paths == ("b", "w") and side.output_paths == ("a", "b") and side.n == 3
    assert [s.shape for s in side.outputs] == [(3, 3), (3,)]
    assert side.unflatten_variable(side.leaves)["w"] is V
    assert make(jnp.sin, X, None).paths == ("x",) and not make(jnp.sin, X, None).has_examples


def test_numpy_input_is_copied():
    x = np.asarray(X).copy()
    side = make(x=x)
    x[:] = np.nan
    np.testing.assert_array_equal(side.x[0], X)


def test_same_point():
    side = make()
    assert side.same_point(make()) and not side.same_point(make(x=X + 0))
    assert not side.same_point(make(lambda p, x: dense(p, x)))


def test_like():
    side, other = make(), make(x=2 * X[:2])
    assert side.like(other)
    assert side.like(make())
    for changed in (
        make(params=PARAMS | {"b": PARAMS["b"] + 0}),
        make(lambda p, x: dense(p, x)),
        make(x=X.astype("float32")),
    ):
        assert not side.like(changed)
    both = side.joined(other)
    assert (both.n, [s.shape[0] for s in both.outputs]) == (5, [5])
    np.testing.assert_array_equal(both.x[0], np.concatenate([X, 2 * X[:2]]))
    assert not make(jnp.sin, X, None).like(make(jnp.sin, X, None))


def test_a_side_beside_another_is_traced_only_where_more_than_its_examples_differs():
    traced = []
    f = lambda p, x: traced.append(1) or dense(p, x)
    first = make(f)

    def beside(x=X, params=PARAMS):
        traced.clear()
        found = frontend().side(f, x, params, argument="x2", beside=first)
        return found, len(traced)

    found, times = beside(2 * X)
    assert times == 0 and found.outputs == first.outputs
    np.testing.assert_array_equal(found.x[0], 2 * X)
    found, times = beside(X[:2])
    assert times == 1 and found.outputs[0].shape[0] == 2, "f may do other things with other numbers of examples"
    for changed in ({"x": X.astype("float32")}, {"params": PARAMS | {"b": PARAMS["b"] + 0}}):
        assert beside(**changed)[1] == 1


@jax.tree_util.register_pytree_node_class
class Noted:
    """An array with a note that may be anything, and decides what f does."""

    def __init__(self, array, note):
        self.array, self.note = array, note

    def tree_flatten(self):
        return (self.array,), self.note

    @classmethod
    def tree_unflatten(cls, note, children):
        return cls(children[0], note)


@pytest.mark.parametrize("notes", [(1, True), (0.0, -0.0), (np.ones(3), 2 * np.ones(3))])
def test_nodes_of_the_users_own_are_never_alike(notes):
    f = lambda w, x: (x.array * (3.0 if str(x.note) == str(notes[1]) else 1.0)) @ w
    w, x = jnp.ones((3, 2)), jnp.ones((2, 3))
    first, second = (make(f, Noted(x, note), w) for note in notes)
    assert not first.like(second)
    K = jax.jit(lambda w: jacgram.ntk(f, Noted(x, notes[0]), Noted(x + 0, notes[1]), params=w))(w)
    np.testing.assert_allclose(K[0, 0, 0, 0], 9.0)


INTERACTING = {
    "mean": lambda p, x: dense(p, x) - dense(p, x).mean(0),
    "length": lambda p, x: dense(p, x) / len(x),
    "order": lambda p, x: dense(p, x)[::-1],
    "cumulative": lambda p, x: jnp.cumsum(dense(p, x), axis=0),
    "shape": lambda p, x: x @ p["w"] @ p["w"].T @ x.T,
}


@pytest.mark.parametrize("name", INTERACTING)
@pytest.mark.parametrize("n", [3, 100])
def test_examples_that_interact(name, n):
    side = make(INTERACTING[name], jnp.resize(X, (n, 4)) * jnp.linspace(1, 2, n)[:, None])
    with pytest.raises(InteractingExamplesError, match=r"one by one|examples interact"):
        side.check_examples()


@pytest.mark.parametrize("head", [0.0, 1.0])
def test_examples_that_interact_behind_a_head_of_zeros(head):
    f = lambda p, x: (dense(p, x) - dense(p, x).mean(0)) @ p["v"]
    with pytest.raises(InteractingExamplesError, match="examples interact"):
        make(f, params={**PARAMS, "v": jnp.full((3, 2), head)}).check_examples()


def test_examples_are_compared_where_f_holds_at_their_values_alone():
    f = lambda p, x: jnp.sqrt(x) @ p["w"]
    x = jnp.full((3, 4), 1e-3).at[0, 0].set(1.0)
    with jax.debug_nans(True):
        made = make(f, x)
        made.check_examples()
    assert made.checked == "checked"


def test_not_holomorphic_behind_a_head_of_zeros():
    f = lambda p, x: (x * p["w"].conj()).sum(1) * p["v"]
    params = {"w": jnp.ones(3, complex), "v": jnp.zeros((), complex)}
    with pytest.raises(StructureError, match="f is not holomorphic in its complex parameters"):
        make(f, jnp.ones((2, 3), complex), params).check_examples()


def test_examples_that_keep_to_themselves_are_checked_once(monkeypatch):
    side = make()
    side.check_examples()
    assert side.checked == "checked"
    monkeypatch.setattr("jacgram.frontends.jax.checks.run", lambda *_: pytest.fail("checked again"))
    make(x=X + 1).check_examples()


def test_nan_and_inf_are_no_interaction():
    side = make(x=X.at[0].set(jnp.nan).at[1, 0].set(jnp.inf))
    side.check_examples()
    assert side.checked == "checked"


def test_low_precision_inside_is_no_interaction():
    def f(p, x):
        half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), p)
        return jax.nn.softmax(x.astype(jnp.bfloat16) @ half["w"] + half["b"]).astype(jnp.float64)

    make(f, jnp.resize(X, (16, 4))).check_examples()


def test_examples_are_unchecked_under_tracing():
    found = []

    def trace(x):
        side = make(x=x)
        side.check_examples()
        found.append(side.checked)
        return x

    jax.jit(trace)(X)
    assert found == ["unchecked (traced)"]


@pytest.mark.parametrize("structured", [True, False])
def test_no_examples(structured):
    side = make(lambda p, x: dense(p, x.reshape(len(x), -1)), X[:0])
    uses = side.uses([jnp.eye(3)], structured=structured)
    assert {use.leaf for use in uses} == {0, 1} and all(use.cotangent.shape[:2] == (0, 3) for use in uses)
    assert [v.shape for v in side.vjp([jnp.zeros((0, 3))])] == [(3,), (4, 3)]
    assert side.jvp(side.leaves)[0].shape == (0, 3)


def test_products():
    side = make()
    u, v = {"w": V + 1, "b": jnp.arange(3.0)}, jnp.ones((3, 3)) * jnp.arange(3.0)
    wanted_u = jax.jvp(lambda p: dense(p, X), (PARAMS,), (u,))[1]
    wanted_v = jax.vjp(lambda p: dense(p, X), PARAMS)[1](v)[0]
    np.testing.assert_allclose(side.jvp(side.flatten_variable(u, "u"))[0], wanted_u)
    np.testing.assert_allclose(side.vjp([v])[1], wanted_v["w"])


def _search(p, x):
    def shrink(h):
        return h * p["w"][0, 0] * 0.5

    return jax.vmap(lambda x: jax.lax.while_loop(lambda h: jnp.abs(h).max() > 0.1, shrink, x))(x)


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured(), jacgram.Materialize()])
def test_a_true_while_loop_is_named(method):
    with pytest.raises(UnsupportedError, match=r"while_loop.*'w'"):
        jacgram.ntk(_search, X, params={"w": V}, method=method)


@pytest.mark.parametrize("name", ["custom_vjp_on_data", "custom_vjp_on_parameters"])
def test_without_forward_mode_the_backward_pass_is_transposed(name):
    f, params, x = MODELS[name]
    found = jacgram.ntk(f, x, params=params, method=jacgram.MatrixFree())
    expected = jacgram.ntk(f, x, params=params, method=jacgram.Materialize())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    J = jacgram.Jacobian(f, x, params=params)
    v = jnp.asarray(np.random.default_rng(0).standard_normal(f(params, x).shape))
    u = J.T @ v
    np.testing.assert_allclose(jnp.vdot(J @ u, v), sum(jnp.vdot(a, a) for a in jax.tree.leaves(u)), rtol=1e-10)


def test_examples_are_not_compared_where_f_closes_over_a_traced_value():
    kernel = jax.jit(lambda scale: jacgram.ntk(lambda w, x: scale * (x @ w), X, params=V))
    np.testing.assert_allclose(kernel(2.0), 4 * jacgram.ntk(lambda w, x: x @ w, X, params=V))

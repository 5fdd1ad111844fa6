"""What the uses look like: shares of structure, shared cotangents, stacked loops, memory and compile time."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jacgram
from jacgram.core.frontend import Struct
from jacgram.core.uses import Conv, Einsum, Gather, Identity
from jacgram.frontends.jax import frontend

from .architectures import ARCHITECTURES, normal
from .models import MODELS


def described(f, params, x):
    side = frontend().side(f, x, params, argument="x")
    seeds = [Struct((2, *out.shape[1:]), out.dtype) for out in side.outputs]
    return side, side.describe(seeds, structured=True)


def by_path(side, uses):
    return {path: [use for use in uses if use.leaf == leaf] for leaf, path in enumerate(side.paths)}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_use_of_usual_architectures_is_structured(name):
    side, uses = described(*ARCHITECTURES[name])
    assert {use.leaf for use in uses} == set(range(len(side.paths)))
    unstructured = [(side.paths[use.leaf], use.kind.reason) for use in uses if not use.structured]
    assert unstructured == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_strict_accepts_usual_architectures_and_is_exact(name):
    f, params, x = ARCHITECTURES[name]
    found = jacgram.ntk(f, x, params=params, method=jacgram.Structured(strict=True))
    wanted = jacgram.ntk(f, x, params=params, method=jacgram.Materialize())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["fully connected", "convolutional", "residual", "transformer", "recurrent"])
def test_a_layers_weight_and_bias_share_their_cotangent(name):
    side, uses = described(*ARCHITECTURES[name])
    found = by_path(side, uses)
    layers = [path.removesuffix("b") for path in found if path.endswith("b") and path[:-1] + "w" in found]
    assert layers
    pairs = [(found[layer + "w"][0].cotangent, found[layer + "b"][0].cotangent) for layer in layers]
    alike = [(first, second) for first, second in pairs if first.shape == second.shape]
    assert all(first is second for first, second in alike)
    assert len(alike) >= len(pairs) - 1  # a bias ahead of a pool is folded where its layer's patches are too many


def test_a_leaf_without_a_rule_falls_back_alone():
    def f(p, x):
        return x @ jnp.linalg.qr(p["w"])[0] @ p["v"]

    side, uses = described(f, {"w": normal(4, 4), "v": normal(4, 2)}, normal(3, 4))
    found = by_path(side, uses)
    assert [use.structured for use in found["v"]] == [True]
    assert all(isinstance(use.kind, Identity) and "has no rule" in use.kind.reason for use in found["w"])


def test_strict_names_the_parameter_and_the_operation():
    f, params, x = MODELS["qr"]
    with pytest.raises(jacgram.JacgramError, match=r"w.*has no rule"):
        jacgram.ntk(f, x, params={"w": params["w"]}, method=jacgram.Structured(strict=True))


def test_an_embedding_is_read_by_index():
    side, uses = described(*MODELS["gather_tied_with_projection"])
    kinds = [type(use.kind) for use in by_path(side, uses)["e"]]
    assert sorted(kind.__name__ for kind in kinds) == ["Einsum", "Gather"]
    (gather,) = (use for use in uses if isinstance(use.kind, Gather))
    assert gather.activation.shape == (1, 5) and gather.activation.dtype == "int32"


def test_convolutions_are_convolutions():
    side, uses = described(*MODELS["convolution"])
    found = by_path(side, uses)
    assert found["w"][0].kind == Conv((3, 3), (2, 1), ((1, 0), (0, 2)), (1, 1), (1, 2), 1)
    assert found["u"][0].kind.groups == 4


def test_a_loop_stacks_its_uses():
    side, uses = described(*MODELS["scan_shared"])
    for path, activation in {"w": (1, 5, 4), "u": (1, 5, 4), "b": None}.items():
        (use,) = by_path(side, uses)[path]
        assert isinstance(use.kind, Einsum) and use.cotangent.shape == (1, 2, 5, 4)
        assert (use.activation and use.activation.shape) == activation


def test_a_stacked_weight_is_one_use_of_the_whole_leaf():
    side, uses = described(*MODELS["scan_stacked"])
    (use,) = by_path(side, uses)["w"]
    assert use.view.shape == (3, 4, 4)
    assert use.kind == Einsum(activation=("w0", "w1"), cotangent=("w0", "w2"), weight=("w0", "w1", "w2"))


def test_views_are_followed_and_not_made():
    _, uses = described(
        lambda p, x: x @ jax.lax.rev(jax.lax.slice(p, (0, 1), (4, 5), (1, 2)), (1,)), normal(4, 6), normal(3, 4)
    )
    (use,) = uses
    assert use.view.offset == 3 and use.view.shape == (4, 2) and use.view.strides == (6, -2)


def _temporary_mebibytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes / 2**20


@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.Structured()])
def test_an_embedding_never_forms_a_one_hot(method):
    params = {"e": jnp.ones((50_000, 64), jnp.float32), "w": jnp.ones((64, 4), jnp.float32)}
    tokens = jnp.zeros((8, 16), int)

    def f(p, x):
        return jnp.tanh(p["e"][x]).mean(1) @ p["w"]

    used = _temporary_mebibytes(lambda p, a, b: jacgram.ntk(f, a, b, params=p, method=method), params, tokens, tokens)
    assert used < 20


def _compile_seconds(length):
    params = {"w": normal(8, 8), "u": normal(3, 8), "b": normal(8), "out": {"w": normal(8, 2), "b": normal(2)}}
    f, x = ARCHITECTURES["recurrent"][0], normal(2, length, 3)
    side = frontend().side(f, x, params, argument="x")

    def operands(*arrays):
        return [(use.activation, use.cotangent) for use in side.with_arrays(arrays).uses([jnp.eye(2)], structured=True)]

    lowered = jax.jit(operands).lower(*side.arrays())
    start = time.perf_counter()
    lowered.compile()
    return time.perf_counter() - start, lowered.as_text().count("\n")


def test_a_long_loop_compiles_as_a_short_one_does():
    (short, short_lines), (long, long_lines) = (_compile_seconds(length) for length in (16, 1024))
    assert long_lines == short_lines
    assert long < 1.3 * short + 0.3


SEVERAL_POSITIONS = {
    "a scatter onto itself": lambda p, x: x @ p["w"].at[jnp.array([1, 2, 0])].add(p["w"]),
    "a scatter of a multiple onto the weight": lambda p, x: x @ (2.0 * p["w"]).at[0].add(p["w"][1]),
    "a scatter of a view onto itself": lambda p, x: x @ p["w"].T.at[jnp.array([0, 0])].add(p["w"].T[:2]),
    "first carry and constant of a scan": lambda p, x: (
        x @ jax.lax.scan(lambda c, _: (jnp.tanh(c @ p["w"]), None), p["w"], None, length=2)[0]
    ),
    "first carry and constant of a loop, example by example": lambda p, x: jax.lax.map(
        lambda e: e @ jax.lax.fori_loop(0, 3, lambda _, c: c + p["w"] * e, p["w"]), x
    ),
    "a multiple by a known number into a branch": lambda p, x: jax.lax.map(
        lambda e: e @ jax.lax.cond(e[0] > 0, lambda v: v * e, lambda v: -v, p["w"] * e[0]), x
    ),
}


@pytest.mark.parametrize("f", SEVERAL_POSITIONS.values(), ids=SEVERAL_POSITIONS)
@pytest.mark.parametrize("method", [jacgram.Auto(), jacgram.MatrixFree()], ids=str)
def test_a_weight_at_several_positions_of_one_operation(f, method):
    params, x = {"w": normal(3, 3)}, normal(4, 3)
    rows = jax.jacrev(f)(params, x)["w"].reshape(4, 3, 9)
    wanted = np.einsum("nip,mjp->nmij", rows, rows)
    found = jacgram.ntk(f, x, params=params, method=method)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-10 * np.abs(wanted).max())


def test_a_table_longer_than_its_indices_count():
    numbers = jax.lax.GatherDimensionNumbers((1,), (0,), (0,))
    row = lambda p, i: jax.lax.gather(p, i[:, None], numbers, (1, 2), mode="fill").ravel()
    f = lambda p, x: jax.vmap(lambda i: row(p, i))(x)
    table, x = normal(300, 2), jnp.array([[0, 1], [200, 1]], jnp.uint8)
    rows = jax.jacrev(f)(table, x).reshape(2, 4, -1)
    np.testing.assert_allclose(jacgram.ntk(f, x, params=table), np.einsum("nip,mjp->nmij", rows, rows), atol=1e-12)

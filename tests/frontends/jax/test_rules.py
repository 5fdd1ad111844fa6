"""Rules of third parties, and the helpers of ours."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jacgram
from jacgram.core.uses import Identity
from jacgram.errors import ArgumentError
from jacgram.frontends.jax import Deferred, fresh, frontend, register_rule
from jacgram.frontends.jax.linear.rules import find_rule, table
from jacgram.frontends.jax.linear.rules.layout import reshape_groups

from .models import X, normal
from .test_uses import assert_rows


def fft(term, site):
    size, *more = site.params["fft_lengths"]
    if not (term.bare and term.whole and not more) or site.params["fft_type"] != jax.lax.FftType.FFT:
        return None
    (label,) = fresh(1)
    matrix = Deferred((), lambda: jnp.fft.fft(jnp.eye(size)).astype(site.outputs[0].dtype))
    value = (*term.value[:-1], label)
    return term.times(matrix, (term.value[-1], label), value, (None,) * len(value))


def of_spectrum(p, x):
    return x @ jnp.fft.fft(p["w"]).imag.T + jnp.fft.fft(p["w"]).real[:, 0]


@pytest.fixture
def no_fft(monkeypatch):
    monkeypatch.setattr(table, "_RULES", {k: rule for k, rule in table._RULES.items() if k != "fft"})


def test_a_rule_from_outside_replaces_the_identity_use(no_fft):
    params = {"w": normal(3, 4)}
    before = assert_rows(of_spectrum, params, X)
    register_rule("fft", fft)
    after = assert_rows(of_spectrum, params, X)
    assert any(isinstance(use.kind, Identity) for use in before)
    assert not any(isinstance(use.kind, Identity) for use in after)


def test_a_rule_is_not_replaced_unless_told(no_fft):
    register_rule("fft", fft)
    with pytest.raises(ArgumentError, match="'fft' has a rule already; pass replace=True"):
        register_rule("fft", fft)
    register_rule("fft", lambda term, site: None, replace=True)
    assert find_rule("fft") is not fft


@given(st.lists(st.integers(1, 4), max_size=5), st.randoms())
def test_reshape_groups_hold_equal_entries(old, random):
    factors = [f for size in old for f in ([2, 2] if size == 4 else [size])]
    new = []
    for factor in factors:
        if new and random.random() < 0.5:
            new[-1] *= factor
        else:
            new.append(factor)
    groups = list(reshape_groups(old, new))
    assert [axis for axes, _ in groups for axis in axes] == list(range(len(old)))
    assert [axis for _, axes in groups for axis in axes] == list(range(len(new)))
    for olds, news in groups:
        assert np.prod([old[a] for a in olds]) == np.prod([new[a] for a in news])


def _step(draw, array):
    """One random linear step on a weight, by name and arguments."""
    rank = array.ndim
    kind = draw(st.sampled_from(["transpose", "reshape", "slice", "flip", "scale", "pad", "concatenate", "add"]))
    axis = draw(st.integers(0, rank - 1))
    match kind:
        case "transpose":
            order = draw(st.permutations(range(rank)))
            return lambda w: w.transpose(order)
        case "reshape":
            shape = draw(
                st.sampled_from([(array.size,), (1, array.size), (*array.shape[:axis], 1, *array.shape[axis:])])
            )
            return lambda w: w.reshape(shape)
        case "slice":
            start, step = draw(st.integers(0, array.shape[axis] - 1)), draw(st.integers(1, 2))
            return lambda w: w[(slice(None),) * axis + (slice(start, None, step),)]
        case "flip":
            return lambda w: jnp.flip(w, axis)
        case "scale":
            return lambda w: -2.5 * w
        case "pad":
            return lambda w: jnp.pad(w, [(1, 2) if a == axis else (0, 0) for a in range(rank)])
        case "concatenate":
            return lambda w: jnp.concatenate([w, 3 * w], axis)
        case _:
            return lambda w: w + jnp.flip(w)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_chains_of_views_are_exact(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    weight = jnp.asarray(np.random.default_rng(0).integers(-4, 4, shape), jnp.float64)
    steps, array = [], weight
    for _ in range(data.draw(st.integers(1, 4))):
        steps.append(_step(data.draw, array))
        array = steps[-1](array)

    def f(p, x):
        w = p
        for step in steps:
            w = step(w)
        return x[:, :1] * w.reshape(-1)[:5].sum() + x @ jnp.resize(w, (4, 2)) + jnp.tanh(w).sum()

    assert_rows(f, weight, X)


def test_named_in_the_plan(no_fft):
    plan = jacgram.plan(of_spectrum, X, params={"w": normal(3, 4)}, method=jacgram.Structured())
    assert "fft" in str(plan)


def test_frontend_is_named():
    assert frontend().name == "jax"

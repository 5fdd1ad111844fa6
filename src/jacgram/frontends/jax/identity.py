"""Identity uses: the cotangent of a whole leaf, by one vjp per example and seed. Always exact, never structured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from jacgram.core.uses import Identity
from jacgram.core.views import View
from jacgram.frontends.jax.products import Flat
from jacgram.frontends.jax.records import Record, Recording


def identity_recording(fun: Flat, variable: Sequence[Any], seeds: Sequence[Any]) -> Recording:
    """One identity use per leaf of the variable.

    Args:
        fun: variable leaves to output leaves of one example.
        variable: the leaves.
        seeds: per output leaf, ``(s, *output)`` cotangents in the output's dtype.
    """
    _, pull = jax.vjp(fun, list(variable))
    cotangents = jax.vmap(lambda seed: pull(seed)[0])(list(seeds))
    records = tuple(
        Record(leaf, View.of(array.shape), Identity("materialised: the strategy asked for rows"), None, leaf)
        for leaf, array in enumerate(variable)
    )
    return Recording(records, [], cotangents)

"""Structured uses of one example: linearise, walk, transpose once for all seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax

from jacgram.frontends.jax.linear.backward import pulled_back
from jacgram.frontends.jax.linear.branches import walk_cond
from jacgram.frontends.jax.linear.factored import Factored
from jacgram.frontends.jax.linear.finish import finish
from jacgram.frontends.jax.linear.loops import walk_scan
from jacgram.frontends.jax.linear.tape import Node, Tape, read, tangent
from jacgram.frontends.jax.linear.terms import Term
from jacgram.frontends.jax.linear.walk import Walk, constants, node_like
from jacgram.frontends.jax.products import Flat
from jacgram.frontends.jax.records import Recording


def structured_recording(fun: Flat, variable: Sequence[Any], seeds: Sequence[Any], names: Sequence[str]) -> Recording:
    """Every use of every leaf, with as much structure as the rules find. One forward pass, one pass back for all seeds.

    Args:
        fun: variable leaves to output leaves of one example.
        variable: the leaves.
        seeds: per output leaf, ``(s, *output)`` cotangents in the output's dtype.
        names: path of each leaf, for messages.
    """
    _, push = jax.linearize(fun, list(variable))
    closed = jax.make_jaxpr(push)([jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in variable])
    inputs = [node_like(v.aval, known=False, leaves=frozenset((leaf,))) for leaf, v in enumerate(closed.jaxpr.invars)]
    for leaf, node in enumerate(inputs):
        node.terms = [Term.of_leaf(leaf, node.shape)]
    walk = Walk(names, {"scan": walk_scan, "cond": walk_cond})
    tape = walk.run(closed.jaxpr, constants(closed), inputs)
    known = tape.run_known({})
    cotangents = _cotangents(tape, known, seeds)
    outputs = sum(math.prod(seed.shape[1:]) for seed in seeds)
    return finish(tape.uses, cotangents, read(known), outputs)


def _cotangents(tape: Tape, known: dict[Node, Any], seeds: Sequence[Any]) -> list[Factored]:
    """Per tap its cotangents: the live pass transposed, for all seeds at once."""

    def live(taps: list[Any]) -> list[Any]:
        values = tape.run_live(known, {}, taps)
        return [tangent(node, known, values) for node in tape.outputs]

    specs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in tape.taps]
    return pulled_back(live, specs, seeds) if specs else []

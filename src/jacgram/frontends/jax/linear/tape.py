"""The tape: what to run, in two passes, once a walk has found every term.

The first pass runs what is **known**, needing no tangent: residuals recomputed by ``remat``, loop counters. The second
runs what is **live**, linear in the taps. A tap is a zero input added to a value, so that transposing the second pass
yields that value's cotangent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from jacgram.frontends.jax.compat import bind
from jacgram.frontends.jax.linear.terms import Term
from jacgram.frontends.jax.linear.transposable import live_outputs


@dataclass(eq=False, slots=True)
class Node:
    """A value of the program.

    Attributes:
        shape: sizes of its axes.
        dtype: its dtype.
        known: whether it needs no tangent.
        value: the array itself where it is a literal or a constant.
        fans_out: whether more than one equation reads it.
        live: whether something of it is no term.
        terms: shares of leaves in it that no tap accounts for yet.
        leaves: every leaf that has a share in it, for messages.
    """

    shape: tuple[int, ...]
    dtype: Any
    known: bool
    value: Any = None
    fans_out: bool = False
    live: bool = False
    terms: list[Term] = field(default_factory=list[Term])
    leaves: frozenset[int] = frozenset()


Values = dict[Node, Any]


class Step(Protocol):
    """One thing to run, in either pass or both."""

    def run_known(self, values: Values) -> None:
        """Add what is known to the values."""

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        """Add what is live to the live values."""


@dataclass(frozen=True, slots=True, eq=False)
class Use:
    """A term that a tap ended, and why there if the leaf met an equation without a rule."""

    term: Term
    tap: int
    reason: str | None


@dataclass(eq=False, slots=True)
class Tape:
    """A program, its taps and its uses.

    Attributes:
        inputs: values given from outside.
        outputs: values to return.
        steps: what to run, in order.
        taps: shape and dtype of each tap.
        uses: every term, each ended by a tap.
    """

    inputs: list[Node] = field(default_factory=list[Node])
    outputs: list[Node] = field(default_factory=list[Node])
    steps: list[Step] = field(default_factory=list[Step])
    taps: list[tuple[tuple[int, ...], Any]] = field(default_factory=list[tuple[tuple[int, ...], Any]])
    uses: list[Use] = field(default_factory=list[Use])

    def run_known(self, values: Values) -> Values:
        """Complete the known values, given those of the inputs."""
        for step in self.steps:
            step.run_known(values)
        return values

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> Values:
        """Complete the live values, linear in those given and in the taps."""
        for step in self.steps:
            step.run_live(known, live, taps)
        return live


def read(values: Values) -> Callable[[Node], Any]:
    """A reader of known values."""
    return lambda node: values.get(node, node.value)


def tangent(node: Node, known: Values, live: Values) -> Any:
    """The live part of a value; zeros where all of it are terms. A known tangent is an instantiated zero."""
    if node.known:
        return read(known)(node)
    return live[node] if node in live else jnp.zeros(node.shape, node.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """An equation of known inputs."""

    equation: JaxprEqn
    inputs: list[Node]
    outputs: list[Node]

    def run_known(self, values: Values) -> None:
        results = bind(self.equation, [read(values)(node) for node in self.inputs])
        values.update(zip(self.outputs, results, strict=True))

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        del known, live, taps


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """An equation with some live input."""

    equation: JaxprEqn
    inputs: list[Node]
    outputs: list[Node]

    def run_known(self, values: Values) -> None:
        del values

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        del taps
        values = [tangent(node, known, live) for node in self.inputs]
        results = live_outputs(self.equation, [node.known for node in self.inputs], values, bind)
        live.update(zip(self.outputs, results, strict=True))


@dataclass(frozen=True, slots=True, eq=False)
class Tapped:
    """A tap added to a value."""

    node: Node
    tap: int

    def run_known(self, values: Values) -> None:
        del values

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        del known
        tap = taps[self.tap]
        live[self.node] = live[self.node] + tap if self.node in live else tap


@dataclass(frozen=True, slots=True, eq=False)
class Passed:
    """The live part of one value, become that of another."""

    source: Node
    target: Node

    def run_known(self, values: Values) -> None:
        del values

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        del taps
        live[self.target] = tangent(self.source, known, live)

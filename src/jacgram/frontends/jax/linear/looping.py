"""A ``scan`` on the tape: two loops in place of one.

The **known** loop computes what needs no tangent and is asked for: known results, and values of the body that
activations or the live loop want, stacked. It is left out where nothing asks. The **live** loop is linear in the taps,
which are scanned over; its known operands come first among the constants, and last among what is scanned, as JAX wants
them to transpose it. What it needs of the body's known values beyond its operands it computes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from jacgram.frontends.jax.linear.tape import Node, Tape, Values, read, tangent


@dataclass(eq=False, slots=True)
class ScanStep:
    """One ``scan``.

    Attributes:
        equation: the equation it stands for.
        body: the body's tape.
        inputs: the operands outside: constants, carries, scanned values.
        inner: the same as the body sees them.
        linear: which of them are linear in the body.
        linear_out: which outputs are.
        kept: operands that are leaves, all of whose uses are tapped: they carry nothing live.
        taps: per tap of the body, the tap outside that is stacked along the loop.
        outputs: values outside.
        emitted: per known value of the body that is asked for, the stacked value outside.
    """

    equation: JaxprEqn
    body: Tape
    inputs: list[Node]
    inner: list[Node]
    linear: list[bool]
    linear_out: list[bool]
    kept: list[int]
    taps: list[int] = field(default_factory=list[int])
    outputs: list[Node] = field(default_factory=list[Node])
    emitted: dict[Node, Node] = field(default_factory=dict[Node, Node])

    def __post_init__(self) -> None:
        for position in self._carries:
            if not self.linear[position]:
                self._emit(self.inner[position])

    def outside(self, node: Node) -> tuple[Node, bool]:
        """Where a known value of the body is found outside, and whether it is stacked there."""
        if node in self.inner:
            position = self.inner.index(node)
            if position not in self._carries:
                return self.inputs[position], position >= self._first_scanned
        return (node, False) if node.value is not None else (self._emit(node), True)

    def run_known(self, values: Values) -> None:
        carries = [p for p in self._carries if not self.linear[p]]
        results = [j for j in range(self._num_carry, len(self.outputs)) if not self.linear_out[j]]
        if not carries and not results and not self.emitted:
            return
        scanned = [p for p in self._scanned if not self.linear[p]]
        outer = read(values)
        constants = {self.inner[p]: outer(self.inputs[p]) for p in self._constants if not self.linear[p]}

        def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
            inside = dict(constants)
            inside.update(zip((self.inner[p] for p in (*carries, *scanned)), (*carry, *xs), strict=True))
            inner = read(self.body.run_known(inside))
            carry = [inner(self.body.outputs[p - self._num_consts]) for p in carries]
            return carry, [inner(n) for n in (*(self.body.outputs[j] for j in results), *self.emitted)]

        last, stacked = jax.lax.scan(
            turn,
            [outer(self.inputs[p]) for p in carries],
            [outer(self.inputs[p]) for p in scanned],
            length=self.equation.params["length"],
            reverse=self.equation.params["reverse"],
        )
        values.update(zip((self.outputs[p - self._num_consts] for p in carries), last, strict=True))
        values.update(zip((*(self.outputs[j] for j in results), *self.emitted.values()), stacked, strict=True))

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        flowing = [p for p in range(len(self.inputs)) if self.linear[p] and p not in self.kept]
        held = [p for p in range(len(self.inputs)) if not self.linear[p] and p not in self._carries]
        groups = (self._constants, self._carries, self._scanned)
        live_consts, carries, live_xs = ([p for p in flowing if p in group] for group in groups)
        known_consts, _, known_xs = ([p for p in held if p in group] for group in groups)
        results = [j for j in range(self._num_carry, len(self.outputs)) if self.linear_out[j]]
        carried_known = [self.inner[p] for p in self._carries if not self.linear[p]]
        outer = read(known)
        operands = [
            [outer(self.inputs[p]) for p in known_consts],
            [tangent(self.inputs[p], known, live) for p in live_consts],
            [tangent(self.inputs[p], known, live) for p in carries],
            [taps[tap] for tap in self.taps],
            [tangent(self.inputs[p], known, live) for p in live_xs],
            [outer(self.inputs[p]) for p in known_xs],
            [outer(self.emitted[node]) for node in carried_known],
        ]
        nodes = [[self.inner[p] for p in group] for group in (known_consts, live_consts, carries, live_xs, known_xs)]

        def turn(*parts: list[Any]) -> list[Any]:
            known_const, live_const, carry, tap, live_x, known_x, carried = parts
            inside = dict(zip(nodes[0] + nodes[4] + carried_known, known_const + known_x + carried, strict=True))
            moving = dict(zip(nodes[1] + nodes[2] + nodes[3], live_const + carry + live_x, strict=True))
            self.body.run_known(inside)
            self.body.run_live(inside, moving, tap)
            wanted = [p - self._num_consts for p in carries] + results
            return [tangent(self.body.outputs[j], inside, moving) for j in wanted]

        found = self._bind(turn, operands)
        live.update(zip((self.outputs[p - self._num_consts] for p in carries), found, strict=False))
        live.update(zip((self.outputs[j] for j in results), found[len(carries) :], strict=True))

    def _bind(self, turn: Any, operands: list[list[Any]]) -> list[Any]:
        """The loop bound anew with another body, so that the order of its operands is ours to choose."""
        specs = [
            [jax.ShapeDtypeStruct(a.shape[1:] if group >= _FIRST_SCANNED_GROUP else a.shape, a.dtype) for a in arrays]
            for group, arrays in enumerate(operands)
        ]
        closed, hoisted = _without_constants(jax.make_jaxpr(turn)(*specs))
        flat = [*hoisted, *(array for arrays in operands for array in arrays)]
        num_consts = len(hoisted) + len(operands[0]) + len(operands[1])
        params = {**self.equation.params, "jaxpr": closed, "num_consts": num_consts, "num_carry": len(operands[2])}
        if "linear" in params:
            params["linear"] = (False,) * len(flat)
        return self.equation.primitive.bind(*flat, **params)

    def _emit(self, node: Node) -> Node:
        if node not in self.emitted:
            shape = (self.equation.params["length"], *node.shape)
            self.emitted[node] = Node(shape, node.dtype, known=True)
        return self.emitted[node]

    @property
    def _num_consts(self) -> int:
        return self.equation.params["num_consts"]

    @property
    def _num_carry(self) -> int:
        return self.equation.params["num_carry"]

    @property
    def _first_scanned(self) -> int:
        return self._num_consts + self._num_carry

    @property
    def _constants(self) -> range:
        return range(self._num_consts)

    @property
    def _carries(self) -> range:
        return range(self._num_consts, self._first_scanned)

    @property
    def _scanned(self) -> range:
        return range(self._first_scanned, len(self.inputs))


_FIRST_SCANNED_GROUP = 3


def _without_constants(closed: ClosedJaxpr) -> tuple[ClosedJaxpr, list[Any]]:
    """The jaxpr with the arrays it holds as first arguments, and these arrays."""
    constants = list(closed.consts)
    if not constants:
        return closed, []

    def opened(held: list[Any], *arguments: Any) -> list[Any]:
        return jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, held))(*arguments)

    specs = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.invars]
    held = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in closed.jaxpr.constvars]
    return jax.make_jaxpr(opened)(held, *specs), constants

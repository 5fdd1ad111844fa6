"""A ``scan`` on the tape: two loops in place of one.

The **known** loop computes what needs no tangent and is asked for: known results, and values of the body that
activations or the live loop want, stacked. It is left out where nothing asks. The **live** loop is linear in the taps,
which are scanned over. JAX transposes a loop whose known operands are constants, or come last among what is scanned; so
a live constant is carried along. What the live loop needs of the body's known values it computes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax

from jacgram.frontends.jax.compat import ScanLayout, linear_scan
from jacgram.frontends.jax.linear.tape import Node, Tape, Values, read, tangent


@dataclass(eq=False, slots=True)
class ScanStep:
    """One ``scan``.

    Attributes:
        layout: the parts of the equation it stands for.
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

    layout: ScanLayout
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
            length=self.layout.length,
            reverse=self.layout.reverse,
        )
        values.update(zip((self.outputs[p - self._num_consts] for p in carries), last, strict=True))
        values.update(zip((*(self.outputs[j] for j in results), *self.emitted.values()), stacked, strict=True))

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        flowing = [p for p in range(len(self.inputs)) if self.linear[p] and p not in self.kept]
        carried = [p for p in flowing if p < self._first_scanned]  # a live constant is a carry that stays as it is
        live_xs = [p for p in flowing if p >= self._first_scanned]
        held = [p for p in self._constants if not self.linear[p]]
        known_xs = [p for p in self._scanned if not self.linear[p]]
        stacked = [self.inner[p] for p in self._carries if not self.linear[p]]
        results = [j for j in range(self._num_carry, len(self.outputs)) if self.linear_out[j]]
        outer = read(known)
        constants = {self.inner[p]: outer(self.inputs[p]) for p in held}

        def turn(carry: list[Any], xs: tuple[tuple[list[Any], list[Any]], list[Any]]) -> tuple[list[Any], list[Any]]:
            (tap, live_x), known_x = xs
            inside = constants | dict(zip([*(self.inner[p] for p in known_xs), *stacked], known_x, strict=True))
            moving = dict(zip((self.inner[p] for p in (*carried, *live_xs)), (*carry, *live_x), strict=True))
            given = dict(moving)
            self.body.run_known(inside)
            self.body.run_live(inside, moving, tap)
            after = [
                given[self.inner[p]] if p in self._constants else self._result(p - self._num_consts, inside, moving)
                for p in carried
            ]
            return after, [self._result(j, inside, moving) for j in results]

        last, found = linear_scan(
            turn,
            [tangent(self.inputs[p], known, live) for p in carried],
            ([taps[tap] for tap in self.taps], [tangent(self.inputs[p], known, live) for p in live_xs]),
            [*(outer(self.inputs[p]) for p in known_xs), *(outer(self.emitted[node]) for node in stacked)],
            self.layout,
        )
        ends = zip(carried, last, strict=True)
        live.update({self.outputs[p - self._num_consts]: end for p, end in ends if p in self._carries})
        live.update(zip((self.outputs[j] for j in results), found, strict=True))

    def _result(self, position: int, inside: Values, moving: Values) -> Any:
        return tangent(self.body.outputs[position], inside, moving)

    def _emit(self, node: Node) -> Node:
        if node not in self.emitted:
            shape = (self.layout.length, *node.shape)
            self.emitted[node] = Node(shape, node.dtype, known=True)
        return self.emitted[node]

    @property
    def _num_consts(self) -> int:
        return self.layout.num_consts

    @property
    def _num_carry(self) -> int:
        return self.layout.num_carry

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

"""Uses inside ``scan``: tapped in the body, with the loop's index as one more axis of activation and cotangent.

A leaf that enters as a constant of the loop, or is carried along unchanged, is **shared**: the index is a position,
summed over. A leaf that is scanned over is **stacked**: the index is an axis of its view. Nothing is unrolled.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jax.extend.core import JaxprEqn

from jacgram.core.views import View
from jacgram.frontends.jax.compat import scan_layout
from jacgram.frontends.jax.linear.dependence import loop_dependence
from jacgram.frontends.jax.linear.lifting import lift
from jacgram.frontends.jax.linear.looping import ScanStep
from jacgram.frontends.jax.linear.tape import Node, Use
from jacgram.frontends.jax.linear.terms import Term
from jacgram.frontends.jax.linear.walk import Walk, all_leaves, constants, node_like, single_bare


def walk_scan(walk: Walk, eqn: JaxprEqn, inputs: list[Node]) -> list[Node]:
    """Walk over a ``scan``. A leaf that the body uses in a way that has no rule is tapped before the loop instead."""
    refused: dict[int, str] = {}
    while True:
        loop = _Loop(walk, eqn, inputs, refused)
        problems = loop.walk_body()
        if not problems:
            return loop.write()
        refused.update(problems)


class _Loop:
    """One attempt at a ``scan``: which of its operands come into the body as leaves, and the body's tape."""

    def __init__(self, walk: Walk, eqn: JaxprEqn, inputs: list[Node], refused: dict[int, str]) -> None:
        self._walk, self._eqn, self._inputs = walk, eqn, inputs
        self._layout = scan_layout(eqn)
        self._closed, self._length = self._layout.body, self._layout.length
        self._consts = self._layout.num_consts
        self._first_scanned = self._consts + self._layout.num_carry
        self._linear, self._linear_out = loop_dependence(eqn, [not node.known for node in inputs])
        self._kept = [p for p in range(len(inputs)) if p not in refused and self._comes_in_whole(p)]
        tapped = {id(node) for position, node in enumerate(inputs) if position not in self._kept}
        self._kept = [p for p in self._kept if id(inputs[p]) not in tapped]  # tapped at one position, it is at every
        for position, node in enumerate(inputs):
            if position not in self._kept:
                walk.tap(node, refused.get(position))

    def walk_body(self) -> dict[int, str]:
        """Walk over the body; the operands that must not come in as leaves, and why."""
        inner = [self._inner(position) for position in range(len(self._inputs))]
        unchanged = [p - self._consts for p in self._kept if self._is_carry(p)]
        body = self._walk.nested()
        tape = body.run(self._closed.jaxpr, constants(self._closed), inner, unchanged)
        self._step = ScanStep(self._layout, tape, self._inputs, inner, self._linear, self._linear_out, self._kept)
        self._uses: list[Use] = []
        problems: dict[int, str] = {}
        for use in tape.uses:
            entry, lifted = use.term.entry, None if use.reason else self._lift(use.term)
            if lifted is None:
                problems[entry] = use.reason or "its use in a scan over stacked weights has no rule"
            else:
                self._uses.append(Use(lifted, use.tap, None))
        return problems

    def write(self) -> list[Node]:
        """Put the loop on the outer tape, and return its outputs."""
        step, tape, leaves = self._step, self._walk.tape, all_leaves(self._inputs)
        for shape, dtype in step.body.taps:
            step.taps.append(self._walk.add_tap((self._length, *shape), dtype))
        tape.uses += [replace(use, tap=step.taps[use.tap]) for use in self._uses]
        tape.steps.append(step)
        for position, variable in enumerate(self._eqn.outvars):
            linear, operand = self._linear_out[position], self._consts + position
            node = node_like(variable.aval, known=not linear, leaves=leaves if linear else frozenset())
            if self._is_carry(operand) and operand in self._kept:
                node.terms = list(self._inputs[operand].terms)
            else:
                node.live = linear
            step.outputs.append(node)
        return step.outputs

    def _is_carry(self, position: int) -> bool:
        return self._consts <= position < self._first_scanned

    def _comes_in_whole(self, position: int) -> bool:
        """Whether an operand is a view of one leaf and nothing else, and every turn of the body reads it as such."""
        node, jaxpr = self._inputs[position], self._closed.jaxpr
        if not single_bare(node):
            return False
        (term,) = node.terms
        if not term.whole or term.activation is not None or set(term.value) != set(term.weight):
            return False
        return not self._is_carry(position) or jaxpr.outvars[position - self._consts] is jaxpr.invars[position]

    def _inner(self, position: int) -> Node:
        """The operand as the body sees it."""
        outer, linear = self._inputs[position], self._linear[position]
        variable: Any = self._closed.jaxpr.invars[position]
        node = node_like(variable.aval, known=not linear, leaves=outer.leaves)
        if position in self._kept:
            (term,) = outer.terms
            inner = term if position < self._first_scanned else _of_one_turn(term)
            node.terms = [replace(inner, entry=position)]
        else:
            node.live = linear
        return node

    def _lift(self, term: Term) -> Term | None:
        (outer,) = self._inputs[term.entry].terms
        stride = None
        if term.entry >= self._first_scanned:
            stride = outer.view.strides[outer.weight.index(outer.value[0])]
        lifted = lift(term, stride, self._length, self._step.outside)
        return None if lifted is None else replace(lifted, entry=outer.entry)


def _of_one_turn(term: Term) -> Term:
    """The first part of a stacked leaf, in a value without the stacking axis."""
    axis = term.weight.index(term.value[0])
    keep = [a for a in range(len(term.weight)) if a != axis]
    view = View(term.view.offset, tuple(term.view.shape[a] for a in keep), tuple(term.view.strides[a] for a in keep))
    return replace(
        term, view=view, weight=tuple(term.weight[a] for a in keep), value=term.value[1:], windows=term.windows[1:]
    )

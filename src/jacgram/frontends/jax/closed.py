"""Sides whose f is a traced program with nothing closed over: equal programs can share what was made of one of them.

f is traced at each call, which costs a millisecond or two and sees a closure that was rebound. All that follows
(linearising, collecting uses, planning, compiling) depends on the traced program alone, and is kept by it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from jacgram.frontends.jax.execute import holds_tracer
from jacgram.frontends.jax.fingerprint import fingerprint, has_custom_rules
from jacgram.frontends.jax.program import output_leaves
from jacgram.frontends.jax.side import JaxSide
from jacgram.frontends.jax.trees import Partition, is_weak, type_of


@dataclass(frozen=True, slots=True)
class Traced:
    """A traced f on flat lists; see `jacgram.frontends.jax.program.Program`. Constants are the last held arrays."""

    f: Any
    partition: Partition
    has_examples: bool
    jaxpr: Jaxpr
    constants: int
    output_treedef: Any

    def batch(self, variable: Sequence[Any], held: Sequence[Any], x: Sequence[Any]) -> Any:
        if not self.has_examples:
            return self.one(variable, held, x)
        return jax.vmap(lambda leaves: self.one(variable, held, leaves))(list(x))

    def one(self, variable: Sequence[Any], held: Sequence[Any], x: Sequence[Any]) -> Any:
        split = len(held) - self.constants
        program = jaxpr_as_fun(ClosedJaxpr(self.jaxpr, list(held[split:])))
        return jax.tree.unflatten(self.output_treedef, program(*variable, *held[:split], *x))


def closed(side: JaxSide) -> tuple[JaxSide, Hashable] | None:
    """The side of the traced program, and a key equal for equal programs at points of equal shapes.

    None while values are being traced, and where f has differentiation rules of its own: those have no equality.
    """
    if holds_tracer(side.arrays()):
        return None
    specs = [type_of(array) for array in (*side.leaves, *side.held)]
    if side.has_examples:
        specs += [type_of(leaf, leaf.shape[1:]) for leaf in side.x]
    first, second = len(side.leaves), len(side.leaves) + len(side.held)

    def flat(*arrays: Any) -> list[Any]:
        return output_leaves(side.program.one(arrays[:first], arrays[first:second], arrays[second:]))[1]

    with jax.default_matmul_precision("highest"):
        traced = jax.make_jaxpr(flat)(*specs)
    if holds_tracer(traced.consts) or has_custom_rules(traced.jaxpr):
        return None
    program = Traced(
        side.program.f,
        side.program.partition,
        side.has_examples,
        traced.jaxpr,
        len(traced.consts),
        side.output_treedef,
    )
    counts = (len(side.held), len(traced.consts), len(side.x))
    key = (fingerprint(traced.jaxpr), counts, side.has_examples, side.n, side.paths, side.variable, side.outputs)
    weak = tuple(map(is_weak, side.arrays()))
    return replace(side, program=program, held=[*side.held, *traced.consts]), (key, weak)

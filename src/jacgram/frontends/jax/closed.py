"""Sides whose f is a traced program with nothing closed over: equal programs can share what was made of one of them.

f is traced at each call, which sees a closure that was rebound. All that follows (linearising, collecting uses,
planning, compiling) takes many times as long, depends on the traced program alone, and is kept by it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from jacgram.frontends.jax.custom_rules import rules_key
from jacgram.frontends.jax.execute import holds_tracer
from jacgram.frontends.jax.fingerprint import fingerprint
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


def closed(first: JaxSide, second: JaxSide) -> tuple[tuple[JaxSide, JaxSide], Hashable] | None:
    """Both sides as traced programs, and a key equal for equal programs at points of equal shapes.

    Sides that differ in their examples alone, or in how many there are, are traced once, and one program does for both;
    so it does where they turn out to be equal.

    None while values are being traced, and where f has differentiation rules of its own that cannot be told apart.
    """
    left = _traced(first)
    if left is None:
        return None
    if second is first:
        right = left
    elif not first.like(second):
        right = _traced(second)
    elif holds_tracer(second.arrays()):
        right = None
    else:
        right = replace(second, program=left[0].program, held=left[0].held), left[1]
    if right is None:
        return None
    (side1, program1), (side2, program2) = left, right
    keys = _key(program1, first), _key(program2, second)
    if keys[0] == keys[1] and side2 is not side1:
        side2 = side1.with_arrays(side2.arrays())
    return (side1, side2), keys


def _traced(side: JaxSide) -> tuple[JaxSide, Hashable] | None:
    """The side of the traced program, and a key of what it computes."""
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
        if holds_tracer(traced.consts) or (rules := rules_key(traced.jaxpr)) is None:
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
    key = (fingerprint(traced.jaxpr), rules, counts)
    return replace(side, program=program, held=[*side.held, *traced.consts]), key


def _key(program: Hashable, side: JaxSide) -> Hashable:
    weak = tuple(map(is_weak, side.arrays()))
    widest = jax.dtypes.canonicalize_dtype("float64")  # whether double precision is turned on
    return (program, side.has_examples, side.n, side.paths, side.variable, side.outputs, weak, widest)

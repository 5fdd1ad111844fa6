"""Uses inside ``cond`` and ``switch``: tapped in the branch that they are in.

Each branch gets taps of its own; those of a branch that is not taken have no effect, and so a zero cotangent.
Activations are computed inside their branch, and zero where it is not taken: what a branch guards against is never
computed outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jacgram.frontends.jax.linear.dependence import dependence
from jacgram.frontends.jax.linear.tape import Node, Tape, Values, read, tangent
from jacgram.frontends.jax.linear.terms import Deferred, Term
from jacgram.frontends.jax.linear.walk import Walk, all_leaves, constants, node_like, single_bare


def walk_cond(walk: Walk, eqn: JaxprEqn, inputs: list[Node]) -> list[Node]:
    """Walk over every branch of a ``cond``."""
    index, *operands = inputs
    branches: Sequence[ClosedJaxpr] = eqn.params["branches"]
    # What a leaf was multiplied by is known outside of the branches alone.
    leaves = [node for node in operands if single_bare(node) and node.terms[0].activation is None]
    for node in operands:
        if node not in leaves:
            walk.tap(node, None)
    linear = [not node.known for node in operands]
    linear_out = [any(each) for each in zip(*(dependence(b.jaxpr, linear) for b in branches), strict=True)]
    step = CondStep(index, operands, leaves, linear_out)
    for closed in branches:
        inner = [replace(node, terms=list(node.terms), fans_out=False) for node in operands]
        tape = walk.nested().run(closed.jaxpr, constants(closed), inner)
        branch = Branch(tape, inner, [walk.add_tap(shape, dtype) for shape, dtype in tape.taps])
        step.branches.append(branch)
        walk.tape.uses += [replace(use, term=branch.outside(use.term), tap=branch.taps[use.tap]) for use in tape.uses]
    walk.tape.steps.append(step)
    shared = all_leaves(operands)
    for variable, is_linear in zip(eqn.outvars, linear_out, strict=True):
        node = node_like(variable.aval, known=not is_linear, leaves=shared if is_linear else frozenset())
        node.live = is_linear
        step.outputs.append(node)
    return step.outputs


@dataclass(eq=False, slots=True)
class Branch:
    """One branch.

    Attributes:
        body: its tape.
        inner: the operands as it sees them.
        taps: per tap of the body, the tap outside.
        emitted: arrays that uses need, with the node each becomes outside.
    """

    body: Tape
    inner: list[Node]
    taps: list[int]
    emitted: list[tuple[Deferred, Node]] = field(default_factory=list[tuple[Deferred, Node]])

    def outside(self, term: Term) -> Term:
        """The term with its arrays as values of the program outside."""
        activation = None if term.activation is None else self._emit(term.activation)
        mask = None if term.mask is None else self._emit(term.mask)
        return replace(term, activation=activation, mask=mask)

    def _emit(self, deferred: Deferred) -> Deferred:
        if all(node.value is not None for node in deferred.nodes):
            return deferred
        node = Node((), None, known=True)
        self.emitted.append((deferred, node))
        return Deferred((node,), lambda value: value)


@dataclass(eq=False, slots=True)
class CondStep:
    """One ``cond``.

    Attributes:
        index: which branch is taken.
        operands: values that branches read.
        leaves: those of them that are leaves, whose uses are tapped inside.
        linear_out: which outputs are linear.
        branches: the branches.
        outputs: values outside.
    """

    index: Node
    operands: list[Node]
    leaves: list[Node]
    linear_out: list[bool]
    branches: list[Branch] = field(default_factory=list[Branch])
    outputs: list[Node] = field(default_factory=list[Node])

    def run_known(self, values: Values) -> None:
        known = [position for position, node in enumerate(self.operands) if node.known]
        results = [j for j, linear in enumerate(self.linear_out) if not linear]
        emitted = [node for branch in self.branches for _, node in branch.emitted]
        if not results and not emitted:
            return
        arrays = [read(values)(self.operands[position]) for position in known]

        def own(branch: Branch) -> Callable[..., tuple[list[Any], list[Any]]]:
            def compute(*arrays: Any) -> tuple[list[Any], list[Any]]:
                inside = dict(zip((branch.inner[position] for position in known), arrays, strict=True))
                inner = read(branch.body.run_known(inside))
                found = [jnp.asarray(deferred.read(inner)) for deferred, _ in branch.emitted]
                return [inner(branch.body.outputs[j]) for j in results], found

            return compute

        functions = [own(branch) for branch in self.branches]
        shapes = [jax.eval_shape(function, *arrays)[1] for function in functions]

        def padded(taken: int) -> Callable[..., tuple[list[Any], list[Any]]]:
            def compute(*arrays: Any) -> tuple[list[Any], list[Any]]:
                outputs, found = functions[taken](*arrays)
                zeros = [[jnp.zeros(s.shape, s.dtype) for s in each] for each in shapes]
                rows = [found if branch == taken else zeros[branch] for branch in range(len(functions))]
                return outputs, [array for row in rows for array in row]

            return compute

        outputs, found = jax.lax.switch(
            read(values)(self.index), [padded(taken) for taken in range(len(functions))], *arrays
        )
        values.update(zip((self.outputs[j] for j in results), outputs, strict=True))
        values.update(zip(emitted, found, strict=True))

    def run_live(self, known: Values, live: Values, taps: Sequence[Any]) -> None:
        held = [position for position, node in enumerate(self.operands) if node.known]
        flowing = [p for p, node in enumerate(self.operands) if not node.known and node not in self.leaves]
        results = [j for j, linear in enumerate(self.linear_out) if linear]
        tap_groups = [[taps[tap] for tap in branch.taps] for branch in self.branches]

        def compute(taken: int) -> Callable[..., list[Any]]:
            branch = self.branches[taken]

            def run(known_values: list[Any], live_values: list[Any], groups: list[list[Any]]) -> list[Any]:
                inside = dict(zip((branch.inner[p] for p in held), known_values, strict=True))
                moving = dict(zip((branch.inner[p] for p in flowing), live_values, strict=True))
                branch.body.run_known(inside)
                branch.body.run_live(inside, moving, groups[taken])
                return [tangent(branch.body.outputs[j], inside, moving) for j in results]

            return run

        found = jax.lax.switch(
            read(known)(self.index),
            [compute(taken) for taken in range(len(self.branches))],
            [read(known)(self.operands[p]) for p in held],
            [tangent(self.operands[p], known, live) for p in flowing],
            tap_groups,
        )
        live.update(zip((self.outputs[j] for j in results), found, strict=True))

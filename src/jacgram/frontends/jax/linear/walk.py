"""One pass over a linear jaxpr, that follows each leaf to where it is used and writes the tape.

At each equation, terms of its operands go through the equation's rule. Where there is no rule, or it declines, the
operand is tapped: the terms that were declined are accounted for, and the operand's cotangent will come from the live
pass. Every term ends in a tap, or the walk raises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jacgram.errors import UnsupportedError
from jacgram.frontends.jax.linear.dependence import called_jaxpr
from jacgram.frontends.jax.linear.rules import Site, find_rule
from jacgram.frontends.jax.linear.tape import Known, Live, Node, Tape, Tapped, Use
from jacgram.frontends.jax.linear.terms import Term
from jacgram.frontends.jax.products import while_loop_message

Structure = Callable[["Walk", JaxprEqn, list[Node]], list[Node]]


class Walk:
    """A tape in the making.

    Args:
        names: path of each leaf, for messages.
        structures: what to do with primitives that hold jaxprs and are more than a call, by name.
    """

    def __init__(self, names: Sequence[str], structures: dict[str, Structure]) -> None:
        self.names = names
        self.structures = structures
        self.tape = Tape()

    def nested(self) -> Walk:
        """A walk over a jaxpr inside an equation."""
        return Walk(self.names, self.structures)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Node], inputs: Sequence[Node], kept: Sequence[int] = ()) -> Tape:
        """The tape of a whole jaxpr: what its outputs hold is tapped, save the outputs at the positions ``kept``."""
        self.tape.inputs = list(inputs)
        self.tape.outputs = self.jaxpr(jaxpr, consts, inputs)
        for position, node in enumerate(self.tape.outputs):
            if position not in kept:
                self.tap(node, None)
        return self.tape

    def jaxpr(self, jaxpr: Jaxpr, consts: Sequence[Node], inputs: Sequence[Node]) -> list[Node]:
        """Walk over a jaxpr in place, and return the nodes of its outputs."""
        readers = Counter(v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal))
        readers.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
        env: dict[Any, Node] = {}

        def write(variable: Any, node: Node) -> None:
            env[variable] = node
            node.fans_out = node.fans_out or readers[variable] > 1

        for variable, node in zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs), strict=True):
            write(variable, node)
        for eqn in jaxpr.eqns:
            outputs = self.equation(eqn, [_read(env, v) for v in eqn.invars])
            for variable, node in zip(eqn.outvars, outputs, strict=True):
                write(variable, node)
        return [_read(env, v) for v in jaxpr.outvars]

    def equation(self, eqn: JaxprEqn, inputs: list[Node]) -> list[Node]:
        """Walk over one equation."""
        name = eqn.primitive.name
        if all(node.known for node in inputs):
            outputs = [node_like(v.aval, known=True) for v in eqn.outvars]
            self.tape.steps.append(Known(eqn, inputs, outputs))
            return outputs
        if name in self.structures:
            return self.structures[name](self, eqn, inputs)
        called = called_jaxpr(eqn)
        if called is not None:
            return self.jaxpr(called.jaxpr, constants(called), inputs)
        if name == "while":
            raise UnsupportedError(while_loop_message(self.leaf_names(inputs)))
        return self._linear(eqn, inputs)

    def tap(self, node: Node, reason: str | None) -> None:
        """End every term of a value. ``reason`` says which operation was in the way of a bare leaf, if one was."""
        if node.known or not node.terms:
            return
        index = self.add_tap(node.shape, node.dtype)
        self.tape.steps.append(Tapped(node, index))
        self.tape.uses += [Use(term, index, reason if term.bare and not node.live else None) for term in node.terms]
        node.terms, node.live = [], True

    def add_tap(self, shape: tuple[int, ...], dtype: Any) -> int:
        """A new tap's position."""
        self.tape.taps.append((shape, dtype))
        return len(self.tape.taps) - 1

    def leaf_names(self, nodes: Sequence[Node]) -> str:
        """Paths of the leaves that have a share in any of the values."""
        leaves = sorted({leaf for node in nodes for leaf in node.leaves})
        return ", ".join(repr(self.names[leaf]) for leaf in leaves)

    def _tap_repeated(self, eqn: JaxprEqn, inputs: list[Node], outputs: list[Node]) -> None:
        """Tap what stands at several positions, unless rules pass it at all of them: what is live is so at each."""
        name, at = eqn.primitive.name, dict[int, list[Site]]()
        for position, node in enumerate(inputs):
            at.setdefault(id(node), []).append(Site(name, eqn.params, position, inputs, outputs))
        for node in inputs:
            sites = at.pop(id(node), ())
            if len(sites) > 1 and any(_through_rule(term, site) is None for site in sites for term in node.terms):
                self.tap(node, f"{name} has no rule for it")

    def _linear(self, eqn: JaxprEqn, inputs: list[Node]) -> list[Node]:
        name, leaves = eqn.primitive.name, all_leaves(inputs)
        outputs = [node_like(v.aval, known=False, leaves=leaves) for v in eqn.outvars]
        self._tap_repeated(eqn, inputs, outputs)
        for position, node in enumerate(inputs):
            if node.known or not node.terms:
                continue
            if not single_bare(node) and node.fans_out:
                self.tap(node, None)
                continue
            site = Site(name, eqn.params, position, inputs, outputs)
            found = [(term, _through_rule(term, site)) for term in node.terms]
            refused = any(shares is None for _, shares in found) and all(term.bare for term in node.terms)
            passed = _kept_together(node, found)
            for output, share in (pair for _, shares in passed if shares for pair in zip(outputs, shares, strict=True)):
                output.terms += [] if share is None else [share]
            node.terms = [term for term, shares in passed if shares is None]
            self.tap(node, f"{name} has no rule for it" if refused else None)
            node.terms = [term for term, shares in passed if shares is not None]
        if any(node.live for node in inputs):
            self.tape.steps.append(Live(eqn, inputs, outputs))
            for output in outputs:
                output.live = True
        return outputs


def node_like(aval: Any, *, known: bool, leaves: frozenset[int] = frozenset()) -> Node:
    """A new value of this abstract value."""
    return Node(tuple(getattr(aval, "shape", ())), getattr(aval, "dtype", None), known, leaves=leaves)


def constants(closed: ClosedJaxpr) -> list[Node]:
    """Nodes of the arrays that a jaxpr holds."""
    nodes = [node_like(v.aval, known=True) for v in closed.jaxpr.constvars]
    for node, value in zip(nodes, closed.consts, strict=True):
        node.value = value
    return nodes


def single_bare(node: Node) -> bool:
    """Whether a value is one bare leaf and nothing else; then each of its readers may use it in its own way."""
    return not node.known and not node.live and len(node.terms) == 1 and node.terms[0].bare


def all_leaves(nodes: Sequence[Node]) -> frozenset[int]:
    """Every leaf that has a share in any of the values."""
    return frozenset(leaf for node in nodes for leaf in node.leaves)


def _read(env: dict[Any, Node], variable: Any) -> Node:
    if isinstance(variable, Literal):
        node = node_like(variable.aval, known=True)
        node.value = variable.val
        return node
    return env[variable]


Passed = tuple[Term, "list[Term | None] | None"]


def _kept_together(node: Node, passed: list[Passed]) -> list[Passed]:
    """Where one of several shares meets its activation, or is declined, what each does: vectors are then declined too.

    A bias thus ends where its layer's weight does, and both have one cotangent; going on alone, it would meet whatever
    follows (a mask, the next layer's weight) as an activation. A matrix goes on: it is part of a weight to come.
    """
    if not node.live and len(passed) == 1:
        return passed
    if not any(found is None or _met_activation(term, found) for term, found in passed):
        return passed
    return [(term, found if _matrix(term) else None) for term, found in passed]


def _met_activation(term: Term, found: list[Term | None]) -> bool:
    return any(share is not None and share.activation_labels != term.activation_labels for share in found)


def _matrix(term: Term) -> bool:
    return term.bare and set(term.value) == set(term.weight) and sum(size > 1 for size in term.view.shape) > 1


def _through_rule(term: Term, site: Site) -> list[Term | None] | None:
    rule = find_rule(site.primitive)
    result = None if rule is None else rule(term, site)
    if result is None:
        return None
    return [result] if isinstance(result, Term) else list(result)

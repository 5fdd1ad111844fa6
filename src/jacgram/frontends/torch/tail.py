"""The way back from the outputs, for as far as cotangents are a small core times a scale.

It goes from node to node of autograd's graph. What meets a node without a rule goes on from there as autograd has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.autograd.graph import GradientEdge, Node

from jacgram.frontends.torch.atoms import InAtoms
from jacgram.frontends.torch.nodes import consumers_first, leading_to
from jacgram.frontends.torch.tail_rules import RULES, Parts, Step
from jacgram.frontends.torch.tape import edge_key


@dataclass(frozen=True, slots=True)
class Tail:
    """How far cotangents stay small.

    Attributes:
        found: by `edge_key`, those of the edges asked for that were come to.
        starts: whence autograd goes on to the others, and with which cotangents.
    """

    found: dict[tuple[int, int], InAtoms]
    starts: list[tuple[GradientEdge, InAtoms]]


def tail_of(starts: Sequence[tuple[GradientEdge, InAtoms]], edges: Sequence[GradientEdge]) -> Tail:
    """Cotangents ``(s, *shape)`` of edges that are not far from these, whose own are given."""
    way = _Way([edge.node for edge, _ in starts], edges)
    for edge, value in starts:
        way.bring(edge.node, edge.output_nr, value)
    with torch.no_grad():
        return way.walked()


class _Way:
    """Cotangents on their way from node to node."""

    def __init__(self, roots: Sequence[Node], edges: Sequence[GradientEdge]) -> None:
        self._order = consumers_first(roots)  # which keeps them alive
        self._wanted = {edge_key(edge) for edge in edges}
        self._leading = leading_to(self._order, {node for node, _ in self._wanted})
        self._brought: dict[int, list[tuple[int, InAtoms]]] = {}
        self._left: set[int] = set()  # nodes that autograd brings something to
        self._tail = Tail({}, [])

    def bring(self, node: Node, place: int, value: InAtoms) -> None:
        """One cotangent more for an output of a node."""
        self._brought.setdefault(id(node), []).append((place, value))

    def walked(self) -> Tail:
        """Every node in turn."""
        for node in self._order:
            brought = self._brought.pop(id(node), [])
            if id(node) not in self._leading or not (brought or id(node) in self._left):
                continue
            if id(node) in self._left or not self._passed(node, brought):
                self._tail.starts.extend((GradientEdge(node, place), value) for place, value in _summed(brought))
                self._left |= {id(parent) for parent, _ in node.next_functions}
        return self._tail

    def _passed(self, node: Node, brought: Sequence[tuple[int, InAtoms]]) -> bool:
        """Whether what was brought has been found, and what follows from it brought to the nodes before."""
        if any(place for place, _ in brought):
            return False
        value = brought[0][1]
        for _, other in brought[1:]:
            total = value.plus(other)
            if total is None:
                return False
            value = total
        wanted = [id(parent) in self._leading for parent, _ in node.next_functions]
        parts = _parts(Step(node, value, wanted)) if any(wanted) else []
        if parts is None:
            return False
        if (id(node), 0) in self._wanted:
            self._tail.found[id(node), 0] = value
        for (parent, place), part in zip(node.next_functions, parts, strict=False):
            if parent is not None and part is not None and id(parent) in self._leading:
                self.bring(parent, place, part)
        return True


def _parts(step: Step) -> Parts | None:
    """By the node's rule, if it has one that holds."""
    rule = RULES.get(step.node.name())
    if rule is None or not step.keeps_dtype:
        return None
    try:
        return rule(step)
    except RuntimeError:  # what f computes anew on the way back was recorded under ``vmap``, and asks for it again
        return None


def _summed(brought: Sequence[tuple[int, InAtoms]]) -> list[tuple[int, InAtoms]]:
    """One cotangent for each output."""
    found: dict[int, InAtoms] = {}
    for place, value in brought:
        if place in found:
            before = found[place]
            value = before.plus(value) or InAtoms.of(before.whole() + value.whole())
        found[place] = value
    return list(found.items())

"""Nodes of autograd's graph: their order in a backward pass, and what they take of a tensor, where that is a part."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch.autograd.graph import Node

from jacgram.frontends.torch.compat import saved, signed

INDEX, RANGE = "SelectBackward0", "SliceBackward0"
"""Names of the nodes that take one entry of an axis, and some of them."""


def consumers_first(roots: Sequence[Node]) -> list[Node]:
    """All nodes that lead to these, each behind those that it leads to."""
    done: list[Node] = []
    seen: set[Node] = set()
    stack: list[tuple[Node, bool]] = [(root, False) for root in roots]
    while stack:
        node, is_left = stack.pop()
        if is_left:
            done.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack += [(parent, False) for parent, _ in node.next_functions if parent is not None]
    return done[::-1]


def leading_to(order: Sequence[Node], aims: Collection[int]) -> set[int]:
    """Ids of the nodes, consumers first, whose id is among the aims, and of those that lead to them."""
    found: set[int] = set()
    for node in reversed(order):
        if id(node) in aims or any(id(parent) in found for parent, _ in node.next_functions):
            found.add(id(node))
    return found


def taken(node: Node, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """What an `INDEX` or `RANGE` node takes of a tensor of this shape: the axis, the first entry, the end, the step."""
    axis = signed(saved(node, "dim")) % len(shape)
    size = shape[axis]

    def place(name: str, default: int) -> int:
        value = saved(node, name)  # of a range some callers leave it out
        at = default if value is None else signed(value)
        return min(max(at + size if at < 0 else at, 0), size)

    if node.name() == INDEX:
        return axis, place("index", 0), place("index", 0) + 1, 1
    return axis, place("start", 0), place("end", size), saved(node, "step")

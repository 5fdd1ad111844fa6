"""Nodes of autograd's graph in the order of a backward pass."""

from __future__ import annotations

from collections.abc import Sequence

from torch.autograd.graph import Node


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

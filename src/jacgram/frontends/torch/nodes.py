"""Nodes of autograd's graph: their order in a backward pass, which entries and axes they read, what they are given."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch.autograd.graph import Node

from jacgram.frontends.torch.compat import saved, signed

INDEX, RANGE = "SelectBackward0", "SliceBackward0"
"""Names of the nodes that take one entry of an axis, and some of them."""

PERMUTED, TRANSPOSED = "PermuteBackward0", "TransposeBackward0"
"""Names of the nodes that put axes in another order, and change two of them."""


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


def repeated(number: float, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """What a node is given in place of a cotangent, or makes it of: one number everywhere, without memory or seeds."""
    return torch.full((), number, dtype=like.dtype, device=like.device).expand(tuple(shape))


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


def order_before(node: Node, rank: int) -> tuple[int, ...]:
    """A node's axes as they lie in what it is made of: another order behind a `PERMUTED` or `TRANSPOSED` one alone."""
    axes = list(range(rank))
    if node.name() == PERMUTED:
        dims = [signed(axis) % rank for axis in saved(node, "dims")]
        return tuple(dims.index(axis) for axis in axes)
    if node.name() == TRANSPOSED:
        one, two = (signed(saved(node, name)) % rank for name in ("dim0", "dim1"))
        axes[one], axes[two] = two, one
    return tuple(axes)

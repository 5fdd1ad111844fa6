"""Which nodes of autograd's graph read a parameter, and how: products, sums and entrywise products of matrices.

Labels that begin with ``t`` name positions, among which the examples are; others name axes of the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.autograd.graph import Node

from jacgram.core.views import View
from jacgram.frontends.torch.compat import saved, signed, variable_of

Labels = tuple[str, ...]


class UnreadableGraphError(Exception):
    """A parameter is used in a way that its node does not tell."""


@dataclass(frozen=True, slots=True, eq=False)
class GraphReading:
    """How one node reads one leaf.

    Attributes:
        leaf: the leaf.
        node: the node, whose output the cotangent belongs to.
        view: which entries of the leaf it reads.
        weight_axes: labels of the view's axes.
        output: labels of the output's axes; None where the weight is broadcast to it.
        activation: the other operand, or None.
        activation_labels: labels of its axes; None where it is broadcast to the output.
        scale: factor of the use.
    """

    leaf: int
    node: Node
    view: View
    weight_axes: Labels
    output: Labels | None
    activation: torch.Tensor | None = None
    activation_labels: Labels | None = None
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The operation."""
        return self.node.name().removesuffix("Backward0").lower()

    def labels(self, shape: Sequence[int]) -> Labels:
        """Labels of the axes of an output of this shape."""
        if self.output is not None:
            return self.output
        first = len(shape) - len(self.weight_axes)
        return (*(f"t{axis}" for axis in range(first)), *self.weight_axes)

    @property
    def activation_axes(self) -> Labels:
        """Labels of the activation's axes that are the weight's, in the order of `activation_rows`."""
        if self.activation_labels is None:
            return self.weight_axes
        return tuple(x for x in self.activation_labels if not x.startswith("t"))

    def cotangent_axes(self, shape: Sequence[int]) -> Labels:
        """Labels of the cotangent's axes that are the weight's, in the order of `cotangent_rows`."""
        return tuple(x for x in self.labels(shape) if not x.startswith("t"))

    def cotangent_rows(self, cotangent: torch.Tensor) -> torch.Tensor:
        """``(s, *output)`` as ``(s, rows, *axes of the weight)``."""
        labels = self.labels(cotangent.shape[1:])
        positions = [1 + a for a, x in enumerate(labels) if x.startswith("t")]
        others = [1 + a for a, x in enumerate(labels) if not x.startswith("t")]
        arranged = cotangent.permute(0, *positions, *others)
        return arranged.reshape(len(cotangent), -1, *arranged.shape[1 + len(positions) :])

    def activation_rows(self, shape: Sequence[int]) -> torch.Tensor | None:
        """The activation as ``(rows, *axes of the weight)``, for an output of this shape."""
        if self.activation is None:
            return None
        labels, whole = self.labels(shape), self.activation
        positions = [x for x in labels if x.startswith("t")]
        if self.activation_labels is None:
            whole, own = whole.expand(tuple(shape)), labels
        else:
            own = self.activation_labels
        sizes = dict(zip(labels, shape, strict=True))
        for missing in (x for x in positions if x not in own):
            whole, own = whole.expand(sizes[missing], *whole.shape), (missing, *own)
        order = [own.index(x) for x in (*positions, *(x for x in own if not x.startswith("t")))]
        whole = whole.permute(order)
        return whole.reshape(math.prod(sizes[x] for x in positions), *whole.shape[len(positions) :])


def read_nodes(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], skipped: frozenset[int]
) -> tuple[list[GraphReading], dict[int, str]]:
    """Every reading of every leaf that is not in ``skipped``, and leaves used in nodes that are not known here."""
    consumers = _consumers([y.grad_fn for y in outputs if y.grad_fn is not None])
    index = {id(leaf): k for k, leaf in enumerate(leaves)}
    found: list[GraphReading] = []
    unread: dict[int, str] = {}
    for start in list(consumers):
        leaf = index.get(id(variable_of(start)))
        if leaf is None or leaf in skipped:
            continue
        try:
            found += _of_leaf(leaf, leaves[leaf], start, consumers)
        except UnreadableGraphError as error:
            unread[leaf] = str(error)
    return sorted(found, key=lambda reading: reading.leaf), unread


def _of_leaf(
    leaf: int, value: torch.Tensor, start: Node, consumers: dict[Node, list[tuple[Node, int]]]
) -> list[GraphReading]:
    found: list[GraphReading] = []
    stack: list[tuple[Node, torch.Tensor | None]] = [(start, torch.empty(value.shape, device="meta"))]
    while stack:
        node, meta = stack.pop()
        for consumer, position in consumers.get(node, []):
            if (step := _VIEWS.get(consumer.name())) is not None:
                stack.append((consumer, None if meta is None else step(consumer, meta)))
            elif consumer.name() in _PARTS:
                stack.append((consumer, None))
            else:
                found.append(_read(leaf, value, meta, consumer, position))
    return found


def _consumers(starts: Sequence[Node]) -> dict[Node, list[tuple[Node, int]]]:
    """By node, the nodes that its output goes into and at which place, in an order that the program alone decides."""
    found: dict[Node, list[tuple[Node, int]]] = {}
    stack, seen = list(starts), set(starts)
    while stack:
        node = stack.pop()
        for position, (parent, _) in enumerate(node.next_functions):
            if parent is not None:
                found.setdefault(parent, []).append((node, position))
                if parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
    return found


_VIEWS: dict[str, Callable[[Node, torch.Tensor], torch.Tensor]] = {
    "TBackward0": lambda _, meta: meta.t(),
    "TransposeBackward0": lambda node, meta: meta.transpose(_axis(node, "dim0"), _axis(node, "dim1")),
    "UnsqueezeBackward0": lambda node, meta: meta.unsqueeze(_axis(node, "dim")),
    "PermuteBackward0": lambda node, meta: meta.permute([signed(axis) for axis in saved(node, "dims")]),
    "AliasBackward0": lambda _, meta: meta,
    "CloneBackward0": lambda _, meta: meta,
    "ExpandBackward0": lambda _, meta: meta,  # what reads the weight sees how far it is expanded
}
"""Nodes that pass a weight on as a view of itself."""

_PARTS = ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SliceBackward0", "SelectBackward0")
"""Nodes that pass it on in a form that they do not tell in full; what reads it may have saved it."""


def _axis(node: Node, name: str) -> int:
    """A saved axis."""
    return signed(int(saved(node, name)))


def _read(leaf: int, value: torch.Tensor, meta: torch.Tensor | None, node: Node, position: int) -> GraphReading:
    reader = _READERS.get((node.name(), position))
    if reader is None:
        raise UnreadableGraphError(f"no reading for {node.name()}")
    operand = _saved_operand(node, position)
    if operand is not None and _shares(operand, value):
        view = _view(operand, -value.storage_offset())
    elif meta is not None:
        view = _view(meta)
    else:
        raise UnreadableGraphError(f"{node.name()} of a part of a weight that it did not save")
    return _without_repeats(reader(node, leaf, view))


def _view(tensor: torch.Tensor, shift: int = 0) -> View:
    return View(int(tensor.storage_offset()) + shift, tuple(tensor.shape), tuple(tensor.stride()))


def _shares(operand: torch.Tensor, leaf: torch.Tensor) -> bool:
    return operand.untyped_storage().data_ptr() == leaf.untyped_storage().data_ptr()


def _saved_operand(node: Node, position: int) -> torch.Tensor | None:
    """The weight itself where the node saved it: it then tells how the leaf is seen, whatever came between."""
    name = {"MmBackward0": ("self", "mat2"), "BmmBackward0": ("self", "mat2"), "AddmmBackward0": ("", "mat1", "mat2")}
    names = name.get(node.name(), ())
    return saved(node, names[position]) if position < len(names) and names[position] else None


def _without_repeats(reading: GraphReading) -> GraphReading:
    """An axis along which the weight is expanded is a position; of leading ones the view may know nothing."""
    view, axes = reading.view, reading.weight_axes
    missing = len(axes) - len(view.shape)
    pairs = zip(axes[missing:], view.shape, view.strides, strict=True)
    repeated = {x for x, size, stride in pairs if (stride == 0 and size > 1) or (size == 1 and x == "b")}
    kept = [a for a, x in enumerate(axes[missing:]) if x not in repeated]
    repeated |= set(axes[:missing])

    def names(labels: Labels | None) -> Labels | None:
        return None if labels is None else tuple(f"t{x}" if x in repeated else x for x in labels)

    return replace(
        reading,
        view=View(view.offset, tuple(view.shape[a] for a in kept), tuple(view.strides[a] for a in kept)),
        weight_axes=tuple(axes[missing + a] for a in kept),
        output=names(reading.output),
        activation_labels=names(reading.activation_labels),
    )


Reader = Callable[[Node, int, View], GraphReading]


def _product(out: Labels, weight: Labels, other: Labels, other_name: str) -> Reader:
    """A matrix product whose other operand was saved under a name."""

    def read(node: Node, leaf: int, view: View) -> GraphReading:
        activation = saved(node, other_name)
        if activation is None:
            raise UnreadableGraphError(f"{node.name()} did not save its operand")
        scale = saved(node, "alpha") if node.name() == "AddmmBackward0" else 1.0
        return GraphReading(leaf, node, view, weight, out, activation, other, float(scale))

    return read


def _broadcast(scale_name: str | None) -> Reader:
    """A sum, in which the weight is broadcast to the output along its last axes."""

    def read(node: Node, leaf: int, view: View) -> GraphReading:
        scale = 1.0 if scale_name is None else float(saved(node, scale_name))
        return _trailing(GraphReading(leaf, node, view, _axes(view), None, scale=scale))

    return read


def _entrywise(other_name: str) -> Reader:
    """An entrywise product with an operand saved under a name."""

    def read(node: Node, leaf: int, view: View) -> GraphReading:
        activation = saved(node, other_name)
        if activation is None:
            raise UnreadableGraphError(f"{node.name()} did not save its operand")
        return _trailing(GraphReading(leaf, node, view, _axes(view), None, activation))

    return read


def _axes(view: View) -> Labels:
    return tuple(f"k{axis}" for axis in range(len(view.shape)))


def _trailing(reading: GraphReading) -> GraphReading:
    """Leading axes of size one dropped, for they are broadcast; whether others are cannot be told."""
    view = reading.view
    first = next((a for a, size in enumerate(view.shape) if size != 1), len(view.shape))
    if 1 in view.shape[first:]:
        raise UnreadableGraphError(f"{reading.name} with a weight broadcast along an axis within")
    kept = View(view.offset, view.shape[first:], view.strides[first:])
    return replace(reading, view=kept, weight_axes=reading.weight_axes[first:])


_READERS: dict[tuple[str, int], Reader] = {
    ("MmBackward0", 0): _product(("k", "t"), ("k", "i"), ("i", "t"), "mat2"),
    ("MmBackward0", 1): _product(("t", "k"), ("i", "k"), ("t", "i"), "self"),
    ("AddmmBackward0", 0): _broadcast("beta"),
    ("AddmmBackward0", 1): _product(("k", "t"), ("k", "i"), ("i", "t"), "mat2"),
    ("AddmmBackward0", 2): _product(("t", "k"), ("i", "k"), ("t", "i"), "mat1"),
    ("BmmBackward0", 0): _product(("b", "k", "t"), ("b", "k", "i"), ("b", "i", "t"), "mat2"),
    ("BmmBackward0", 1): _product(("b", "t", "k"), ("b", "i", "k"), ("b", "t", "i"), "self"),
    ("AddBackward0", 0): _broadcast(None),
    ("AddBackward0", 1): _broadcast("alpha"),
    ("MulBackward0", 0): _entrywise("other"),
    ("MulBackward0", 1): _entrywise("self"),
}
"""By node and place of the weight among its inputs."""

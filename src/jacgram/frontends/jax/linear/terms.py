"""Terms: one leaf's share in one value of the linear program, as an einsum not yet taken.

A value u̇ of the linear program is a sum of terms and of a live rest. A term says

    u̇[value] += Σ activation[activation_labels] · leaf[view][weight]

summed over labels that ``value`` lacks. A bare leaf is a term without activation; a broadcast gives its value labels
that are not weight labels; a product with a residual gives it an activation. The cotangent of u̇ is then all that is
missing from a `Use`: a term ends where a **tap** on its value asks for that cotangent.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jacgram.core.uses import Conv, Gather
from jacgram.core.views import View

_numbers = itertools.count()


def fresh(count: int) -> tuple[str, ...]:
    """Labels never used before. Records get canonical ones in the end."""
    return tuple(f"l{next(_numbers)}" for _ in range(count))


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """A known array, to be computed from values of the program once these are there.

    Attributes:
        nodes: the values it needs.
        compute: from their arrays to the array.
    """

    nodes: tuple[Any, ...]
    compute: Callable[..., Any]

    def map(self, function: Callable[[Any], Any]) -> Deferred:
        """A function of this array."""
        return Deferred(self.nodes, lambda *values: function(self.compute(*values)))

    def with_other(self, other: Deferred, function: Callable[[Any, Any], Any]) -> Deferred:
        """A function of this array and another."""
        split = len(self.nodes)

        def compute(*values: Any) -> Any:
            return function(self.compute(*values[:split]), other.compute(*values[split:]))

        return Deferred((*self.nodes, *other.nodes), compute)

    def read(self, read: Callable[[Any], Any]) -> Any:
        """The array."""
        return self.compute(*(read(node) for node in self.nodes))


@dataclass(frozen=True, slots=True)
class Window:
    """Part of a value's axis: ``size`` entries from ``start`` in steps of ``step``."""

    start: int
    size: int
    step: int = 1

    @property
    def slice(self) -> slice:
        """As a Python slice."""
        return slice(self.start, self.start + (self.size - 1) * self.step + 1 if self.size else self.start, self.step)


@dataclass(frozen=True, slots=True, eq=False)
class Term:
    """One leaf's share in one value (module docstring).

    Attributes:
        leaf: position of the leaf.
        view: which entries of the leaf.
        weight: labels of the view's axes.
        value: labels of the value's axes.
        windows: per axis of the value, the part of it that the term lives in; None for all of it.
        activation: the known factor, or None.
        activation_labels: labels of its axes; ``()`` for a scalar factor.
        kind: `Conv` or `Gather` where the term is no einsum; ``activation`` is then as that kind wants it.
        canonical: with a kind, labels of the cotangent's axes in the order that kind wants.
        mask: with a kind, a factor of the cotangent, of the axes ``canonical`` starts with.
        entry: inside a loop, the position of the loop's operand that the term came in by.
    """

    leaf: int
    view: View
    weight: tuple[str, ...]
    value: tuple[str, ...]
    windows: tuple[Window | None, ...]
    activation: Deferred | None = None
    activation_labels: tuple[str, ...] = ()
    kind: Conv | Gather | None = None
    canonical: tuple[str, ...] = ()
    mask: Deferred | None = None
    entry: int = -1

    @staticmethod
    def of_leaf(leaf: int, shape: Sequence[int]) -> Term:
        """A whole leaf, as it is."""
        labels = fresh(len(shape))
        return Term(leaf, View.of(shape), labels, labels, (None,) * len(shape))

    @property
    def bare(self) -> bool:
        """Whether the leaf has met no residual yet but a scalar: views, broadcasts and scalings of it are bare."""
        return self.kind is None and not self.activation_labels

    @property
    def whole(self) -> bool:
        """Whether the term fills its value."""
        return not any(self.windows)

    def with_value(self, value: Sequence[str], windows: Sequence[Window | None] | None = None) -> Term:
        """The term with other value labels, over the whole of each axis unless windows are given."""
        return replace(self, value=tuple(value), windows=tuple(windows or (None,) * len(value)))

    def scaled(self, factor: Deferred) -> Term:
        """A bare term times a scalar."""
        scalar = factor if self.activation is None else self.activation.with_other(factor, lambda a, b: a * b)
        return replace(self, activation=scalar)

    def without_weight(self, label: str) -> Term:
        """The term without a weight axis of size one."""
        axis = self.weight.index(label)
        keep = [a for a in range(len(self.weight)) if a != axis]
        view = View(
            self.view.offset, tuple(self.view.shape[a] for a in keep), tuple(self.view.strides[a] for a in keep)
        )
        return replace(self, view=view, weight=tuple(self.weight[a] for a in keep))

    def without_activation_axis(self, label: str) -> Term:
        """The term without an axis of size one of its activation."""
        axis = self.activation_labels.index(label)
        return self.with_activation(
            lambda a: a.squeeze(axis), [name for name in self.activation_labels if name != label]
        )

    def with_activation(self, function: Callable[[Any], Any], labels: Sequence[str]) -> Term:
        """The term with a function of its activation."""
        assert self.activation is not None
        return replace(self, activation=self.activation.map(function), activation_labels=tuple(labels))

    def times(self, residual: Deferred, labels: Sequence[str], kept: Sequence[str], windows: Sequence[Any]) -> Term:
        """A bare term times a known array, summed over labels that ``kept``, the new value, lacks.

        Labels of the array that are in neither the weight nor the new value are summed at once.
        """
        summed = tuple(axis for axis, label in enumerate(labels) if label not in kept and label not in self.weight)
        left = tuple(label for axis, label in enumerate(labels) if axis not in summed)
        array = residual.map(lambda a: a.sum(summed)) if summed else residual
        if self.activation is not None:
            array = array.with_other(self.activation, lambda a, scalar: a * scalar)
        return replace(self, activation=array, activation_labels=left, value=tuple(kept), windows=tuple(windows))

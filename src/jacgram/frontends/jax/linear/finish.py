"""From terms and the cotangents of their taps to records, whose labels and axes are those of `jacgram.core.uses`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax.numpy as jnp

from jacgram.arrays.folding import folding
from jacgram.arrays.jax import JaxArrays
from jacgram.core.uses import Einsum, Gather, Identity, Kind
from jacgram.frontends.jax.linear.factored import Factored
from jacgram.frontends.jax.linear.tape import Node, Use
from jacgram.frontends.jax.linear.terms import Deferred
from jacgram.frontends.jax.records import Record, Recording


def finish(uses: Sequence[Use], cotangents: Sequence[Factored], read: Callable[[Node], Any], outputs: int) -> Recording:
    """The records of one example.

    Args:
        uses: every term and its tap.
        cotangents: per tap, ``(s, *value)``.
        read: values of known nodes.
        outputs: entries of the outputs.
    """
    operands = _Operands(cotangents, read, outputs)
    records = tuple(_record(use, operands, alone=_is_alone(use, uses)) for use in uses)
    return Recording(records, operands.activations, operands.cotangents)


def _is_alone(use: Use, uses: Sequence[Use]) -> bool:
    """Whether no other use reads an entry that this one reads."""
    mine, view = use.term.leaf, use.term.view
    return not any(other is not use and other.term.leaf == mine and view.overlaps(other.term.view) for other in uses)


class _Operands:
    """Arrays of the records, each made once."""

    def __init__(self, taps: Sequence[Factored], read: Callable[[Node], Any], outputs: int) -> None:
        self._taps = taps
        self._read = read
        self._made: dict[Hashable, int] = {}
        self.outputs = outputs
        self.activations: list[Any] = []
        self.cotangents: list[Any] = []

    def read(self, deferred: Deferred) -> Any:
        return deferred.read(self._read)

    def activation(self, array: Any) -> int:
        return self._keep(self.activations, ("a", id(array)), lambda: array)

    def cotangent(self, use: Use, order: Sequence[int], factor: Deferred | None) -> int:
        """The tap's cotangent in the term's window, its axes in this order, axes left out being of size one."""
        windows, order = use.term.windows, tuple(order)

        def make() -> Any:
            array = self._taps[use.tap].whole
            if any(windows):
                array = array[(slice(None), *(slice(None) if w is None else w.slice for w in windows))]
            array = _arranged(array, order)
            return array if factor is None else _times(array, self.read(factor))

        return self._keep(self.cotangents, ("g", use.tap, windows, order, factor), make)

    def core(self, use: Use, order: Sequence[int]) -> int:
        """The core alone of the tap's cotangent, whole along these axes, along others repeated."""

        def make() -> Any:
            tap = self._taps[use.tap]
            shape = [tap.shape[axis] if axis in (0, *(1 + x for x in order)) else 1 for axis in range(len(tap.shape))]
            return _arranged(jnp.broadcast_to(tap.core, shape), order)

        return self._keep(self.cotangents, ("c", use.tap, tuple(order)), make)

    def factored(self, use: Use) -> Factored:
        """The tap's cotangent."""
        return self._taps[use.tap]

    def shape_of(self, use: Use) -> list[int]:
        """Sizes of the value's axes, in the term's window."""
        shape = self._taps[use.tap].shape[1:]
        return [n if w is None else w.size for n, w in zip(shape, use.term.windows, strict=True)]

    def _keep(self, arrays: list[Any], key: Hashable, make: Callable[[], Any]) -> int:
        if key not in self._made:
            self._made[key] = len(arrays)
            arrays.append(make())
        return self._made[key]


def _arranged(array: Any, order: Sequence[int]) -> Any:
    """The axes after the first in this order; those left out are of size one."""
    left_out = [1 + axis for axis in range(array.ndim - 1) if axis not in order]
    moved = array.transpose((0, *(1 + axis for axis in order), *left_out))
    return moved.reshape(moved.shape[: 1 + len(order)])


def _times(cotangent: Any, factor: Any) -> Any:
    """A cotangent ``(s, …)`` times a factor of the axes that follow ``s``, or a scalar."""
    if not hasattr(factor, "ndim"):
        return cotangent * factor
    return cotangent * factor.reshape((*factor.shape, *(1,) * (cotangent.ndim - 1 - factor.ndim)))


def _record(use: Use, operands: _Operands, *, alone: bool) -> Record:
    term = use.term
    if term.kind is not None:
        return _of_kind(use, operands, alone=alone)
    if use.reason is not None and set(term.value) == set(term.weight):
        view = term.view.transpose([term.weight.index(label) for label in term.value])
        cotangent = operands.cotangent(use, range(len(term.value)), term.activation)
        return Record(term.leaf, view, Identity(use.reason), None, cotangent)
    return _einsum(use, operands, alone=alone)


def _of_kind(use: Use, operands: _Operands, *, alone: bool) -> Record:
    """A convolution as it is; a gather without positions of size one, save a last one."""
    term, kind = use.term, use.term.kind
    assert term.activation is not None and kind is not None
    array = operands.read(term.activation)
    order, mask = [term.value.index(label) for label in term.canonical], term.mask
    if isinstance(kind, Gather):
        kept = [axis for axis in range(kind.positions) if array.shape[axis] != 1] or list(range(min(kind.positions, 1)))
        sizes = [array.shape[axis] for axis in kept]
        order = [order[axis] for axis in kept] + order[kind.positions :]
        array, kind = array.reshape(sizes), Gather(len(kept))
        mask = None if mask is None else mask.map(lambda m: m.reshape(sizes) if getattr(m, "ndim", 0) else m)
    if alone and mask is None and (folded := _folded(use, operands, kind, array, order)) is not None:
        return folded
    return Record(term.leaf, term.view, kind, operands.activation(array), operands.cotangent(use, order, mask))


def _einsum(use: Use, operands: _Operands, *, alone: bool) -> Record:
    term = use.term
    array = None if term.activation is None else operands.read(term.activation)
    order, activation_labels = list(range(len(term.value))), term.activation_labels
    sizes = dict(zip(term.value, operands.shape_of(use), strict=True))
    ones = [label for label in term.value if label not in term.weight and sizes[label] == 1]
    order = [axis for axis in order if term.value[axis] not in ones]
    if array is not None and any(label in ones for label in activation_labels):
        kept = [axis for axis, label in enumerate(activation_labels) if label not in ones]
        array = array.reshape([array.shape[axis] for axis in kept])
        activation_labels = tuple(activation_labels[axis] for axis in kept)
    value = tuple(term.value[axis] for axis in order)
    names = _names(term.weight, (*value, *activation_labels))
    kind = Einsum(
        None if array is None else tuple(names[label] for label in activation_labels),
        tuple(names[label] for label in value),
        tuple(names[label] for label in term.weight),
    )
    if alone and (folded := _folded(use, operands, kind, array, order)) is not None:
        return folded
    activation = None if array is None else operands.activation(array)
    return Record(term.leaf, term.view, kind, activation, operands.cotangent(use, order, None))


_FOLDED = ("float32", "float64", "complex64", "complex128")  # whose sums over positions keep their digits


def _folded(use: Use, operands: _Operands, kind: Kind, array: Any, order: Sequence[int]) -> Record | None:
    """The use with all of its cotangent that has no seeds in its activation, where that makes it smaller."""
    tap = operands.factored(use)
    is_exact = all(str(a.dtype) in _FOLDED for a in (tap.core, array) if a is not None)
    if not (tap.is_small and use.term.whole and is_exact):
        return None
    out_shape = [tap.shape[1 + axis] for axis in order]
    scale = tap.one
    found = folding(
        kind,
        use.term.view.shape,
        None if array is None else array.shape,
        out_shape,
        repeated=[at for at, axis in enumerate(order) if tap.core.shape[1 + axis] != tap.shape[1 + axis]],
        scaled=[at for at, axis in enumerate(order) if scale.shape[1 + axis] != 1],
        outputs=operands.outputs,
    )
    if found is None:
        return None
    activation = found.fold(JaxArrays(), None if array is None else array[None], _arranged(scale, order))[0]
    core = operands.core(use, [order[at] for at in found.kept])
    return Record(use.term.leaf, use.term.view, found.after, operands.activation(activation), core)


def _names(weight: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    """Canonical labels: ``w0, w1, …`` of the view's axes, ``p0, p1, …`` of positions in order of appearance."""
    names = {label: f"w{axis}" for axis, label in enumerate(weight)}
    for label in labels:
        if label not in names:
            names[label] = f"p{len(names) - len(weight)}"
    return names

"""Rules of primitives that read a leaf by index: embeddings, and slices at places that the data decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.lax import GatherScatterMode

from jacgram.core.uses import Gather
from jacgram.frontends.jax.linear.rules.parts import narrow
from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Deferred, Term, Window, fresh

_INDEX_LIMIT = 2**31


def dynamic_slice(term: Term, site: Site) -> Term | None:
    """A slice: a view where its place is written in the program, rows read by index where it is computed."""
    sizes = site.params["slice_sizes"]
    starts = [_static_start(site, axis, size) for axis, size in enumerate(sizes)]
    windows = [
        Window(0, full) if start is None else Window(start, size)
        for start, size, full in zip(starts, sizes, site.shape, strict=True)
    ]
    narrowed = narrow(term, site.shape, windows)
    moving = [axis for axis, start in enumerate(starts) if start is None]
    if narrowed is None or not moving:
        return narrowed
    knowns = [site.known(axis + 1) for axis in moving]
    if None in knowns:
        return None
    limits = [site.shape[axis] - sizes[axis] for axis in moving]

    def indices(*starts: Any) -> list[Any]:
        along = _iotas([sizes[axis] for axis in moving])
        clamped = [jnp.clip(start.astype(jnp.int32), 0, limit) for start, limit in zip(starts, limits, strict=True)]
        return [start + iota for start, iota in zip(clamped, along, strict=True)]

    labels = fresh(len(sizes))
    found = Deferred(tuple(node for known in knowns if known is not None for node in known.nodes), indices)
    kept = [axis for axis in range(len(sizes)) if axis not in moving]
    return _rows(
        narrowed, moving, found, labels, [labels[a] for a in moving], {axis: labels[axis] for axis in kept}, None
    )


def gather(term: Term, site: Site) -> Term | None:
    """``table[indices]``, with any index axes, slices and batch axes, as rows of one flattened table."""
    known = site.known(1) if site.position == 0 else None
    if known is None:
        return None
    plan = _GatherPlan(site)
    return _rows(
        term, plan.indexed, known.map(plan.indices), plan.labels, plan.positions, plan.features, plan.mask(known)
    )


def _static_start(site: Site, axis: int, size: int) -> int | None:
    """Where the slice starts along an axis, clamped as `jax.lax.dynamic_slice` does; None where that is computed."""
    room = site.shape[axis] - size
    start = 0 if room == 0 else site.static(axis + 1)
    return None if start is None else max(0, min(start, room))


def _rows(
    term: Term,
    indexed: Sequence[int],
    indices: Deferred,
    labels: Sequence[str],
    positions: Sequence[str],
    features: dict[int, str],
    mask: Deferred | None,
) -> Term | None:
    """The term as rows of a table, flattened over the indexed axes; None where that is no view of a leaf.

    Args:
        term: the bare table.
        indexed: its axes that are read by index.
        indices: per indexed axis an array over the positions.
        labels: the output's axes.
        positions: those that are positions, in the order of the index arrays' axes.
        features: label in the output of each axis that is not indexed.
        mask: one where an index is in range, over the positions; None where all are.
    """
    if not (term.bare and term.whole and set(term.value) == set(term.weight)):
        return None
    order = [term.weight.index(term.value[axis]) for axis in (*indexed, *features)]
    view = term.view.transpose(order)
    sizes = view.shape[: len(indexed)]
    table = view.reshape((math.prod(sizes), *view.shape[len(indexed) :]))
    if table is None or math.prod(sizes) >= _INDEX_LIMIT:
        return None

    def flat(arrays: Sequence[Any]) -> Any:
        index = jnp.zeros((), jnp.int32)
        for size, array in zip(sizes, arrays, strict=True):
            index = index * size + array
        return index

    factor = _product(mask, term.activation)
    return replace(
        term,
        view=table,
        weight=(),
        value=tuple(labels),
        windows=(None,) * len(labels),
        activation=indices.map(flat),
        kind=Gather(len(positions)),
        canonical=(*positions, *features.values()),
        mask=factor,
    )


def _product(mask: Deferred | None, scale: Deferred | None) -> Deferred | None:
    if mask is None or scale is None:
        return mask or scale
    return mask.with_other(scale, lambda m, s: m * s)


def _iotas(sizes: Sequence[int]) -> list[Any]:
    """Counts along each of these axes, broadcasting against each other."""
    rank = len(sizes)
    return [
        jnp.arange(size, dtype=jnp.int32).reshape((1,) * axis + (size,) + (1,) * (rank - 1 - axis))
        for axis, size in enumerate(sizes)
    ]


class _GatherPlan:
    """The axes of one gather, by the part they play.

    Operand axes are indexed (a row is chosen along them: collapsed, batching or sliced ones) or features (whole).
    Output axes are positions (batch axes of the indices, and sliced axes) or features.
    """

    def __init__(self, site: Site) -> None:
        self._numbers: Any = site.params["dimension_numbers"]
        self._sizes: Sequence[int] = site.params["slice_sizes"]
        self._full = site.shape
        self._mode: Any = site.params["mode"]
        self._dtype = site.outputs[0].dtype
        self.labels = fresh(len(site.out_shape))
        gone = {*self._numbers.collapsed_slice_dims, *self._numbers.operand_batching_dims}
        offsets = [axis for axis in range(len(self._full)) if axis not in gone]
        self._offset_of = dict(zip(offsets, sorted(self._numbers.offset_dims), strict=True))
        self.indexed = [a for a in range(len(self._full)) if a in gone or self._sizes[a] != self._full[a]]
        self.features = {a: self.labels[at] for a, at in self._offset_of.items() if a not in self.indexed}
        self._batch = [a for a in range(len(site.out_shape)) if a not in self._numbers.offset_dims]
        self._sliced = [axis for axis in self.indexed if axis in self._offset_of]
        self.positions = [self.labels[a] for a in (*self._batch, *(self._offset_of[axis] for axis in self._sliced))]
        self._position_sizes = [site.out_shape[a] for a in self._batch] + [self._sizes[a] for a in self._sliced]

    def indices(self, starts: Any) -> list[Any]:
        """Per indexed axis its index at each position, in range."""
        iotas = _iotas(self._position_sizes)
        return [jnp.broadcast_to(self._index(axis, starts, iotas), self._position_sizes) for axis in self.indexed]

    def mask(self, known: Deferred) -> Deferred | None:
        """One where every start is in range, over the positions; None where the mode reads something anyway."""
        if self._mode != GatherScatterMode.FILL_OR_DROP:
            return None

        def compute(starts: Any) -> Any:
            limits = [self._full[axis] - self._sizes[axis] for axis in self._numbers.start_index_map]
            largest = jnp.iinfo(starts.dtype).max  # beyond which there is no index to compare with
            inside = ((starts >= 0) & (starts <= jnp.asarray(np.minimum(limits, largest), starts.dtype))).all(-1)
            spread = inside.reshape(inside.shape + (1,) * len(self._sliced))
            return jnp.broadcast_to(spread, self._position_sizes).astype(self._dtype)

        return known.map(compute)

    def _index(self, axis: int, starts: Any, iotas: Sequence[Any]) -> Any:
        numbers = self._numbers
        index = jnp.zeros((1,) * len(iotas), jnp.int32)
        if axis in numbers.start_index_map:
            start = starts[..., numbers.start_index_map.index(axis)]
            clamped = jnp.clip(start, 0, self._full[axis] - self._sizes[axis]).astype(jnp.int32)
            index = index + clamped.reshape(clamped.shape + (1,) * len(self._sliced))
        if axis in numbers.operand_batching_dims:
            index = index + iotas[numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(axis)]]
        if axis in self._sliced:
            index = index + iotas[len(self._batch) + self._sliced.index(axis)]
        return index

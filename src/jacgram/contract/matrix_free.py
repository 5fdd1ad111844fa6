"""The matrix-free kernel: rows of side 2 pulled back in blocks, and pushed forward through side 1.

For a block of examples of side 2 and of their seeds, J2ᵀ e is a block of vectors shaped as the variable, and J1 (J2ᵀ e)
a few columns of the kernel for the examples of side 1. The pattern is applied to those columns at once, so that neither
a Jacobian nor an unwanted part of the kernel is held.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, einsum
from jacgram.contract.hermitian import adjoint, swapped, symmetrize
from jacgram.contract.loops import over_blocks
from jacgram.core.dtypes import real_dtype
from jacgram.core.frontend import Side
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the kernel a block of seeds stands for.

    Seeds span the kept axes of one output of side 2. A block fixes all of them but the last, of which it takes a range.

    Attributes:
        index: (label, position) of the fixed axes; positions may be traced.
        last: label of the last kept axis, or None where none is kept.
        start: first position along it.
        size: positions along it.
    """

    index: tuple[tuple[str, Any], ...]
    last: str | None
    start: Any
    size: int


@dataclass(frozen=True, slots=True)
class MatrixFreeKernel:
    """One matrix-free computation. Attributes as in `jacgram.contract.structured.StructuredKernel`."""

    xp: Arrays
    sides: tuple[Side, Side]
    task: Task
    plan: Plan
    conjugate: bool
    real_part: bool
    by_leaf: bool

    def compute(self) -> list[list[Any]]:
        """Per pair of outputs (row-major), the kernel; with ``by_leaf``, that of each leaf in turn."""
        copies = len(self.task.leaves) if self.by_leaf else 1
        like = self.sides[0].arrays()[0]
        buffers = [
            [self.xp.zeros(pair.wanted.shape, self._dtype, like) for _ in range(copies)] for pair in self.task.pairs
        ]
        if self.sides[0].n and self.sides[1].n:
            for output2 in dict.fromkeys(pair.output2 for pair in self.task.pairs):
                buffers = self._output(output2, buffers)
        if not self.task.hermitian or self._mirrors:
            return buffers
        return symmetrize(self.xp, self.task, buffers, None, conjugate=self.conjugate)

    @property
    def _mirrors(self) -> bool:
        """Whether halves of each block and of its adjoint are added, as where every entry comes from one block."""
        return self.task.triangle and self.task.added_once

    @property
    def _dtype(self) -> str:
        return real_dtype(self.task.dtype) if self.real_part else self.task.dtype

    def _first(self, output2: int) -> Wanted:
        """What is wanted of an output of side 2 with some output of side 1: its seeds are the same with any."""
        return next(pair.wanted for pair in self.task.pairs if pair.output2 == output2)

    def _output(self, output2: int, buffers: list[list[Any]]) -> list[list[Any]]:
        """Adds the columns of one output of side 2: blocks of examples, fixed indices, blocks of the last axis."""
        wanted = self._first(output2)
        sizes = dict(wanted.sizes)
        *leading, last = wanted.seeds2 or (None,)
        lead_sizes = [sizes[x] for x in leading]
        last_size = 1 if last is None else sizes[last]

        def examples(m: Any, count: int, carry: Any) -> Any:
            side2 = self.sides[1].examples(m, count) if wanted.examples else self.sides[1]

            def fixed(q: Any, _: int, c: Any) -> Any:
                index = tuple(zip(leading, _unravel(q, lead_sizes), strict=True))

                def block(start: Any, size: int, inner: Any) -> Any:
                    return self._columns(output2, side2, m, Columns(index, last, start, size), inner)

                return over_blocks(self.xp, last_size, min(self.plan.block, last_size), block, c)

            return over_blocks(self.xp, math.prod(lead_sizes), 1, fixed, carry)

        return over_blocks(self.xp, self.sides[1].n, self.plan.tile[1], examples, buffers)

    def _columns(
        self, output2: int, side2: Side, m: Any, columns: Columns, buffers: list[list[Any]]
    ) -> list[list[Any]]:
        """Adds the columns of one block: rows of side 2 through side 1, tile by tile of its examples."""
        rows = self._rows(output2, side2, columns)
        paired = self._first(output2).paired

        def tile(start: Any, size: int, carry: Any) -> Any:
            side1 = self.sides[0].examples(start, size) if self.sides[0].has_examples else self.sides[0]
            for position, tangents in enumerate(self._tangents(rows)):
                carry = self._push(output2, side1, tangents, start, m, columns, carry, position)
            return carry

        if paired:
            return tile(m, side2.n, buffers)
        return over_blocks(self.xp, self.sides[0].n, self.plan.tile[0], tile, buffers)

    def _rows(self, output2: int, side2: Side, columns: Columns) -> list[Any]:
        """J2ᵀ of the block: per leaf of the variable, ``(n, seeds, *leaf)``."""
        like = side2.arrays()[0]
        seeds: list[Any] = []
        for position, struct in enumerate(side2.outputs):
            axes = struct.shape[1:] if side2.has_examples else struct.shape
            block = self._seed_block(self._first(output2), axes, columns, like) if position == output2 else None
            seeds.append(self.xp.zeros((0, *axes), "float32", like) if block is None else block)
        uses = {use.leaf: use.cotangent for use in side2.uses(seeds, structured=False)}
        shapes = [struct.shape for _, struct in self.task.leaves]
        zeros = [(side2.n, columns.size, *shape) for shape in shapes]
        rows = [
            uses[k] if k in uses else self.xp.zeros(shape, self.task.leaves[k][1].dtype, like)
            for k, shape in enumerate(zeros)
        ]
        return [self.xp.conj(row) for row in rows] if self.conjugate else rows

    def _seed_block(self, wanted: Wanted, axes: Sequence[int], columns: Columns, like: Any) -> Any:
        """One-hot along the fixed axes and along the block's range of the last, ones along summed axes."""
        labels = wanted.right[wanted.examples :]
        block = self.xp.asarray(np.ones((columns.size, *axes), np.float32), like)
        fixed = dict(columns.index)
        for axis, label in enumerate(labels):
            if label not in fixed and label != columns.last:
                continue
            shape = [1] * (len(axes) + 1)
            shape[axis + 1] = axes[axis]
            position = self.xp.asarray(np.arange(axes[axis]).reshape(shape), like)
            if label == columns.last:
                rows = np.arange(columns.size).reshape(-1, *[1] * len(axes))
                wanted_position = self.xp.asarray(rows, like) + columns.start
            else:
                wanted_position = fixed[label]
            block = block * self.xp.equal(position, wanted_position, "float32")
        return block

    def _tangents(self, rows: list[Any]) -> list[list[Any]]:
        """The rows of all leaves; with ``by_leaf``, of one leaf at a time, the others zero."""
        if not self.by_leaf:
            return [rows]
        return [[row if k == leaf else row * 0 for k, row in enumerate(rows)] for leaf in range(len(rows))]

    def _push(
        self,
        output2: int,
        side1: Side,
        tangents: list[Any],
        start: Any,
        m: Any,
        columns: Columns,
        buffers: list[list[Any]],
        position: int,
    ) -> list[list[Any]]:
        """Adds J1 of a block of tangents to every pair's buffer."""
        count, size = tangents[0].shape[:2]
        flat = [self.xp.reshape(t, (count * size, *t.shape[2:])) for t in tangents]
        pushed = self.xp.vmap(side1.jvp, flat)
        result = [list(copies) for copies in buffers]
        for place, pair in enumerate(self.task.pairs):
            if pair.output2 != output2:
                continue
            y = pushed[pair.output1]
            y = self.xp.astype(self.xp.real(y) if self.real_part else y, self._dtype)
            y = self.xp.reshape(y, (count, size, *y.shape[1:]))
            block, starts = self._place(pair.wanted, y, start, m, columns)
            for at, part, here in self._parts(place, block, starts):
                result[at][position] = self.xp.add_block(result[at][position], part, here)
        return result

    def _parts(self, place: int, block: Any, starts: list[Any]) -> list[tuple[int, Any, list[Any]]]:
        """What is added to which pair's result, and where: a block, or half of it and of its adjoint."""
        if not self._mirrors:
            return [(place, block, starts)]
        opposite = self.task.opposite(self.task.pairs[place])
        order = swapped(self.task, opposite)
        half = block * 0.5
        across = adjoint(self.xp, half, order, conjugate=self.conjugate)
        return [(place, half, starts), (opposite, across, [starts[axis] for axis in order])]

    def _place(self, wanted: Wanted, y: Any, start: Any, m: Any, columns: Columns) -> tuple[Any, list[Any]]:
        """The pattern applied to columns ``(examples of side 2, last axis, *y of side 1)``, and where they belong."""
        last = columns.last or "last"
        example2 = wanted.example2 or "examples"
        found = Labelled((example2, last, *wanted.left), y) if not wanted.paired and last not in wanted.left else None
        if found is None:
            found = self._diagonals(wanted, y, example2, last, columns)
        fixed = dict(columns.index)
        for label, at in columns.index:
            if label in wanted.left:
                found = found.slice(self.xp, label, at, 1)
        known = tuple(x for x in wanted.out if x in found.labels)
        block = einsum(self.xp, known, found)
        shape = [block.array.shape[known.index(x)] if x in known else 1 for x in wanted.out]
        starts: list[Any] = []
        for label in wanted.out:
            if label == wanted.example1:
                starts.append(start)
            elif label == wanted.example2:
                starts.append(m)
            else:
                starts.append(columns.start if label == columns.last else fixed.get(label, 0))
        return self.xp.reshape(block.array, shape), starts

    def _diagonals(self, wanted: Wanted, y: Any, example2: str, last: str, columns: Columns) -> Labelled:
        """Columns met with the same axis of side 1: the block's range of it, and its diagonal."""
        axes = [example2, last, *wanted.left]
        if last in wanted.left:
            y = self.xp.slice(y, axes.index(last, 2), columns.start, columns.size)
        labels = tuple(dict.fromkeys(axes))
        return einsum(self.xp, labels, Labelled(tuple(axes), y))


def _unravel(flat: Any, sizes: Sequence[int]) -> list[Any]:
    """Row-major indices of a flat position, which may be traced."""
    found: list[Any] = []
    for axis in range(len(sizes)):
        found.append(flat // math.prod(sizes[axis + 1 :]) % sizes[axis])
    return found

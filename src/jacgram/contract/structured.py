"""The structured kernel: factors of blocks of examples, and tiles of the kernel from them.

Factors of a block row are computed once and reused along it; where one side is a single block its factors are computed
once for all. Equal sides compute the upper triangle of tiles only, and mirror it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.contract.component import Factors, contract
from jacgram.contract.hermitian import symmetrize
from jacgram.contract.labelled import Labelled, einsum
from jacgram.contract.loops import over_blocks
from jacgram.core.dtypes import real_dtype
from jacgram.core.frontend import Side
from jacgram.core.uses import Use
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class StructuredKernel:
    """One structured computation: the two sides, what is wanted of them, and how it was planned.

    Attributes:
        xp: the framework's array primitives.
        sides: side 1 and side 2.
        task: shapes and patterns.
        plan: tiles and orders.
        conjugate: whether side 2 enters conjugated (J1 J2ᴴ).
        real_part: whether the real part is wanted (real-valued functions of complex parameters).
        by_leaf: whether each leaf's part is kept apart.
    """

    xp: Arrays
    sides: tuple[Side, Side]
    task: Task
    plan: Plan
    conjugate: bool
    real_part: bool
    by_leaf: bool

    def compute(self) -> list[list[Any]]:
        """Per pair of outputs (row-major), the kernel; with ``by_leaf``, that of each leaf in turn."""
        n1, n2 = self.plan.examples
        tile1, tile2 = self.plan.tile
        if tile1 >= n1 and tile2 >= n2:
            return self._one_tile()
        buffers = self._loop(self._buffers())
        return buffers if not self.task.hermitian else self._hermitian(buffers)

    # One tile ---------------------------------------------------------------------------------------------------

    def _one_tile(self) -> list[list[Any]]:
        side1, side2 = self.sides
        left = self._factors(0, side1)
        right = left if self.task.hermitian else self._factors(1, side2)
        return self._hermitian(self._tile(left, right)) if self.task.hermitian else self._tile(left, right)

    def _factors(self, position: int, side: Side) -> list[Use]:
        basis = [self.xp.asarray(seeds, like=side.arrays()[0]) for seeds in self.task.seeds(position + 1)]
        return side.uses(basis, structured=self.plan.method != "materialize")

    def _tile(self, uses1: list[Use], uses2: list[Use]) -> list[list[Any]]:
        """Every pair's block, in the order asked for, for the examples these uses hold."""
        return [self._pair(position, uses1, uses2) for position in range(len(self.task.pairs))]

    def _pair(self, position: int, uses1: list[Use], uses2: list[Use]) -> list[Any]:
        pair = self.task.pairs[position]
        n1, n2 = (
            uses[0].cotangent.shape[0] if uses else min(tile, n)
            for uses, tile, n in zip((uses1, uses2), self.plan.tile, self.plan.examples, strict=True)
        )
        wanted = pair.wanted.with_examples(n1, n2)
        leaf_sizes = [math.prod(struct.shape) for _, struct in self.task.leaves]
        factors = (
            Factors(uses1, self.task.sides[0].seed_range(pair.output1), leaf_sizes),
            Factors(uses2, self.task.sides[1].seed_range(pair.output2), leaf_sizes),
        )
        blocks: dict[int, Any] = {}
        for leaf in self.plan.leaves[position]:
            component = self.task.components[leaf.component]
            part = contract(
                self.xp, component, leaf.choice, wanted, factors, self.task.dtype, conjugate=self.conjugate
            )
            key = component.leaf if self.by_leaf else 0
            blocks[key] = part if key not in blocks else blocks[key] + part
        keys = range(len(self.task.leaves)) if self.by_leaf else range(1)
        return [self._arranged(wanted, blocks.get(key)) for key in keys]

    def _arranged(self, wanted: Wanted, block: Any) -> Any:
        if block is None:
            return self.xp.zeros(wanted.shape, self._dtype(), self.sides[0].arrays()[0])
        if self.real_part:
            block = self.xp.real(block)
        return einsum(self.xp, wanted.out, Labelled(wanted.block, block)).array

    def _dtype(self) -> str:
        return real_dtype(self.task.dtype) if self.real_part else self.task.dtype

    # Tiles ------------------------------------------------------------------------------------------------------

    def _buffers(self) -> list[list[Any]]:
        copies = len(self.task.leaves) if self.by_leaf else 1
        like = self.sides[0].arrays()[0]
        return [
            [self.xp.zeros(pair.wanted.shape, self._dtype(), like) for _ in range(copies)] for pair in self.task.pairs
        ]

    def _loop(self, buffers: list[list[Any]]) -> list[list[Any]]:
        """Adds every tile. Block rows run over the side with more blocks, so that a single block is held throughout."""
        if self.task.pairs[0].wanted.paired:
            return self._over(0, buffers, lambda start, size, carry: self._paired(start, size, carry))
        if self.plan.tile[1] >= self.plan.examples[1] and not self.task.triangle:
            right = self._factors(1, self.sides[1])

            def row_against_all(start: Any, size: int, carry: Any) -> Any:
                left = self._factors(0, self.sides[0].examples(start, size))
                return self._add(carry, self._tile(left, right), start, 0)

            return self._over(0, buffers, row_against_all)
        return self._over(0, buffers, self._row)

    def _over(self, position: int, carry: Any, body: Callable[[Any, int, Any], Any]) -> Any:
        return over_blocks(self.xp, self.plan.examples[position], self.plan.tile[position], body, carry)

    def _row(self, start1: Any, size1: int, buffers: Any) -> Any:
        left = self._factors(0, self.sides[0].examples(start1, size1))

        def column(start2: Any, size2: int, carry: Any) -> Any:
            def add(c: Any) -> Any:
                right = self._factors(1, self.sides[1].examples(start2, size2))
                return self._add(c, self._tile(left, right), start1, start2)

            return self.xp.when(start2 >= start1, add, carry) if self.task.triangle else add(carry)

        return self._over(1, buffers, column)

    def _paired(self, start: Any, size: int, buffers: Any) -> Any:
        left = self._factors(0, self.sides[0].examples(start, size))
        same = self.task.hermitian
        right = left if same else self._factors(1, self.sides[1].examples(start, size))
        return self._add(buffers, self._tile(left, right), start, start)

    def _add(self, buffers: list[list[Any]], blocks: list[list[Any]], start1: Any, start2: Any) -> list[list[Any]]:
        return [
            [self.xp.add_block(b, block, _starts(pair.wanted, start1, start2)) for b, block in zip(old, new, strict=True)]
            for pair, old, new in zip(self.task.pairs, buffers, blocks, strict=True)
        ]

    def _hermitian(self, results: list[list[Any]]) -> list[list[Any]]:
        tile = self.plan.tile[0] if self.task.triangle and self.plan.tile[0] < self.plan.examples[0] else None
        return symmetrize(self.xp, self.task, results, tile, conjugate=self.conjugate)


def _starts(wanted: Wanted, start1: Any, start2: Any) -> Sequence[Any]:
    return [start1 if x == wanted.example1 else start2 if x == wanted.example2 else 0 for x in wanted.out]

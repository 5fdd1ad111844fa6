"""The structured kernel: factors of blocks of examples, and tiles of the kernel from them.

Factors of a block row are computed once and reused along it; where one side is a single block its factors are computed
once for all. Equal sides compute the upper triangle of tiles only, and mirror it. Where one example's cotangents exceed
the budget, their seeds are cut into blocks as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.contract.factors import apart, factors_of
from jacgram.contract.hermitian import across, adjoints, halves, symmetrize
from jacgram.contract.loops import over_blocks
from jacgram.contract.seeds import SeedBlock
from jacgram.contract.tile import Tiles
from jacgram.core.frontend import Side
from jacgram.core.uses import Use
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task
from jacgram.plan.triangle import panel_size
from jacgram.plan.wanted import Wanted

Results = list[list[Any]]


@dataclass(frozen=True, slots=True)
class StructuredKernel:
    """One structured computation: the two sides, what is wanted of them, and how it was planned.

    Attributes:
        xp, task, plan, conjugate, real_part, by_leaf: see `jacgram.contract.tile.Tiles`.
        sides: side 1 and side 2.
    """

    xp: Arrays
    sides: tuple[Side, Side]
    task: Task
    plan: Plan
    conjugate: bool
    real_part: bool
    by_leaf: bool

    def compute(self) -> Results:
        """Per pair of outputs, the kernel; with ``by_leaf``, that of each leaf in turn."""
        if not self.plan.one_tile:
            results = self._over_seeds(self._tiles.zeros(self.sides[0].arrays()[0]))
            if self.task.triangle:
                return results  # each tile was mirrored when it was made
        else:
            results = self._one_tile()
        if not self.task.hermitian:
            return results
        panel = panel_size(self.plan.examples[0], self.plan.panels) if self.plan.panels > 1 else None
        return symmetrize(self.xp, self.task, results, panel, conjugate=self.conjugate)

    @property
    def _tiles(self) -> Tiles:
        return Tiles(self.xp, self.task, self.plan, self.conjugate, self.real_part, self.by_leaf)

    def _factors(self, position: int, side: Side, seeds: SeedBlock) -> list[Use]:
        basis = seeds.basis(self.xp, self.task, position + 1, side.arrays()[0])
        return factors_of(self.xp, side, basis, self.task, self.plan, position)

    def _joined_factors(self, joined: Side, seeds: SeedBlock) -> tuple[list[Use], list[Use]]:
        basis = seeds.basis(self.xp, self.task, 1, joined.arrays()[0])
        uses = factors_of(self.xp, joined, basis, self.task, self.plan, 0, whole=True)
        return apart(self.xp, uses, self.sides[0].n, self.sides[1].n)

    def _joined(self) -> Side | None:
        """The examples of both sides as one side, where one pass is to make their factors, which reads weights once."""
        first, second = self.sides
        return first.joined(second) if self.plan.joined and self.task.joined_bytes is not None else None

    def _both(self, seeds: SeedBlock) -> tuple[list[Use], list[Use]]:
        first, second = self.sides
        if self.task.hermitian:
            left = self._factors(0, first, seeds)
            return left, left
        if (joined := self._joined()) is not None:
            return self._joined_factors(joined, seeds)
        return self._factors(0, first, seeds), self._factors(1, second, seeds)

    def _one_tile(self) -> Results:
        everything = SeedBlock()
        left, right = self._both(everything)
        blocks = self._tiles.tile(left, right, everything, self.plan.examples)
        if all(block is not None for part in blocks for block in part):
            return blocks
        zeros = self._tiles.zeros(self.sides[0].arrays()[0])
        return [
            [zero if block is None else block for zero, block in zip(old, new, strict=True)]
            for old, new in zip(zeros, blocks, strict=True)
        ]

    # Loops --------------------------------------------------------------------------------------------------------

    def _over_seeds(self, results: Results) -> Results:
        """Adds every block of seeds; those of a shared axis are taken on both sides at once."""
        size1, size2 = self.plan.seed_block
        if not size1:
            return self._over_examples(SeedBlock(), results)
        wanted = self.task.pairs[0].wanted
        label1, label2 = wanted.blocked
        sizes = dict(wanted.sizes)
        assert label1 is not None and label2 is not None

        def first(start1: Any, count1: int, carry: Results) -> Results:
            if label1 == label2:
                return self._over_examples(SeedBlock(((label1, start1, count1),)), carry)

            def second(start2: Any, count2: int, inner: Results) -> Results:
                block = SeedBlock(((label1, start1, count1), (label2, start2, count2)))
                return self._over_examples(block, inner)

            return over_blocks(self.xp, sizes[label2], size2, second, carry)

        return over_blocks(self.xp, sizes[label1], size1, first, results)

    def _over_examples(self, seeds: SeedBlock, results: Results) -> Results:
        """Adds every tile for a block of seeds."""
        if self.task.pairs[0].wanted.paired:
            return self._over(0, results, lambda start, size, carry: self._paired(seeds, start, size, carry))
        n2 = self.plan.examples[1]
        if self.plan.tile[1] >= n2 and not self.task.triangle:
            right = self._factors(1, self.sides[1], seeds)

            def row(start: Any, size: int, carry: Results) -> Results:
                left = self._factors(0, self._block(0, start, size), seeds)
                return self._add(seeds, carry, self._tiles.tile(left, right, seeds, (size, n2)), start, 0)

            return self._over(0, results, row)
        return self._over(0, results, lambda start, size, carry: self._row(seeds, start, size, carry))

    def _over(self, position: int, carry: Results, body: Callable[[Any, int, Results], Results]) -> Results:
        return over_blocks(self.xp, self.plan.examples[position], self.plan.tile[position], body, carry)

    def _block(self, position: int, start: Any, size: int) -> Side:
        side = self.sides[position]
        return side if size == self.plan.examples[position] else side.examples(start, size)

    def _row(self, seeds: SeedBlock, start1: Any, size1: int, results: Results) -> Results:
        left = self._factors(0, self._block(0, start1, size1), seeds)

        def column(start2: Any, size2: int, carry: Results) -> Results:
            def add(c: Results) -> Results:
                right = self._factors(1, self._block(1, start2, size2), seeds)
                blocks = self._tiles.tile(left, right, seeds, (size1, size2))
                if self.task.triangle:
                    return self._add_both(seeds, c, blocks, (start1, start2), square=size1 == size2)
                return self._add(seeds, c, blocks, start1, start2)

            return self.xp.when(start2 >= start1, add, carry) if self.task.triangle else add(carry)

        return self._over(1, results, column)

    def _paired(self, seeds: SeedBlock, start: Any, size: int, results: Results) -> Results:
        left = self._factors(0, self._block(0, start, size), seeds)
        right = (
            left if self.task.hermitian and not seeds.ranges else self._factors(1, self._block(1, start, size), seeds)
        )
        return self._add(seeds, results, self._tiles.tile(left, right, seeds, (size, size)), start, start)

    def _add(self, seeds: SeedBlock, results: Results, blocks: Results, start1: Any, start2: Any) -> Results:
        return self._added(results, blocks, self._starts(seeds, start1, start2))

    def _add_both(
        self, seeds: SeedBlock, results: Results, blocks: Results, at: tuple[Any, Any], *, square: bool
    ) -> Results:
        """Adds a tile on or above the diagonal, and its adjoint across; only a square one can be on the diagonal."""
        both = blocks, adjoints(self.xp, self.task, blocks, conjugate=self.conjugate)
        if square:
            apart = len(seeds.ranges) > 1
            both = self.xp.when(at[0] == at[1], lambda pair: halves(*pair, apart=apart), both)
        starts = self._starts(seeds, *at)
        return self._added(self._added(results, both[0], starts), both[1], across(self.task, starts))

    def _starts(self, seeds: SeedBlock, start1: Any, start2: Any) -> list[list[Any]]:
        """Where a tile begins in each pair's result."""

        def of(wanted: Wanted) -> list[Any]:
            own = {wanted.example2: start2, wanted.example1: start1}
            return [own[x] if x in own else seeds.start(x) for x in wanted.out]

        return [of(pair.wanted) for pair in self.task.pairs]

    def _added(self, results: Results, blocks: Results, starts: Sequence[Sequence[Any]]) -> Results:
        dtype = self._tiles.dtype
        return [
            [
                a if b is None else self.xp.add_block(a, self.xp.astype(b, dtype), at)
                for a, b in zip(old, new, strict=True)
            ]
            for old, new, at in zip(results, blocks, starts, strict=True)
        ]

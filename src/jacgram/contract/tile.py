"""One tile of the kernel, from the factors of its examples on both sides: every component of every pair of outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, einsum
from jacgram.contract.component import Factors, contract
from jacgram.contract.seeds import SeedBlock
from jacgram.core.dtypes import real_dtype
from jacgram.core.uses import Use
from jacgram.plan.plan import Plan
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Tiles:
    """Makes tiles.

    Attributes:
        xp: the framework's array primitives.
        task: shapes and patterns.
        plan: orders and slices.
        conjugate: whether side 2 enters conjugated (J1 J2ᴴ).
        real_part: whether the real part is wanted (real-valued functions of complex parameters).
        by_leaf: whether each leaf's part is kept apart.
    """

    xp: Arrays
    task: Task
    plan: Plan
    conjugate: bool
    real_part: bool
    by_leaf: bool

    @property
    def dtype(self) -> str:
        """Dtype of the result while it is made: that of products where it sums several tiles, else its own."""
        held = self.task.inner_dtype if self.task.added_once and self.task.inner_dtype else self.task.dtype
        return real_dtype(held) if self.real_part else held

    @property
    def copies(self) -> int:
        """Arrays per pair of outputs: one, or one for each leaf."""
        return len(self.task.leaves) if self.by_leaf else 1

    def zeros(self, like: Any) -> list[list[Any]]:
        """The whole result, with nothing added yet."""
        shapes = [pair.wanted.shape for pair in self.task.pairs]
        return [[self.xp.zeros(shape, self.dtype, like) for _ in range(self.copies)] for shape in shapes]

    def tile(self, uses1: Sequence[Use], uses2: Sequence[Use], seeds: SeedBlock, n: tuple[int, int]) -> list[list[Any]]:
        """Every pair's block in the order asked for, for ``n`` examples of each side; None where nothing adds to it.

        With ``uses2 is uses1`` what both sides share is computed once.
        """
        return [self._pair(position, uses1, uses2, seeds, n) for position in range(len(self.task.pairs))]

    def _pair(
        self, position: int, uses1: Sequence[Use], uses2: Sequence[Use], seeds: SeedBlock, n: tuple[int, int]
    ) -> list[Any]:
        pair = self.task.pairs[position]
        wanted = seeds.wanted(pair.wanted).with_examples(*n)
        sizes = [math.prod(struct.shape) for _, struct in self.task.leaves]
        factors = (
            Factors(uses1, _range(seeds.counts(self.task, 1), pair.output1), sizes),
            Factors(uses2, _range(seeds.counts(self.task, 2), pair.output2), sizes),
        )
        blocks: dict[int, Any] = {}
        for leaf in self.plan.leaves[position]:
            component = self.task.components[leaf.component]
            part = contract(
                self.xp, component, leaf.choice, wanted, factors, self.task.dtype,
                conjugate=self.conjugate, panels=self.plan.panels,
            )  # fmt: skip
            key = component.leaf if self.by_leaf else 0
            blocks[key] = part if key not in blocks else blocks[key] + part
        return [self._arranged(wanted, blocks.get(key)) for key in range(self.copies)]

    def _arranged(self, wanted: Wanted, block: Any) -> Any:
        if block is None:
            return None
        block = self.xp.real(block) if self.real_part else block
        return einsum(self.xp, wanted.out, Labelled(wanted.block, block)).array


def _range(counts: Sequence[int], output: int) -> tuple[int, int]:
    start = sum(counts[:output])
    return start, start + counts[output]

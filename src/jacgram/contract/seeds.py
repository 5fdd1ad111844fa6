"""Blocks of seeds: which output directions a pass of the kernel covers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays
from jacgram.plan.task import Task
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class SeedBlock:
    """Ranges of output axes; axes without a range are covered whole.

    Attributes:
        ranges: (label, first position, size); first positions may be traced.
    """

    ranges: tuple[tuple[str, Any, int], ...] = ()

    def wanted(self, whole: Wanted) -> Wanted:
        """What is wanted within these ranges."""
        return whole.with_sizes({label: size for label, _, size in self.ranges})

    def start(self, label: str) -> Any:
        """First position along an output axis."""
        return next((start for name, start, _ in self.ranges if name == label), 0)

    def basis(self, xp: Arrays, task: Task, side: int, like: Any) -> list[Any]:
        """Seeds of each output of side 1 or 2 within these ranges."""
        if not self.ranges:
            return [xp.asarray(seeds, like) for seeds in task.seeds(side)]
        (pair,) = task.pairs  # only tasks of one pair of outputs are cut
        labels = (pair.wanted.left if side == 1 else pair.wanted.right)[pair.wanted.examples :]
        small = xp.asarray(self.wanted(pair.wanted).basis(side), like)
        axes = task.sides[side - 1].output_axes[0]
        whole = xp.zeros((small.shape[0], *axes), "float32", like)
        return [xp.add_block(whole, small, [0, *(self.start(label) for label in labels)])]

    def counts(self, task: Task, side: int) -> tuple[int, ...]:
        """Number of seeds of each output within these ranges."""
        if not self.ranges:
            return task.sides[side - 1].seed_counts
        return (self.wanted(task.pairs[0].wanted).basis(side).shape[0],)

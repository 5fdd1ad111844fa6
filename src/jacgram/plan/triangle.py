"""The triangle of a kernel of one side with itself, in panels: a few rows of blocks, each from the diagonal on.

Where both sides are one, entry (n, m) is that of (m, n) with outputs exchanged. So the examples of side 1 are cut into
panels, and each meets the examples of side 2 from its own first one on: with b panels (b + 1) / 2b of all products.
What each side has of its own is made once, for all panels and for both sides.

Where part of an array is a view of it, a panel is as wide as it can be, for wide products are the fast ones. Where it
is a copy, side 2's examples are cut into blocks too, and what a side has of its own is made block by block: nothing of
it has to be cut, and the products of a pair of blocks wait for nothing but these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from jacgram.plan.network import Label, Step
from jacgram.plan.wanted import Wanted

PANELS = (1, 2, 4)
"""Numbers of panels to choose from."""


@dataclass(frozen=True, slots=True)
class Triangle:
    """How much of a component's result is computed.

    Attributes:
        panels: number of panels; 1 where everything is computed.
        rows, columns: labels of the examples of side 1 and of side 2.
        one: whether both sides bring the same arrays, so that what each has of its own is made once.
        blocks: whether side 2's examples are cut into blocks like side 1's, so that panels are pairs of blocks.
    """

    panels: int
    rows: Label | None
    columns: Label | None
    one: bool
    blocks: bool = False

    @staticmethod
    def of(wanted: Wanted, panels: int, *, one: bool, blocks: bool = False) -> Triangle:
        """The triangle of what is wanted, in so many panels; 0 and 1 stand for the whole square."""
        return Triangle(max(panels, 1), wanted.example1, wanted.example2, one, blocks and panels > 1)

    @property
    def share(self) -> float:
        """Share of the entries that are computed."""
        return (self.panels + 1) / (2 * self.panels)

    def is_second(self, step: Step) -> bool:
        """Whether a step makes for side 2 what is made for side 1."""
        return self.one and step.again

    def panel(self, step: Step, sizes: Mapping[Label, int]) -> tuple[int, Mapping[Label, int]]:
        """How often a step is taken, and the sizes of an average panel or of a pair of blocks."""
        if self.panels < 2 or self.rows is None or self.columns is None or len(step.sides) < 2:
            return 1, sizes
        block = panel_size(sizes[self.rows], self.panels)
        if self.columns not in sizes:  # side 2's examples are taken one at a time
            return self.panels, {**sizes, self.rows: block}
        if self.blocks:
            return self.panels * (self.panels + 1) // 2, {**sizes, self.rows: block, self.columns: block}
        return self.panels, {**sizes, self.rows: block, self.columns: math.ceil(sizes[self.columns] * self.share)}

    def ranges(self, n: int) -> list[tuple[int, int]]:
        """First example and number of examples of each panel of side 1."""
        block = panel_size(n, self.panels)
        return [(start, min(block, n - start)) for start in range(0, n, block)]


def panel_size(n: int, panels: int) -> int:
    """Examples of side 1 in a panel; the last one may have fewer."""
    return max(math.ceil(n / panels), 1)

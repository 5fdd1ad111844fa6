"""Components: which uses of the two sides meet.

Uses meet when they read common entries of one leaf. Uses of disjoint parts of a fused weight never do; the rest of a
leaf's uses contract as one **component**, in the most structured form they all allow:

- ``NETWORK``: on each side the uses are alike (equal roles), so they are stacked along their positions, and the
  component is one tensor network of four operands;
- ``TABLE``: all are gathers of one table: activations meet by comparing indices;
- ``ROWS``: anything else: rows of unlike uses are summed, a slice at a time, before the product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from jacgram.core.uses import Use
from jacgram.core.views import View
from jacgram.plan.factors import Factor, factors


class Form(Enum):
    """How the uses of a component can be contracted."""

    NETWORK = "network"
    TABLE = "table"
    ROWS = "rows"


@dataclass(frozen=True, slots=True)
class Component:
    """Uses of one leaf on both sides that share entries of it.

    Attributes:
        leaf: position of the leaf among the variable's leaves.
        left: canonical uses of side 1.
        right: canonical uses of side 2.
        form: the most structured form that all of them allow.
    """

    leaf: int
    left: tuple[Factor, ...]
    right: tuple[Factor, ...]
    form: Form

    @property
    def view(self) -> View | None:
        """The view that all the uses have in common, or None when they differ."""
        views = {use.view for use in (*self.left, *self.right)}
        return views.pop() if len(views) == 1 else None

    @property
    def has_sides_apart(self) -> bool:
        """Whether what one side brings is an operand of that side alone, so that each can be cut by its examples.

        The indices of a table's two sides meet in one operand, and rows of unlike uses are no operands.
        """
        return self.form is Form.NETWORK


def components(uses1: Sequence[Use], uses2: Sequence[Use]) -> list[Component]:
    """Every component, in leaf order. Shapes alone are read."""
    left, right = factors(uses1), factors(uses2)
    found: list[Component] = []
    for leaf in sorted({use.leaf for use in uses1}):
        mine = [f for f in left if uses1[f.use].leaf == leaf]
        other = [f for f in right if uses2[f.use].leaf == leaf]
        for views in _overlapping([f.view for f in (*mine, *other)]):
            pair = tuple(f for f in mine if f.view in views), tuple(f for f in other if f.view in views)
            if all(pair):
                found.append(Component(leaf, *pair, _form(*pair)))
    return found


def _overlapping(views: Sequence[View]) -> list[set[View]]:
    """Views grouped so that those of different groups share no entry."""
    groups: list[set[View]] = []
    for view in dict.fromkeys(views):
        touching = [group for group in groups if any(view.overlaps(other) for other in group)]
        groups = [group for group in groups if group not in touching]
        groups.append({view}.union(*touching))
    return groups


def _form(left: tuple[Factor, ...], right: tuple[Factor, ...]) -> Form:
    every = (*left, *right)
    if len({f.view for f in every}) > 1:
        return Form.ROWS
    if all(f.table is not None for f in every):
        return Form.TABLE if len({f.table for f in every}) == 1 else Form.ROWS
    if any(f.table is not None for f in every):
        return Form.ROWS
    alike = all(len({(f.roles, f.activation is None) for f in side}) == 1 for side in (left, right))
    return Form.NETWORK if alike else Form.ROWS

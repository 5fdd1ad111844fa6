"""Plans: what will be done, tile by tile and leaf by leaf, and what it is predicted to cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from jacgram.plan.choose import Choice


@dataclass(frozen=True, slots=True)
class LeafPlan:
    """How one component of one leaf is contracted, for one pair of outputs.

    Attributes:
        path: the leaf's path, as in ``"layers.0.weight"``.
        component: position among the task's components.
        choice: the order, its slices and their cost for one tile.
        kinds: what the uses are, as in ``("Einsum",)``.
        fallbacks: reasons why a use has no structure; empty where all are structured.
    """

    path: str
    component: int
    choice: Choice
    kinds: tuple[str, ...]
    fallbacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A decision, made from shapes alone: how to compute a kernel within a memory budget.

    Attributes:
        method: ``"structured"``, ``"materialize"`` or ``"matrix-free"``.
        examples: number of examples of side 1 and of side 2.
        tile: examples of side 1 and of side 2 in one tile.
        block: rows pushed at a time by the matrix-free method; 0 for the others.
        leaves: per pair of outputs (row-major), how each component is contracted.
        hermitian: whether only one triangle is computed and mirrored.
        flops: predicted multiplications and additions.
        seconds: predicted time.
        peak_bytes: predicted peak of what is allocated beyond inputs, parameters and result.
        budget_bytes: the budget the plan was made for.
        dtype: dtype in which products are accumulated.
        notes: what a reader should know: fallbacks, what was not checked.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> plan = jacgram.plan(lambda p, x: x @ p, jnp.ones((8, 3)), params=jnp.ones((3, 2)))
        >>> plan.method
        'structured'
    """

    method: str
    examples: tuple[int, int]
    tile: tuple[int, int]
    block: int
    leaves: tuple[tuple[LeafPlan, ...], ...]
    hermitian: bool
    flops: int
    seconds: float
    peak_bytes: int
    budget_bytes: int
    dtype: str
    notes: tuple[str, ...] = ()

    @property
    def structured_share(self) -> float:
        """Share of components, counted per pair of outputs, with no unstructured use."""
        every = [leaf for pair in self.leaves for leaf in pair]
        return sum(not leaf.fallbacks for leaf in every) / len(every) if every else 1.0

    def with_notes(self, notes: Iterable[str]) -> Plan:
        """The same plan with more notes."""
        return replace(self, notes=(*self.notes, *notes))

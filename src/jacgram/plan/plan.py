"""Plans: what will be done, tile by tile and leaf by leaf, and what it is predicted to cost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from jacgram.errors import ArgumentError
from jacgram.plan.choice import Choice
from jacgram.plan.table import plan_table

_FORMAT = 1


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
        seed_block: seeds of side 1 and of side 2 taken at a time along the axis they are cut along; 0 for all.
        block: rows pushed at a time by the matrix-free method; 0 for the others.
        leaves: per pair of outputs (row-major), how each component is contracted.
        hermitian: whether only one triangle is computed and mirrored.
        flops: predicted multiplications and additions.
        seconds: predicted time.
        peak_bytes: predicted peak of what is allocated beyond inputs, parameters and result.
        budget_bytes: the budget the plan was made for.
        dtype: dtype in which products are accumulated.
        notes: what a reader should know: fallbacks, what was not checked.
        condensed: leaves whose rows are formed a few examples at a time.
        pass_blocks: how many examples at a time, on side 1 and on side 2; 0 for all.
        panels: panels in which the triangle of one tile is computed; 1 for all of it. 0 for two sides, and for tiles.
        joined: whether one pass makes the factors of both sides, where these differ in their examples alone.
        shape_key: a digest of the shapes that it was made for.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> plan = jacgram.plan(lambda p, x: x @ p, jnp.ones((8, 3)), params=jnp.ones((3, 2)))
        >>> plan.method
        'structured'
    """

    method: str
    examples: tuple[int, int]
    tile: tuple[int, int]
    seed_block: tuple[int, int]
    block: int
    leaves: tuple[tuple[LeafPlan, ...], ...]
    hermitian: bool
    flops: int
    seconds: float
    peak_bytes: int
    budget_bytes: int
    dtype: str
    notes: tuple[str, ...] = ()
    condensed: tuple[int, ...] = ()
    pass_blocks: tuple[int, int] = (0, 0)
    panels: int = 0
    joined: bool = False
    shape_key: str = ""

    @property
    def one_tile(self) -> bool:
        """Whether everything is computed at once."""
        return self.seed_block == (0, 0) and all(t >= n for t, n in zip(self.tile, self.examples, strict=True))

    @property
    def structured_share(self) -> float:
        """Share of components, counted per pair of outputs, with no unstructured use."""
        every = [leaf for pair in self.leaves for leaf in pair]
        return sum(not leaf.fallbacks for leaf in every) / len(every) if every else 1.0

    def __str__(self) -> str:
        return plan_table(self)

    def to_json(self) -> str:
        """The plan as JSON text, to be kept beside a result or sent to a worker."""
        return json.dumps({"jacgram_plan": _FORMAT} | asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            ArgumentError: the text is no plan of this version.
        """
        try:
            fields = json.loads(text)
            if fields.pop("jacgram_plan") != _FORMAT:
                raise KeyError("jacgram_plan")
            leaves = tuple(tuple(_leaf(leaf) for leaf in pair) for pair in fields.pop("leaves"))
            plan = Plan(leaves=leaves, **{name: _frozen(value) for name, value in fields.items()})
            return _sensible(plan)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArgumentError(
                f"this text is no plan written by Plan.to_json() of this version ({error!r}). Fix: make the plan anew."
            ) from error

    def with_notes(self, notes: Iterable[str]) -> Plan:
        """The same plan with more notes."""
        return replace(self, notes=(*self.notes, *notes))


def _sensible(plan: Plan) -> Plan:
    """The plan, or ValueError: no plan has such values."""
    is_count = lambda x, least=0: type(x) is int and x >= least  # noqa: E731
    is_pair = lambda x, least=0: type(x) is tuple and len(x) == 2 and all(is_count(y, least) for y in x)  # noqa: E731
    choices = [leaf.choice for pair in plan.leaves for leaf in pair]
    right = {
        "method": plan.method in ("structured", "materialize", "matrix-free"),
        "examples": is_pair(plan.examples),
        "tile": is_pair(plan.tile, 1),
        "seed_block": is_pair(plan.seed_block) and (plan.seed_block == (0, 0) or 0 not in plan.seed_block),
        "block": is_count(plan.block, int(plan.method == "matrix-free")),
        "flops": is_count(plan.flops),
        "seconds": type(plan.seconds) in (int, float) and plan.seconds >= 0,
        "peak_bytes": is_count(plan.peak_bytes),
        "budget_bytes": is_count(plan.budget_bytes),
        "dtype": plan.dtype in ("float32", "float64", "complex64", "complex128"),
        "notes": all(type(note) is str for note in plan.notes),
        "condensed": all(is_count(leaf) for leaf in plan.condensed),
        "pass_blocks": is_pair(plan.pass_blocks),
        "panels": is_count(plan.panels),
        "hermitian": type(plan.hermitian) is bool,
        "joined": type(plan.joined) is bool,
        "shape_key": type(plan.shape_key) is str,
        "leaves": all(type(leaf.path) is str and is_count(leaf.component) for pair in plan.leaves for leaf in pair),
        "choice": all(
            is_count(c.slice_size, int(c.slice_label is not None)) and is_count(c.parts, 1) and is_count(c.shares, 1)
            for c in choices
        ),
    }
    if wrong := [name for name, is_right in right.items() if not is_right]:
        raise ValueError(f"{wrong[0]} has a value that no plan has")
    return plan


def _leaf(fields: dict[str, Any]) -> LeafPlan:
    choice = Choice(**{name: _frozen(value) for name, value in fields.pop("choice").items()})
    return LeafPlan(choice=choice, **{name: _frozen(value) for name, value in fields.items()})


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

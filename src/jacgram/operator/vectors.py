"""Vectors shaped as y, or flat: rows of a Jacobian in example-major order, one side and one leaf after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from jacgram.arrays import adapter
from jacgram.errors import StructureError

if TYPE_CHECKING:
    from jacgram.operator.jacobian import Jacobian


def flatten_rows(jacobian: Jacobian, v: Any, argument: str) -> tuple[list[list[Any]], bool]:
    """Per side, leaves of v shaped as the side's outputs; and whether v came flat.

    Raises:
        StructureError: v is neither shaped as y nor a vector with one entry per row.
    """
    sides = jacobian.sides
    rows = jacobian.shape[0]
    structs = [struct for side in sides for struct in side.outputs]
    shape = getattr(v, "shape", None)
    single = len(structs) == 1 and tuple(shape or ()) == structs[0].shape
    if shape is not None and tuple(shape) == (rows,) and not single:
        return _split(jacobian, v), True
    if len(sides) == 1:
        return [sides[0].flatten_output(v, argument)], False
    if not isinstance(v, tuple | list) or len(cast(Sequence[Any], v)) != len(sides):
        raise StructureError(
            f"{argument} must be a tuple of {len(sides)} outputs, one for each stacked Jacobian, or a vector of {rows} "
            f"entries; got {type(v).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}."
        )
    parts = cast(Sequence[Any], v)
    return [side.flatten_output(part, f"{argument}[{i}]") for i, (side, part) in enumerate(zip(sides, parts, strict=True))], False


def _split(jacobian: Jacobian, v: Any) -> list[list[Any]]:
    found: list[list[Any]] = []
    start = 0
    for side in jacobian.sides:
        leaves: list[Any] = []
        for struct in side.outputs:
            size = math.prod(struct.shape)
            leaves.append(v[start : start + size].reshape(struct.shape))
            start += size
        found.append(side.flatten_output(side.unflatten_output(leaves), "v"))
    return found


def unflatten_rows(jacobian: Jacobian, leaves: Sequence[Sequence[Any]]) -> Any:
    """y's tree; the tuple of y's for stacked Jacobians."""
    trees = [side.unflatten_output(part) for side, part in zip(jacobian.sides, leaves, strict=True)]
    return trees[0] if len(trees) == 1 else tuple(trees)


def flat_vector(jacobian: Jacobian, leaves: Sequence[Sequence[Any]]) -> Any:
    """All rows as one vector."""
    xp = adapter(jacobian.frontend.name)
    return xp.concatenate([xp.reshape(leaf, (math.prod(leaf.shape),)) for part in leaves for leaf in part], 0)

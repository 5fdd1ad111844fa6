"""Sides stacked one below the other: what a Jacobian is made of, and how it is applied."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from jacgram.arrays import adapter
from jacgram.core.dtypes import promote
from jacgram.core.frontend import Frontend, Side, Struct
from jacgram.errors import StructureError

Parts = list[list[Any]]  # per side, one array for each leaf of its y


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Sides with one variable, rows in order: side after side, leaf of y after leaf, example-major.

    Attributes:
        frontend: the framework of all sides.
        sides: at least one.
    """

    frontend: Frontend
    sides: tuple[Side, ...]

    @property
    def outputs(self) -> list[Struct]:
        """Shape and dtype of every leaf of every y."""
        return [struct for side in self.sides for struct in side.outputs]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(math.prod(struct.shape) for struct in self.outputs)

    @property
    def columns(self) -> int:
        """Number of columns: entries of the variable."""
        return sum(math.prod(struct.shape) for struct in self.sides[0].variable)

    @property
    def dtype(self) -> str:
        """Name of the dtype of the entries."""
        return promote(*(struct.dtype for side in self.sides for struct in (*side.outputs, *side.variable)))

    @property
    def is_complex(self) -> bool:
        """Whether entries are complex."""
        return self.dtype.startswith("complex")

    # Products -----------------------------------------------------------------------------------------------------

    def push(self, tangents: Sequence[Any]) -> Parts:
        """J applied to tangents, leaves shaped as the variable."""
        held = [array for side in self.sides for array in side.arrays()]

        def run(*arrays: Any) -> Parts:
            vectors = arrays[len(held) :]
            return [side.jvp(vectors) for side in self._holding(arrays[: len(held)])]

        return self.frontend.run(run, [*held, *tangents])

    def pull(self, cotangents: Parts, *, conjugate: bool) -> list[Any]:
        """Jᵀ, or with ``conjugate`` Jᴴ, applied to cotangents shaped as the outputs: leaves shaped as the variable."""
        held = [array for side in self.sides for array in side.arrays()]

        def run(*arrays: Any) -> list[Any]:
            vectors = list(arrays[len(held) :])
            total: list[Any] = []
            for side in self._holding(arrays[: len(held)]):
                v = [vectors.pop(0) for _ in side.outputs]
                leaves = side.vjp([x.conj() for x in v] if conjugate else v)
                total = [a + b for a, b in zip(total, leaves, strict=True)] if total else leaves
            return [x.conj() for x in total] if conjugate else total

        return self.frontend.run(run, [*held, *(x for part in cotangents for x in part)])

    def _holding(self, arrays: Sequence[Any]) -> list[Side]:
        """The sides with these arrays in place of their own."""
        given = list(arrays)
        return [side.with_arrays([given.pop(0) for _ in side.arrays()]) for side in self.sides]

    # Vectors ------------------------------------------------------------------------------------------------------

    def flatten(self, v: Any, argument: str) -> tuple[Parts, bool]:
        """Leaves of v, shaped as y or a vector with an entry for each row; and whether it came as such a vector.

        Raises:
            StructureError: v is neither.
        """
        shape = getattr(v, "shape", None)
        as_output = len(self.outputs) == 1 and shape is not None and tuple(shape) == self.outputs[0].shape
        if shape is not None and tuple(shape) == (self.rows,) and not as_output:
            return self._cut(v, argument), True
        if len(self.sides) == 1:
            return [self.sides[0].flatten_output(v, argument)], False
        if not isinstance(v, tuple | list) or len(cast(Sequence[Any], v)) != len(self.sides):
            raise StructureError(
                f"{argument} must be a tuple of {len(self.sides)} outputs, one for each stacked Jacobian, or a vector "
                f"of {self.rows} entries; got {type(v).__name__}{'' if shape is None else f' of shape {tuple(shape)}'}."
            )
        parts = zip(self.sides, cast(Sequence[Any], v), strict=True)
        return [side.flatten_output(part, f"{argument}[{i}]") for i, (side, part) in enumerate(parts)], False

    def _cut(self, vector: Any, argument: str) -> Parts:
        found: Parts = []
        start = 0
        for side in self.sides:
            leaves: list[Any] = []
            for struct in side.outputs:
                size = math.prod(struct.shape)
                leaves.append(vector[start : start + size].reshape(struct.shape))
                start += size
            found.append(side.flatten_output(side.unflatten_output(leaves), argument))
        return found

    def unflatten(self, parts: Parts) -> Any:
        """y's tree; of several sides, the tuple of theirs."""
        trees = [side.unflatten_output(part) for side, part in zip(self.sides, parts, strict=True)]
        return trees[0] if len(trees) == 1 else tuple(trees)

    def concatenated(self, parts: Parts) -> Any:
        """All rows as one vector."""
        xp = adapter(self.frontend.name)
        return xp.concatenate([xp.reshape(leaf, (math.prod(leaf.shape),)) for part in parts for leaf in part], 0)


def check_same_variable(first: Stack, second: Stack, name1: str, name2: str) -> None:
    """`StructureError` unless both are taken with respect to variables of equal structure and shapes."""
    a, b = first.sides[0], second.sides[0]
    if first.frontend.name != second.frontend.name:
        raise StructureError(
            f"{name1} is a {first.frontend.name} function and {name2} a {second.frontend.name} function. "
            "Fix: write both in one framework."
        )
    if a.has_examples != b.has_examples:
        raise StructureError(
            f"{name1} and {name2} differ: one is taken with respect to parameters, the other with respect to x. "
            "Fix: pass params to both, or to none."
        )
    mine, other = ({p: s.shape for p, s in zip(x.paths, x.variable, strict=True)} for x in (a, b))
    differ = [path for path in mine | other if mine.get(path) != other.get(path)]
    if differ:
        listed = "; ".join(f"{path or 'the variable'}: {mine.get(path)} and {other.get(path)}" for path in differ[:5])
        raise StructureError(
            f"the variables of {name1} and {name2} differ in structure or shape: {listed}. "
            "Fix: take both Jacobians with respect to variables of the same structure and shapes."
        )

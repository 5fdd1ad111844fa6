"""What is to be planned: everything about two sides and a pattern that shapes alone tell."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from jacgram.core.dtypes import itemsize
from jacgram.core.frontend import Struct
from jacgram.core.uses import Use
from jacgram.plan.components import Component, components
from jacgram.plan.factors import factors, row_entries
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True)
class SideShapes:
    """One side by its shapes.

    Attributes:
        n: number of examples (1 where there are none).
        has_examples: whether rows belong to examples.
        outputs: shape and dtype of each leaf of y.
        seed_counts: seeds of each leaf of y.
        uses: structured uses of one example, with `Struct` operands.
        made_of: where some leaves are condensed, the side with the uses that their rows are made of; see `condensing`.
        pass_block: examples of one pass where leaves are condensed; 0 elsewhere, where one pass takes all.
        within_bytes: of one example's largest array within f, for all seeds.
    """

    n: int
    has_examples: bool
    outputs: tuple[Struct, ...]
    seed_counts: tuple[int, ...]
    uses: tuple[Use, ...]
    made_of: SideShapes | None = None
    pass_block: int = 0
    within_bytes: int = 0

    @property
    def output_axes(self) -> list[tuple[int, ...]]:
        """Axes of each output of one example."""
        return [struct.shape[self.has_examples :] for struct in self.outputs]

    @property
    def seed_total(self) -> int:
        """Seeds of all leaves of y."""
        return sum(self.seed_counts)

    @cached_property
    def activation_bytes(self) -> int:
        """Bytes of one example's activations."""
        return _held_bytes(use.activation for use in self.uses)

    @cached_property
    def cotangent_bytes(self) -> int:
        """Bytes of one example's cotangents for all seeds, shared ones counted once."""
        return _held_bytes(use.cotangent for use in self.uses)

    @cached_property
    def largest_bytes(self) -> int:
        """Bytes of one example's largest cotangent, of a use or of what lies between uses."""
        return max(self.within_bytes, *(struct_bytes(use.cotangent) for use in self.uses), 0)

    @cached_property
    def pass_flops(self) -> int:
        """Operations of the passes that make one example's factors: forward, and backward for every seed."""
        if self.made_of is not None:
            left = {use.leaf for use in self.uses if use.activation is not None}
            rows = sum(
                2 * row_entries(f) for f in factors(self.made_of.uses) if self.made_of.uses[f.use].leaf not in left
            )
            return self.made_of.pass_flops + rows * self.seed_total
        made = sum(2 * row_entries(factor) for factor in factors(self.uses))
        return made * (self.seed_total + 1)


def _held_bytes(structs: Iterable[Struct | None]) -> int:
    held = {id(struct): struct for struct in structs if struct is not None}
    return sum(struct_bytes(struct) for struct in held.values())


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair of outputs of which something is wanted.

    Attributes:
        output1, output2: positions of the leaves of y on side 1 and on side 2.
        wanted: what is wanted of them, for all examples.
    """

    output1: int
    output2: int
    wanted: Wanted


@dataclass(frozen=True)
class Task:
    """Two sides, the pairs of outputs wanted, and the precision.

    Attributes:
        sides: side 1 and side 2.
        pairs: the pairs of output leaves of which something is wanted.
        leaves: path and shape of each leaf of the variable.
        dtype: dtype in which products are accumulated.
        hermitian: whether both sides are one and the pattern treats them alike, so that the result is Hermitian.
        inner_dtype: dtype in which f itself computes, or float32 for a half precision: that of the result.
        copies: results of each pair: one, or one of each leaf of the variable.
        joined_bytes: bytes of the examples of both sides, where one pass over all of them could make the factors of
            both: they are alike, and their seeds the same. None elsewhere.
    """

    sides: tuple[SideShapes, SideShapes]
    pairs: tuple[Pair, ...]
    leaves: tuple[tuple[str, Struct], ...]
    dtype: str
    hermitian: bool
    joined_bytes: int | None = None
    inner_dtype: str = ""
    copies: int = 1

    @property
    def triangle(self) -> bool:
        """Whether tiles on and above the diagonal suffice: the result is Hermitian and tells the two examples apart."""
        first = self.pairs[0].wanted
        return self.hermitian and not first.paired and {first.example1, first.example2} <= set(first.out)

    def opposite(self, pair: Pair) -> int:
        """Position of the pair of the same outputs with the sides exchanged."""
        return next(i for i, p in enumerate(self.pairs) if (p.output1, p.output2) == (pair.output2, pair.output1))

    def seeds(self, side: int) -> list[NDArray[np.float32]]:
        """Seeds of each output of side 1 or 2; none for an output of which nothing is wanted."""
        pairs = zip(self.sides[side - 1].output_axes, self._wanted(side), strict=True)
        return [np.zeros((0, *axes), np.float32) if first is None else first.basis(side) for axes, first in pairs]

    @property
    def same_seeds(self) -> bool:
        """Whether both sides have the same seeds."""
        first, second = ([w and w.spanned(side) for w in self._wanted(side)] for side in (1, 2))
        return first == second and self.sides[0].output_axes == self.sides[1].output_axes

    def _wanted(self, side: int) -> list[Wanted | None]:
        """What tells the seeds of each output of side 1 or 2; None where nothing is wanted of it."""
        every = [(p.output1 if side == 1 else p.output2, p.wanted) for p in self.pairs]
        outputs = range(len(self.sides[side - 1].outputs))
        return [next((wanted for position, wanted in every if position == output), None) for output in outputs]

    @property
    def variable_bytes(self) -> int:
        """Bytes of one vector shaped as the variable."""
        return sum(struct_bytes(struct) for _, struct in self.leaves)

    @property
    def added_once(self) -> bool:
        """Whether every entry of the result comes from one tile and one block of seeds, and is not a sum of several."""
        return all({*p.wanted.left, *p.wanted.right} <= set(p.wanted.out) for p in self.pairs)

    @cached_property
    def shape_key(self) -> str:
        """A digest of the shapes that are planned for: of examples, outputs, and uses of one example."""
        shape = lambda struct: None if struct is None else (struct.shape, struct.dtype)  # noqa: E731
        sides = [
            (
                side.n,
                [shape(output) for output in side.outputs],
                [
                    (use.leaf, type(use.kind).__name__, shape(use.activation), shape(use.cotangent))
                    for use in (side.made_of or side).uses
                ],
            )
            for side in self.sides
        ]
        return hashlib.sha256(repr(sides).encode()).hexdigest()[:16]

    @cached_property
    def components(self) -> list[Component]:
        """Components of the two sides' uses."""
        uses1, uses2 = (side.uses for side in self.sides)
        return components(uses1, uses2)


def struct_bytes(struct: Struct) -> int:
    """Bytes of an array of this shape and dtype; integers count eight bytes."""
    size = 8 if struct.dtype.startswith(("int", "uint")) else 1 if struct.dtype == "bool" else itemsize(struct.dtype)
    return math.prod(struct.shape) * size

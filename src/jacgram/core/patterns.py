"""Patterns: which entries of the kernel are wanted, in the notation of einops and einsum.

``"n i, m j -> n m i j"`` names the axes of y on side 1 and on side 2, then those of the result. A name on both sides
is one axis (its diagonal, if the result names it; its trace, if not); a name on one side that the result leaves out is
summed. ``...`` stands for the axes a side does not name; on both sides it is the same axes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jacgram.errors import PatternError

ELLIPSIS = "..."
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Labels:
    """A pattern fitted to the ranks of a pair of outputs: one label for each axis.

    Attributes:
        left: labels of y's axes on side 1.
        right: labels of y's axes on side 2.
        out: labels of the result's axes.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    out: tuple[str, ...]

    @property
    def shared(self) -> tuple[str, ...]:
        """Labels on both sides: diagonals if in ``out``, traces if not."""
        return tuple(name for name in self.left if name in self.right)

    def kept(self, side: int) -> tuple[str, ...]:
        """Labels of a side (1 or 2) that are not summed on their own, in the side's order."""
        mine, other = (self.left, self.right) if side == 1 else (self.right, self.left)
        return tuple(name for name in mine if name in self.out or name in other)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern as written, before it meets outputs of known rank.

    Attributes:
        left: names of side 1, possibly with one ``"..."``.
        right: names of side 2, likewise.
        out: names of the result, likewise.
        text: the pattern as the caller wrote it, for messages.

    Example:
        >>> Pattern.parse("n i, m i -> n m").fit((8, 10), (6, 10), examples=True)
        Labels(left=('n', 'i'), right=('m', 'i'), out=('n', 'm'))
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    out: tuple[str, ...]
    text: str

    @staticmethod
    def parse(text: str) -> Pattern:
        """Read a pattern; `PatternError` shows what is wrong with it and a pattern that would be right."""
        if not isinstance(text, str):
            raise PatternError(f"pattern must be a str or None, got {type(text).__name__} {text!r}. {_HINT}")
        return _parse(text)

    def fit(self, shape1: Sequence[int], shape2: Sequence[int], *, examples: bool) -> Labels:
        """Labels for outputs of these shapes; with ``examples``, the first axis of each counts examples."""
        shapes = tuple(shape1), tuple(shape2)
        spread: dict[int, tuple[str, ...]] = {}
        left = self._expand(self.left, len(shapes[0]), 1, shapes, spread)
        right = self._expand(self.right, len(shapes[1]), 2, shapes, spread)
        if ELLIPSIS in self.left and ELLIPSIS in self.right and spread[1] != spread[2]:
            raise self._error("'...' stands for different numbers of axes on the two sides", shapes, "name the axes")
        dots = spread.get(1, spread.get(2, ()))
        labels = Labels(left, right, tuple(x for name in self.out for x in (dots if name == ELLIPSIS else (name,))))
        self._check_sizes(labels, shapes)
        if examples:
            self._check_examples(labels, shapes)
        return labels

    def _expand(
        self,
        names: tuple[str, ...],
        rank: int,
        side: int,
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        spread: dict[int, tuple[str, ...]],
    ) -> tuple[str, ...]:
        named = len(names) - (ELLIPSIS in names)
        if named > rank or (named < rank and ELLIPSIS not in names):
            problem = f"side {side} names {named} axes of an output with {rank}"
            raise self._error(problem, shapes, f"name all {rank} axes of y, the examples first, or use '...'")
        if ELLIPSIS not in names:
            return names
        spread[side] = tuple(f"...{axis}" for axis in range(rank - named))
        at = names.index(ELLIPSIS)
        return (*names[:at], *spread[side], *names[at + 1 :])

    def _check_sizes(self, labels: Labels, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        for name in labels.shared:
            size1, size2 = shapes[0][labels.left.index(name)], shapes[1][labels.right.index(name)]
            if size1 != size2:
                problem = f"axis {name!r} is on both sides with different sizes, {size1} and {size2}"
                raise self._error(problem, shapes, "give the two axes different names")

    def _check_examples(self, labels: Labels, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        for name, others in ((labels.left[:1], labels.right[1:]), (labels.right[:1], labels.left[1:])):
            if name and name[0] in others:
                problem = f"{name[0]!r} names the examples of one side and an output axis of the other"
                raise self._error(problem, shapes, "the first name of each side is its examples; rename one of the two")

    def _error(self, problem: str, shapes: tuple[tuple[int, ...], tuple[int, ...]], fix: str) -> PatternError:
        return PatternError(f"pattern {self.text!r}: {problem}; y has shapes {shapes[0]} and {shapes[1]}. Fix: {fix}.")


def full_labels(rank1: int, rank2: int, *, examples: bool) -> Labels:
    """Labels of everything, what ``pattern=None`` asks for: ``(n1, n2, *o1, *o2)``, or y1's axes then y2's."""
    left = tuple(f"l{axis}" for axis in range(rank1))
    right = tuple(f"r{axis}" for axis in range(rank2))
    if examples:
        return Labels(left, right, (left[0], right[0], *left[1:], *right[1:]))
    return Labels(left, right, left + right)


_HINT = 'For example "n i, m j -> n m i j" (everything) or "n i, m i -> n m" (trace over outputs).'


@lru_cache(maxsize=256)
def _parse(text: str) -> Pattern:
    halves = text.split("->")
    sides = halves[0].split(",")
    if len(halves) != 2 or len(sides) != 2:
        raise PatternError(f"pattern {text!r} must read 'side 1, side 2 -> result'. {_HINT}")
    left, right, out = (_names(part, text) for part in (sides[0], sides[1], halves[1]))
    for place, names in (("side 1", left), ("side 2", right), ("the result", out)):
        for name in names:
            if names.count(name) > 1:
                raise PatternError(
                    f"pattern {text!r} repeats {name!r} in {place}; name each axis once. "
                    f"A diagonal is asked for by the same name on both sides. {_HINT}"
                )
    for name in out:
        if name not in left and name not in right:
            raise PatternError(
                f"pattern {text!r} asks for axis {name!r}, which is on neither side "
                f"(side 1 has {', '.join(left) or 'none'}; side 2 has {', '.join(right) or 'none'}). {_HINT}"
            )
    return Pattern(left, right, out, text)


def _names(part: str, text: str) -> tuple[str, ...]:
    names = tuple(part.replace(ELLIPSIS, f" {ELLIPSIS} ").split())
    for name in names:
        if name != ELLIPSIS and not _NAME.fullmatch(name):
            raise PatternError(f"pattern {text!r} has {name!r}, which is no axis name; use letters and digits. {_HINT}")
    return names

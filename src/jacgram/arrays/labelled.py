"""Arrays with named axes: one einsum by labels, and slices by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jacgram.arrays.base import Arrays, Buffer

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Labelled:
    """An array and the labels of its axes."""

    labels: tuple[str, ...]
    array: Any

    def __post_init__(self) -> None:
        assert len(self.labels) == len(self.array.shape), (self.labels, self.array.shape)

    def slice(self, xp: Arrays, label: str, start: Any, size: int) -> Labelled:
        """``size`` entries of an axis from ``start``; unchanged where the label is not an axis."""
        if label not in self.labels:
            return self
        return Labelled(self.labels, xp.slice(self.array, self.labels.index(label), start, size))

    def conj(self, xp: Arrays) -> Labelled:
        """Conjugated."""
        return Labelled(self.labels, xp.conj(self.array))


def spell(out: Sequence[str], *operands: Labelled) -> str:
    """The einsum of these operands in letters, the same for operands that differ in the names of labels only."""
    return _spelled(tuple(out), *(operand.labels for operand in operands))


@lru_cache(maxsize=4096)
def _spelled(out: tuple[str, ...], *operands: tuple[str, ...]) -> str:
    letters: dict[str, str] = {}
    for label in (label for labels in operands for label in labels):
        letters.setdefault(label, _LETTERS[len(letters)])
    *sources, result = ("".join(letters[label] for label in labels) for labels in (*operands, out))
    return f"{','.join(sources)}->{result}"


def einsum(xp: Arrays, out: Sequence[str], *operands: Labelled, buffer: Buffer | None = None) -> Labelled:
    """One einsum of one or two labelled arrays to these labels; see `Arrays.einsum` for ``buffer``."""
    arrays = (operand.array for operand in operands)
    return Labelled(tuple(out), xp.einsum(spell(out, *operands), *arrays, buffer=buffer))


class Shared:
    """Results by what they were made of, so that what both sides of a Hermitian kernel share is computed once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[Any, ...]] = {}

    def einsum(
        self, xp: Arrays, out: Sequence[str], left: Labelled, right: Labelled, buffer: Buffer | None = None
    ) -> Labelled:
        """As `einsum`."""
        key = (spell(out, left, right), id(left.array), id(right.array))
        make = lambda: einsum(xp, out, left, right, buffer=buffer).array  # noqa: E731
        return Labelled(tuple(out), self._once(key, make, left, right))

    def slice(self, xp: Arrays, operand: Labelled, label: str, start: Any, size: int) -> Labelled:
        """As `Labelled.slice`."""
        if label not in operand.labels:
            return operand
        key = (operand.labels.index(label), id(operand.array))
        return Labelled(operand.labels, self._once(key, lambda: operand.slice(xp, label, start, size).array, operand))

    def arranged(self, xp: Arrays, operand: Labelled, labels: Sequence[str]) -> Labelled:
        """The operand with its axes in this order."""
        order = tuple(operand.labels.index(label) for label in labels)
        if order == tuple(range(len(order))):
            return operand
        turned = self._once((order, id(operand.array)), lambda: xp.transpose(operand.array, order), operand)
        return Labelled(tuple(labels), turned)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Any], *operands: Labelled) -> Any:
        if key not in self._made:
            # Operands are held too: an id is an identity only while its object lives.
            self._made[key] = (make(), *(operand.array for operand in operands))
        return self._made[key][0]

"""Arrays with named axes: one einsum by labels, and slices by label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays import Arrays

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


def einsum(xp: Arrays, out: Sequence[str], *operands: Labelled) -> Labelled:
    """One einsum of one or two labelled arrays to these labels."""
    letters: dict[str, str] = {}
    for operand in operands:
        for label in operand.labels:
            letters.setdefault(label, _LETTERS[len(letters)])
    spell = lambda labels: "".join(letters[label] for label in labels)  # noqa: E731
    spec = f"{','.join(spell(operand.labels) for operand in operands)}->{spell(out)}"
    return Labelled(tuple(out), xp.einsum(spec, *(operand.array for operand in operands)))

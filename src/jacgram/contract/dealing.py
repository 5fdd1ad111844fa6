"""Deals a weight axis out to the cores: see `jacgram.plan.dealing`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled
from jacgram.plan.assembly import Assembly
from jacgram.plan.choice import Choice

SHARE = "share"
"""The label of the axis that counts shares: the first of every operand but the cotangents, and of the result."""


def deal(
    xp: Arrays, assembly: Assembly, choice: Choice, every: Sequence[Labelled]
) -> tuple[Assembly, Choice, Sequence[Labelled]]:
    """The same contraction with the dealt axis in two, shares and what is in each; unchanged where none is dealt."""
    label, shares = choice.dealt, choice.shares
    if label is None:
        return assembly, choice, every
    cut = _Cut(xp, label, shares)
    found = [cut(operand) for operand in every]
    network = replace(assembly.network, operands=tuple(x.labels for x in found), out=(SHARE, *assembly.network.out))
    sizes = dict(assembly.sizes)
    sizes |= {label: sizes[label] // shares, SHARE: shares}
    if choice.slice_label == label:
        choice = replace(choice, slice_size=choice.slice_size // shares)
    return replace(assembly, network=network, sizes=tuple(sizes.items())), choice, found


class _Cut:
    """Operands with an axis of shares, each array made once: what stands for both sides still does."""

    def __init__(self, xp: Arrays, label: str, shares: int) -> None:
        self._xp = xp
        self._label = label
        self._shares = shares
        self._made: dict[tuple[int, int | None], Any] = {}

    def __call__(self, operand: Labelled) -> Labelled:
        at = operand.labels.index(self._label) if self._label in operand.labels else None
        key = id(operand.array), at
        if key not in self._made:
            self._made[key] = self._repeated(operand.array) if at is None else self._in_shares(operand.array, at)
        before = operand.labels[: at or 0]
        return Labelled((*before, SHARE, *operand.labels[len(before) :]), self._made[key])

    def _repeated(self, array: Any) -> Any:
        return self._xp.concatenate([self._xp.reshape(array, (1, *array.shape))] * self._shares, 0)

    def _in_shares(self, array: Any, at: int) -> Any:
        shape = (*array.shape[:at], self._shares, array.shape[at] // self._shares, *array.shape[at + 1 :])
        return self._xp.reshape(array, shape)

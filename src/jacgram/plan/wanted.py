"""What is wanted of a pair of outputs: a pattern's labels, split by side and by role."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from jacgram.core.patterns import Labels

_MARK = "y:"  # keeps the caller's axis names apart from weight and position labels


@dataclass(frozen=True, slots=True)
class Wanted:
    """One pair of outputs under one pattern, for blocks of ``n1`` and ``n2`` examples.

    Attributes:
        left, right: labels of y's axes on each side, the examples first where there are any.
        examples: whether the first label of each side counts examples.
        out: labels of the result, in the order asked for.
        sizes: (label, size) of every label.
    """

    left: tuple[str, ...]
    right: tuple[str, ...]
    examples: bool
    out: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...]

    @property
    def example1(self) -> str | None:
        """Label of side 1's examples, or None."""
        return self.left[0] if self.examples else None

    @property
    def example2(self) -> str | None:
        """Label of side 2's examples, or None; side 1's for per-example blocks."""
        return self.right[0] if self.examples else None

    @property
    def paired(self) -> bool:
        """Whether example n of side 1 meets example n of side 2 alone."""
        return self.examples and self.example1 == self.example2

    @property
    def seeds1(self) -> tuple[str, ...]:
        """Output axes that side 1's seeds span: the others are summed within the seeds."""
        return self._kept(self.left, self.right)

    @property
    def seeds2(self) -> tuple[str, ...]:
        """Output axes that side 2's seeds span."""
        return self._kept(self.right, self.left)

    def _kept(self, mine: tuple[str, ...], other: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(x for x in mine[self.examples :] if x in self.out or x in other)

    def basis(self, side: int) -> NDArray[np.float32]:
        """Seeds of one example's output on side 1 or 2, see `seed_basis`."""
        axes, kept = self._seeded(side)
        sizes = dict(self.sizes)
        return seed_basis(axes, [sizes[x] for x in axes], kept)

    def spanned(self, side: int) -> tuple[bool, ...]:
        """Which axes of one example's output the seeds of side 1 or 2 span: of outputs alike, all that tells seeds."""
        axes, kept = self._seeded(side)
        return tuple(x in kept for x in axes)

    def _seeded(self, side: int) -> tuple[Sequence[str], Sequence[str]]:
        axes, kept = (self.left, self.seeds1) if side == 1 else (self.right, self.seeds2)
        return axes[self.examples :], kept

    @property
    def block(self) -> tuple[str, ...]:
        """The result's labels in the order products give: both sides', side 1's, side 2's."""
        rank = lambda x: 0 if x in self.left and x in self.right else 1 if x in self.left else 2  # noqa: E731
        return tuple(sorted(self.out, key=rank))

    @property
    def block_shape(self) -> tuple[int, ...]:
        """Sizes of the block's axes."""
        sizes = dict(self.sizes)
        return tuple(sizes[label] for label in self.block)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the result's axes, in the order asked for."""
        sizes = dict(self.sizes)
        return tuple(sizes[label] for label in self.out)

    def with_examples(self, n1: int, n2: int) -> Wanted:
        """The same for blocks of other numbers of examples."""
        sizes = {label: n for label, n in ((self.example1, n1), (self.example2, n2)) if label is not None}
        return self.with_sizes(sizes)

    def with_sizes(self, sizes: Mapping[str, int]) -> Wanted:
        """The same for blocks in which these labels have other sizes."""
        return replace(self, sizes=tuple((dict(self.sizes) | dict(sizes)).items()))

    @property
    def blocked(self) -> tuple[str | None, str | None]:
        """Of each side, the label along which its seeds are cut: the longest, a shared one if there is one."""
        sizes = dict(self.sizes)
        shared = [x for x in self.seeds1 if x in self.seeds2]
        if shared:
            longest = max(shared, key=lambda x: sizes[x])
            return longest, longest
        first, second = (max(seeds, key=lambda x: sizes[x], default=None) for seeds in (self.seeds1, self.seeds2))
        return first, second

    def swapped(self, other: Wanted) -> tuple[int, ...] | None:
        """For each axis of this result, the axis of ``other``'s result that it is with the two sides exchanged.

        ``other`` is what is wanted of the same outputs in the opposite order. None where the pattern treats its sides
        differently, so that equal sides do not make a Hermitian result.
        """
        partner: dict[str, str] = dict(zip(self.left, other.right, strict=True))
        for mine, theirs in zip(self.right, other.left, strict=True):
            if partner.setdefault(mine, theirs) != theirs:
                return None
        if any(partner[x] not in other.out for x in self.out):
            return None
        return tuple(other.out.index(partner[x]) for x in self.out)


def wanted(labels: Labels, shape1: Sequence[int], shape2: Sequence[int], *, examples: bool) -> Wanted:
    """Roles of a fitted pattern's labels; with ``examples``, the first label of each side counts examples."""
    left, right, out = (tuple(_MARK + name for name in names) for names in (labels.left, labels.right, labels.out))
    sizes = dict(zip(left, shape1, strict=True)) | dict(zip(right, shape2, strict=True))
    return Wanted(left, right, examples, out, tuple(sizes.items()))


def seed_basis(names: Sequence[str], sizes: Sequence[int], kept: Sequence[str]) -> NDArray[np.float32]:
    """Cotangents of one example's output: a basis over the kept axes, ones over the summed ones.

    Returns:
        ``(s, *sizes)`` with ``s`` the product of the kept sizes, zeros and ones.

    Example:
        >>> seed_basis(("i", "j"), (2, 3), ("i",)).shape
        (2, 2, 3)
    """
    kept_sizes = [size for name, size in zip(names, sizes, strict=True) if name in kept]
    identity = np.eye(math.prod(kept_sizes), dtype=np.float32)
    spread = [size if name in kept else 1 for name, size in zip(names, sizes, strict=True)]
    return np.broadcast_to(identity.reshape(len(identity), *spread), (len(identity), *sizes))

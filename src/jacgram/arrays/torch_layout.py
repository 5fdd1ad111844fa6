"""How two tensors become a batched matrix product, by how they lie: which axes are merged, copied or looped over.

Nothing here touches a tensor, so what is found for one pair holds for every pair that lies alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

_CALL_FLOPS = 1 << 21  # done by a wide product within the time that one call takes
_MOST_PRODUCTS = 256
_FEW = 16  # columns from which products run at their full rate
_THIN = 8  # kept entries of a product that takes twice as long for each of them as a wide one
_COPY_FLOPS = 64  # done by a wide product while one entry is copied
_FRESH_FLOPS = 256  # the same where the copy goes to memory that the system must clear first
_ITEMSIZE = 4  # of numbers whose products need no more digits than they have themselves, before they are summed
_REUSED_BYTES = 1 << 24  # of a copy that finds memory which has been freed before


@dataclass(frozen=True, slots=True)
class Lying:
    """How a tensor lies in memory: labels, sizes and strides of its axes, and bytes of an entry."""

    labels: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    def stride(self, label: str) -> int:
        """Stride of an axis."""
        return self.strides[self.labels.index(label)]

    def size(self, label: str) -> int:
        """Size of an axis."""
        return self.shape[self.labels.index(label)]

    def has_nearest(self, labels: Sequence[str]) -> bool:
        """Whether entries side by side in memory are along one of these axes."""
        return any(self.stride(x) == 1 and self.size(x) > 1 for x in labels)

    def without(self, label: str) -> Lying:
        """One entry of an axis; unchanged where there is none."""
        at = self.labels.find(label)
        if at < 0:
            return self
        cut = lambda axes: (*axes[:at], *axes[at + 1 :])  # noqa: E731
        return Lying(self.labels.replace(label, ""), cut(self.shape), cut(self.strides), self.itemsize)

    def merged(self, *groups: Sequence[str]) -> list[tuple[int, int]] | None:
        """Size and stride of each group of axes taken as one; None where its axes do not lie so."""
        found: list[tuple[int, int]] = []
        for group in groups:
            size, stride = 1, 0
            for label in reversed(group):
                if self.size(label) == 1:
                    continue
                if size > 1 and self.stride(label) != size * stride:
                    return None
                stride = stride if size > 1 else self.stride(label)
                size *= self.size(label)
            found.append((size, stride))
        return found

    def is_ready(self, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str]) -> bool:
        """Whether it is a batch of matrices as the library takes them, transposed or not, without a copy."""
        found = self.merged(batch, rows, columns)
        if found is None:
            return False
        (m, row), (n, column) = found[1:]
        by_rows = (column == 1 or n == 1) and (row >= n or m == 1)
        return by_rows or ((row == 1 or m == 1) and (column >= m or n == 1))

    def matrices(self, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str]) -> Matrices:
        """As ``(batch, rows, columns)``: a view, or a copy in which what lay together still does."""
        copied = not self.is_ready(batch, rows, columns)
        nearest = min((x for x in self.labels if self.size(x) > 1), key=self.stride, default=None)
        transposed = copied and nearest in rows
        groups = (batch, columns, rows) if transposed else (batch, rows, columns)
        order = tuple(self.labels.index(x) for group in groups for x in group)
        size = lambda group: math.prod(self.size(x) for x in group)  # noqa: E731
        return Matrices(order, (size(groups[0]), size(groups[1]), size(groups[2])), copied, transposed)


@dataclass(frozen=True, slots=True)
class Matrices:
    """How a tensor becomes a batch of matrices.

    Attributes:
        order: its axes in the order of the batch, the rows and the columns; where ``transposed``, of the columns first.
        shape: sizes of the three groups, in this order.
        copied: whether it is laid out anew in this order.
        transposed: whether the matrices are then transposed.
    """

    order: tuple[int, ...]
    shape: tuple[int, int, int]
    copied: bool
    transposed: bool


@dataclass(frozen=True, slots=True)
class Way:
    """How a contraction of two tensors is done.

    Attributes:
        swapped: whether the second tensor is the left factor.
        left, right: how the factors become matrices, of one entry of the axis that is looped over.
        product: sizes (batch, rows, columns) of one product.
        steps: number of products; None without a loop.
        at: the axis that is looped over, in the left and in the right factor; None where it has none.
        shape: axes of all products, in the order in which they lie.
        order: of these, those of the result.
    """

    swapped: bool
    left: Matrices
    right: Matrices
    product: tuple[int, int, int]
    steps: int | None
    at: tuple[int | None, int | None]
    shape: tuple[int, ...]
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Entrywise:
    """How a vector, or a batch of them, is contracted with matrices that would have to be laid out anew for a product.

    All entries are multiplied, then summed: that takes the memory of the copy, and a fifth of the time.

    Attributes:
        swapped: whether the second tensor is the vector.
        vector: order of its axes as the matrices lie; its own axes, each of one entry, come last.
        aligned: its shape beside theirs.
        matrix: order of their axes as they lie.
        summed: which of these are summed.
        shape: what is left, followed by the vector's own axes.
        order: of these, those of the result.
    """

    swapped: bool
    vector: tuple[int, ...]
    aligned: tuple[int, ...]
    matrix: tuple[int, ...]
    summed: tuple[int, ...]
    shape: tuple[int, ...]
    order: tuple[int, ...]


def lean(
    spec: str, shape1: Sequence[int], strides1: Sequence[int], shape2: Sequence[int], strides2: Sequence[int]
) -> tuple[str, tuple[int, ...], tuple[int, ...]]:
    """The einsum without the axes along which one operand is repeated and the other is not, and which those are.

    Of a batch of products with one matrix, it makes one product.

    Returns:
        The einsum, and the axes of the left and of the right operand of which one entry will do, the last one first.
    """
    sources, out = spec.split("->")
    first, second = sources.split(",")
    strides = dict(zip(first, strides1, strict=True)), dict(zip(second, strides2, strict=True))
    sizes = dict(zip(second, shape2, strict=True))
    common = [x for x, size in zip(first, shape1, strict=True) if 1 < size == sizes.get(x) and x in out]
    gone1 = {x for x in common if not strides[0][x] and strides[1][x]}
    gone2 = {x for x in common if not strides[1][x] and strides[0][x]}
    kept1, kept2 = ("".join(x for x in term if x not in gone) for term, gone in ((first, gone1), (second, gone2)))
    return f"{kept1},{kept2}->{out}", _places(first, gone1), _places(second, gone2)


def _places(term: str, gone: set[str]) -> tuple[int, ...]:
    return tuple(at for at in reversed(range(len(term))) if term[at] in gone)


def way(left: Lying, right: Lying, out: str, *, loops: bool) -> Way | Entrywise | None:
    """How to contract two tensors to the axes ``out``, or None where that is no matrix product.

    Args:
        loops: whether an axis may be looped over where that spares copies.
    """
    if not _is_product(left.labels, right.labels, out):
        return None
    swapped = _comes_first(out, right.labels, left.labels)
    has_vector = _is_vector(left, right) != _is_vector(right, left)
    if has_vector:
        swapped = _is_vector(right, left)  # one row by many columns takes a third of the time of many rows by one
    a, b = (right, left) if swapped else (left, right)
    groups = _Groups.of(a, b, out)
    if has_vector and b.itemsize >= _ITEMSIZE and not groups.in_order(a, b, out).is_ready(b):
        return _entry_by_entry(a, b, out, swapped=swapped)
    label = groups.loop(a, b) if loops else None
    if label is None:
        inner, x, y = groups.in_order(a, b, out), a, b
    else:
        inner, x, y = groups.without(label), a.without(label), b.without(label)
    if loops and not has_vector and inner.wants_few_first(x, y):
        swapped, inner, x, y = not swapped, inner.turned, y, x
        a, b = b, a
    labels = (*(label or ""), *inner.batch, *inner.rows, *inner.columns)
    size = lambda group: math.prod(groups.sizes[x] for x in group)  # noqa: E731
    return Way(
        swapped,
        x.matrices(inner.batch, inner.rows, inner.summed),
        y.matrices(inner.batch, inner.summed, inner.columns),
        (size(inner.batch), size(inner.rows), size(inner.columns)),
        None if label is None else groups.sizes[label],
        (None, None) if label is None else (_axis(a, label), _axis(b, label)),
        tuple(groups.sizes[x] for x in labels),
        tuple(labels.index(x) for x in out),
    )


def _entry_by_entry(a: Lying, b: Lying, out: str, *, swapped: bool) -> Entrywise:
    lie = sorted(b.labels, key=b.stride, reverse=True)
    own = [x for x in a.labels if x not in b.labels]
    labels = [*(x for x in lie if x in out), *own]
    size = lambda label: b.size(label) if label in b.labels else 1  # noqa: E731
    return Entrywise(
        swapped,
        tuple(a.labels.index(x) for x in (*(x for x in lie if x in a.labels), *own)),
        tuple(b.size(x) if x in a.labels else 1 for x in lie),
        tuple(b.labels.index(x) for x in lie),
        tuple(at for at, x in enumerate(lie) if x not in out),
        tuple(size(x) for x in labels),
        tuple(labels.index(x) for x in out),
    )


def _axis(operand: Lying, label: str) -> int | None:
    return operand.labels.index(label) if label in operand.labels else None


def _is_product(first: str, second: str, out: str) -> bool:
    """Whether some axis is summed, all that are summed are common, and none occurs twice."""
    terms = first, second, out
    if any(len(set(term)) < len(term) for term in terms):
        return False
    gone = (set(first) | set(second)) - set(out)
    return bool(gone) and gone <= set(first) & set(second)


def _comes_first(out: str, term: str, other: str) -> bool:
    """Whether the axes of ``term`` alone stand before those of ``other`` in the result."""
    own = next((label for label in out if (label in term) != (label in other)), None)
    return own is not None and own in term


def _is_vector(operand: Lying, other: Lying) -> bool:
    """Whether it has no entries of its own to keep: none of its axes but those that both have is longer than one."""
    return all(size == 1 or label in other.labels for label, size in zip(operand.labels, operand.shape, strict=True))


@dataclass(frozen=True, slots=True)
class _Groups:
    """Axes by their part in a batched product, each group in the order in which it lies in memory.

    Attributes:
        batch: in both operands and the result.
        rows, columns: in the first operand and the result, in the second and the result.
        summed: in both operands.
        sizes: of every axis.
    """

    batch: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    summed: tuple[str, ...]
    sizes: dict[str, int]

    @staticmethod
    def of(a: Lying, b: Lying, out: str) -> _Groups:
        larger = max(a, b, key=lambda x: math.prod(x.shape))

        def lying(operand: Lying, labels: Sequence[str]) -> tuple[str, ...]:
            return tuple(sorted(labels, key=operand.stride, reverse=True))

        common = [x for x in a.labels if x in b.labels]
        return _Groups(
            lying(larger, [x for x in common if x in out]),
            lying(a, [x for x in a.labels if x not in b.labels]),
            lying(b, [x for x in b.labels if x not in a.labels]),
            lying(larger, [x for x in common if x not in out]),
            {x: operand.size(x) for operand in (a, b) for x in operand.labels},
        )

    def in_order(self, a: Lying, b: Lying, out: str) -> _Groups:
        """Batch axes in the order asked for, unless that costs a copy: where one is made in any case, it can be so."""
        asked = replace(self, batch=tuple(x for x in out if x in self.batch))
        return asked if asked.copied_entries(a, b) <= self.copied_entries(a, b) else self

    @property
    def turned(self) -> _Groups:
        """Those of the second operand by the first."""
        return replace(self, rows=self.columns, columns=self.rows)

    def wants_few_first(self, a: Lying, b: Lying) -> bool:
        """Whether there are so few columns that the library is far faster with as few rows.

        Measured with MKL on AVX2, float32: 10 columns at 3 to 53 GFLOP/s, 10 rows at 30 to 104, 16 of either at 56 to
        137. Single products of rows by rows are the exception.
        """
        rows, columns, batch = (
            math.prod(self.sizes[x] for x in group) for group in (self.rows, self.columns, self.batch)
        )
        if not 1 < columns < min(rows, _FEW):
            return False
        return batch > 1 or not (a.has_nearest(self.summed) and b.has_nearest(self.summed))

    def copied_entries(self, a: Lying, b: Lying) -> int:
        """Entries of the operands that have to be copied."""
        ready = a.is_ready(self.batch, self.rows, self.summed), self.is_ready(b)
        return sum(math.prod(x.shape) for x, is_ready in zip((a, b), ready, strict=True) if not is_ready)

    def is_ready(self, b: Lying) -> bool:
        """Whether the second operand need not be copied."""
        return b.is_ready(self.batch, self.summed, self.columns)

    def loop(self, a: Lying, b: Lying) -> str | None:
        """The axis to loop over so that nothing is copied; None if it is not needed, does not help or does not pay."""
        flops = 2 * math.prod(self.sizes.values())
        if not flops or not self.copied_entries(a, b):
            return None
        copying_flops = self._copying_flops(a, b)
        for label in (*self.batch, *self.rows, *self.columns):
            size = self.sizes[label]
            if (
                1 < size <= _MOST_PRODUCTS
                and self._calls_flops(label) + flops * (self._slowdown(label) - 1) <= copying_flops
                and not self.without(label).copied_entries(a.without(label), b.without(label))
            ):
                return label
        return None

    def _calls_flops(self, label: str) -> int:
        """What a wide product does while a loop's calls are made; a smaller batch keeps the cores busy less evenly."""
        return self.sizes[label] * _CALL_FLOPS * (2 if label in self.batch else 1)

    def _slowdown(self, label: str) -> float:
        """How many times longer products take that are thinner by an axis."""
        if label in self.batch:
            return 1.0
        wide = math.prod(self.sizes[x] for x in (self.rows if label in self.rows else self.columns))
        return (1 + _THIN * self.sizes[label] / wide) / (1 + _THIN / wide)

    def _copying_flops(self, a: Lying, b: Lying) -> int:
        """What a wide product does while operands are copied, as they would be without a loop."""
        entries = self.copied_entries(a, b)
        return (_FRESH_FLOPS if entries * a.itemsize > _REUSED_BYTES else _COPY_FLOPS) * entries

    def without(self, label: str) -> _Groups:
        """The groups of one step of a loop."""
        groups = (self.batch, self.rows, self.columns)
        batch, rows, columns = (tuple(x for x in group if x != label) for group in groups)
        return _Groups(batch, rows, columns, self.summed, self.sizes)

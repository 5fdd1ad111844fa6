"""Two tensors contracted with as few copies as their strides allow.

``torch.einsum`` brings each operand to the order (batch, kept, summed) and copies it wherever that is no view; for
cotangents, whose seeds lie outside of the examples in memory, that is a slow transposition at every product. Here axes
are merged in the order in which they lie, either order of the kept and the summed axes will do, and an axis that is in
the way is looped over, each product written to its place. What is returned is a view in the order asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from jacgram.arrays.base import Buffer

_CALL_FLOPS = 1 << 21  # done by a wide product within the time that one call takes
_MOST_PRODUCTS = 256
_THIN = 8  # kept entries of a product that takes twice as long for each of them as a wide one
_COPY_FLOPS = 64  # done by a wide product while one entry is copied
_FRESH_FLOPS = 256  # the same where the copy goes to memory that the system must clear first
_REUSED_BYTES = 1 << 24  # of a copy that finds memory which has been freed before

Take = Callable[[str, Sequence[int], torch.Tensor], torch.Tensor]
"""From what it is for, a shape and a tensor of the same kind to uninitialised memory."""


def taking(buffer: Buffer | None) -> Take:
    """Memory of a buffer, which takes more where it is not enough; without a buffer, new memory each time.

    Large allocations go back to the system when they are freed, and new ones are cleared page by page: in a loop that
    takes longer than the products (measured: 30 GFLOP/s in place of 100).
    """

    def take(what: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        if buffer is None:
            return like.new_empty(tuple(shape))
        size, held = math.prod(shape), buffer.held.get(what)
        if held is None or held.numel() < size or (held.dtype, held.device) != (like.dtype, like.device):
            buffer.held[what] = held = like.new_empty(size)
        return held[:size].view(tuple(shape))

    return take


def contract(spec: str, left: torch.Tensor, right: torch.Tensor, take: Take | None) -> torch.Tensor:
    """The einsum ``spec`` of two tensors; as ``torch.einsum``, whose result may have other strides.

    ``take`` gives memory for it; None where what is done is differentiated or mapped over, and nothing may be written.
    """
    sources, out = spec.split("->")
    first, second = sources.split(",")
    if not _is_product(first, second, out):
        return torch.einsum(spec, left, right)
    if _comes_first(out, second, first):
        first, left, second, right = second, right, first, left
    a, b = _Operand(first, left), _Operand(second, right)
    groups = _Groups.of(a, b, out)
    if take is not None:
        for label in groups.loops(a, b):
            return _looped(groups, a, b, label, out, take)
    x = a.matrices(groups.batch, groups.rows, groups.summed, "left", take)
    y = b.matrices(groups.batch, groups.summed, groups.columns, "right", take)
    memory = None if take is None else take("out", (x.shape[0], x.shape[1], y.shape[2]), x)
    product = torch.bmm(x, y) if memory is None else torch.bmm(x, y, out=memory)
    labels = (*groups.batch, *groups.rows, *groups.columns)
    return _in_order(product, labels, groups.sizes, out)


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


def _in_order(product: torch.Tensor, labels: Sequence[str], sizes: dict[str, int], out: str) -> torch.Tensor:
    shaped = product.reshape([sizes[x] for x in labels])
    return shaped.permute([labels.index(x) for x in out])


@dataclass(frozen=True, slots=True)
class _Operand:
    """A tensor and its labels."""

    labels: str
    array: torch.Tensor

    def stride(self, label: str) -> int:
        return self.array.stride(self.labels.index(label))

    def size(self, label: str) -> int:
        return self.array.shape[self.labels.index(label)]

    def without(self, label: str, at: int) -> _Operand:
        if label not in self.labels:
            return self
        return _Operand(self.labels.replace(label, ""), self.array.select(self.labels.index(label), at))

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

    def matrices(
        self, batch: Sequence[str], rows: Sequence[str], columns: Sequence[str], what: str, take: Take | None
    ) -> torch.Tensor:
        """``(batch, rows, columns)``: a view, or a copy in which what lay together still does."""
        shape = [math.prod(self.size(x) for x in group) for group in (batch, rows, columns)]
        order = [self.labels.index(x) for group in (batch, rows, columns) for x in group]
        if self.is_ready(batch, rows, columns):
            return self.array.permute(order).reshape(shape)
        nearest = min((x for x in self.labels if self.size(x) > 1), key=self.stride, default=None)
        if nearest not in rows:
            return self._copied(order, what, take).reshape(shape)
        order = [self.labels.index(x) for group in (batch, columns, rows) for x in group]
        return self._copied(order, what, take).reshape(shape[0], shape[2], shape[1]).transpose(1, 2)

    def _copied(self, order: list[int], what: str, take: Take | None) -> torch.Tensor:
        arranged = self.array.permute(order)
        return arranged.contiguous() if take is None else take(what, arranged.shape, self.array).copy_(arranged)


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
    def of(a: _Operand, b: _Operand, out: str) -> _Groups:
        larger = max(a, b, key=lambda x: x.array.numel())

        def lying(operand: _Operand, labels: Sequence[str]) -> tuple[str, ...]:
            return tuple(sorted(labels, key=operand.stride, reverse=True))

        common = [x for x in a.labels if x in b.labels]
        batch = lying(larger, [x for x in common if x in out])
        if larger.merged(batch) is None:  # it is copied: so that the result lies in the order asked for
            batch = tuple(x for x in out if x in batch)
        return _Groups(
            batch,
            lying(a, [x for x in a.labels if x not in b.labels]),
            lying(b, [x for x in b.labels if x not in a.labels]),
            lying(larger, [x for x in common if x not in out]),
            {x: operand.size(x) for operand in (a, b) for x in operand.labels},
        )

    def loops(self, a: _Operand, b: _Operand) -> list[str]:
        """The axis to loop over so that nothing is copied: none if it is not needed, does not help or does not pay.

        Prices are those of CPUs; elsewhere operands are copied.
        """
        flops = 2 * math.prod(self.sizes.values())
        if not flops or a.array.device.type != "cpu" or self.are_ready(a, b):
            return []
        copying_flops = self._copying_flops(a, b)
        for label in (*self.batch, *self.rows, *self.columns):
            size = self.sizes[label]
            if (
                1 < size <= _MOST_PRODUCTS
                and self._calls_flops(label) + flops * (self._slowdown(label) - 1) <= copying_flops
                and self.without(label).are_ready(a.without(label, 0), b.without(label, 0))
            ):
                return [label]
        return []

    def _calls_flops(self, label: str) -> int:
        """What a wide product does while a loop's calls are made; a smaller batch keeps the cores busy less evenly."""
        return self.sizes[label] * _CALL_FLOPS * (2 if label in self.batch else 1)

    def _slowdown(self, label: str) -> float:
        """How many times longer products take that are thinner by an axis."""
        if label in self.batch:
            return 1.0
        wide = math.prod(self.sizes[x] for x in (self.rows if label in self.rows else self.columns))
        return (1 + _THIN * self.sizes[label] / wide) / (1 + _THIN / wide)

    def _copying_flops(self, a: _Operand, b: _Operand) -> int:
        """What a wide product does while operands are copied, as they would be without a loop."""
        ready = a.is_ready(self.batch, self.rows, self.summed), b.is_ready(self.batch, self.summed, self.columns)
        copied = [x.array for x, is_ready in zip((a, b), ready, strict=True) if not is_ready]
        fresh = sum(array.nbytes for array in copied) > _REUSED_BYTES
        return (_FRESH_FLOPS if fresh else _COPY_FLOPS) * sum(array.numel() for array in copied)

    def are_ready(self, a: _Operand, b: _Operand) -> bool:
        """Whether neither operand needs a copy."""
        return a.is_ready(self.batch, self.rows, self.summed) and b.is_ready(self.batch, self.summed, self.columns)

    def without(self, label: str) -> _Groups:
        """The groups of one step of a loop."""
        groups = (self.batch, self.rows, self.columns)
        batch, rows, columns = (tuple(x for x in group if x != label) for group in groups)
        return _Groups(batch, rows, columns, self.summed, self.sizes)


def _looped(groups: _Groups, a: _Operand, b: _Operand, label: str, out: str, take: Take) -> torch.Tensor:
    """One product for each entry of an axis, written to its place."""
    size, inner = groups.sizes[label], groups.without(label)
    shape = [math.prod(groups.sizes[x] for x in group) for group in (inner.batch, inner.rows, inner.columns)]
    product = take("out", (size, *shape), a.array)
    for at in range(size):
        left, right = a.without(label, at), b.without(label, at)
        torch.bmm(
            left.matrices(inner.batch, inner.rows, inner.summed, "left", take),
            right.matrices(inner.batch, inner.summed, inner.columns, "right", take),
            out=product[at],
        )
    return _in_order(product, (label, *inner.batch, *inner.rows, *inner.columns), groups.sizes, out)

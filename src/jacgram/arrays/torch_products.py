"""Two tensors contracted with as few copies as their strides allow.

``torch.einsum`` brings each operand to the order (batch, kept, summed) and copies it wherever that is no view; for
cotangents, whose seeds lie outside of the examples in memory, that is a slow transposition at every product. Here axes
are merged in the order in which they lie, either order of the kept and the summed axes will do, and an axis that is in
the way is looped over, each product written to its place. What is returned is a view in the order asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from jacgram.arrays.base import Buffer
from jacgram.arrays.torch_layout import Entrywise, Lying, Matrices, Way, way

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
    """The einsum ``spec`` of two tensors of one dtype; as ``torch.einsum``, whose result may have other strides.

    ``take`` gives memory for it; None where what is done is differentiated or mapped over, and nothing may be written.
    Loops are priced for CPUs; elsewhere operands are copied.
    """
    sources, out = spec.split("->")
    first, second = sources.split(",")
    loops = take is not None and left.device.type == "cpu"
    done = way(_lying(first, left), _lying(second, right), out, loops=loops)
    if done is None:
        return torch.einsum(spec, left, right)
    if done.swapped:
        left, right = right, left
    if isinstance(done, Entrywise):
        return _entry_by_entry(done, left, right, take)
    if done.steps is None:
        x, y = _pair(done, left, right, take)
        product = torch.bmm(x, y) if take is None else torch.bmm(x, y, out=take("out", done.product, left))
    else:
        assert take is not None
        product = _looped(done, done.steps, left, right, take)
    return product.reshape(done.shape).permute(done.order)


def _lying(labels: str, tensor: torch.Tensor) -> Lying:
    return Lying(labels, tuple(tensor.shape), tensor.stride(), tensor.element_size())


def _entry_by_entry(done: Entrywise, vector: torch.Tensor, matrix: torch.Tensor, take: Take | None) -> torch.Tensor:
    """Every entry multiplied, then summed."""
    aligned, lying = vector.permute(done.vector).reshape(done.aligned), matrix.permute(done.matrix)
    product = aligned * lying if take is None else torch.mul(aligned, lying, out=take("right", lying.shape, matrix))
    return product.sum(done.summed).reshape(done.shape).permute(done.order)


def _pair(done: Way, left: torch.Tensor, right: torch.Tensor, take: Take | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Both operands as matrices; what is copied alike for both is copied once."""
    x = _arranged(done.left, left, "left", take)
    alike = left is right and (done.left.order, done.left.copied) == (done.right.order, done.right.copied)
    y = x if alike else _arranged(done.right, right, "right", take)
    return _as_matrices(done.left, x), _as_matrices(done.right, y)


def _matrices(how: Matrices, tensor: torch.Tensor, what: str, take: Take | None) -> torch.Tensor:
    return _as_matrices(how, _arranged(how, tensor, what, take))


def _arranged(how: Matrices, tensor: torch.Tensor, what: str, take: Take | None) -> torch.Tensor:
    """The tensor with its axes in order, copied where that is no batch of matrices."""
    arranged = tensor.permute(how.order)
    if not how.copied:
        return arranged
    return arranged.contiguous() if take is None else take(what, arranged.shape, tensor).copy_(arranged)


def _as_matrices(how: Matrices, arranged: torch.Tensor) -> torch.Tensor:
    made = arranged.reshape(how.shape)
    return made.transpose(1, 2) if how.transposed else made


def _looped(done: Way, steps: int, left: torch.Tensor, right: torch.Tensor, take: Take) -> torch.Tensor:
    """One product for each entry of an axis, written to its place."""
    product = take("out", (steps, *done.product), left)
    for step in range(steps):
        x, y = (
            tensor if axis is None else tensor.select(axis, step)
            for tensor, axis in zip((left, right), done.at, strict=True)
        )
        torch.bmm(
            _matrices(done.left, x, "left", take), _matrices(done.right, y, "right", take), out=product[step]
        )  # fmt: skip
    return product

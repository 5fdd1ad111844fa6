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
from functools import lru_cache

import torch

from jacgram.arrays.base import Buffer
from jacgram.arrays.torch_layout import Entrywise, Lying, Matrices, Way, lean, way
from jacgram.arrays.torch_onednn import multiplied

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


@dataclass(frozen=True, slots=True)
class _Route:
    """What is found once for all tensors that lie alike, so that calls are few where products are small.

    Attributes:
        done: how they are contracted.
        left, right: sizes and strides of the factors as batches of matrices, of a copy where they are copied.
        result: sizes and strides of the result, a view of the products.
    """

    done: Way
    left: _View
    right: _View
    result: _View


_View = tuple[tuple[int, ...], tuple[int, ...]]


def contract(spec: str, left: torch.Tensor, right: torch.Tensor, take: Take | None) -> torch.Tensor:
    """The einsum ``spec`` of two tensors of one dtype; as ``torch.einsum``, whose result may have other strides.

    ``take`` gives memory for it; None where what is done is differentiated or mapped over, and nothing may be written.
    Loops are priced for CPUs; elsewhere operands are copied.
    """
    if take is not None:  # what is repeated is one number to a product, and several to what differentiates it
        spec, gone1, gone2 = _lean(spec, left.shape, left.stride(), right.shape, right.stride())
        for axis in gone1:
            left = left.select(axis, 0)
        for axis in gone2:
            right = right.select(axis, 0)
    loops = take is not None and left.device.type == "cpu"
    route = _route(spec, left.shape, left.stride(), right.shape, right.stride(), left.element_size(), loops)
    if route is None:
        return torch.einsum(spec, left, right)
    if isinstance(route, Entrywise):
        vector, matrix = (right, left) if route.swapped else (left, right)
        return _entry_by_entry(route, vector, matrix, take)
    if route.done.swapped:
        left, right = right, left
    if take is None:
        return _followed(route.done, left, right)
    if route.done.steps is None:
        product = _multiplied(*_pair(route, left, right, take), take("out", route.done.product, left))
    else:
        product = _looped(route, route.done.steps, left, right, take)
    return product.as_strided(*route.result)


_lean = lru_cache(maxsize=4096)(lean)


@lru_cache(maxsize=4096)
def _route(
    spec: str,
    shape1: tuple[int, ...],
    strides1: tuple[int, ...],
    shape2: tuple[int, ...],
    strides2: tuple[int, ...],
    itemsize: int,
    loops: bool,
) -> _Route | Entrywise | None:
    sources, out = spec.split("->")
    first, second = sources.split(",")
    lying = Lying(first, tuple(shape1), strides1, itemsize), Lying(second, tuple(shape2), strides2, itemsize)
    done = way(*lying, out, loops=loops)
    if done is None or isinstance(done, Entrywise):
        return done
    left, right = reversed(lying) if done.swapped else lying
    product = torch.empty(done.product if done.steps is None else (done.steps, *done.product), device="meta")
    result = product.view(done.shape).permute(done.order)
    return _Route(
        done, _viewed(done.left, left, done.at[0]), _viewed(done.right, right, done.at[1]), _view_of(result)
    )  # fmt: skip


def _viewed(how: Matrices, lying: Lying, at: int | None) -> _View:
    """A tensor that lies so, as a batch of matrices; with ``at``, one entry of this axis."""
    tensor = torch.empty_strided(lying.shape, lying.strides, device="meta")
    arranged = (tensor if at is None else tensor.select(at, 0)).permute(how.order)
    made = (arranged.contiguous() if how.copied else arranged).view(how.shape)
    return _view_of(made.transpose(1, 2) if how.transposed else made)


def _view_of(tensor: torch.Tensor) -> _View:
    return tuple(tensor.shape), tensor.stride()


def _entry_by_entry(done: Entrywise, vector: torch.Tensor, matrix: torch.Tensor, take: Take | None) -> torch.Tensor:
    """Every entry multiplied, then summed."""
    aligned, lying = vector.permute(done.vector).reshape(done.aligned), matrix.permute(done.matrix)
    product = aligned * lying if take is None else torch.mul(aligned, lying, out=take("right", lying.shape, matrix))
    return product.sum(done.summed).reshape(done.shape).permute(done.order)


def _followed(done: Way, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The same by operations that are differentiated and mapped over."""

    def matrices(how: Matrices, tensor: torch.Tensor) -> torch.Tensor:
        made = tensor.permute(how.order).reshape(how.shape)
        return made.transpose(1, 2) if how.transposed else made

    return torch.bmm(matrices(done.left, left), matrices(done.right, right)).reshape(done.shape).permute(done.order)


def _pair(route: _Route, left: torch.Tensor, right: torch.Tensor, take: Take) -> tuple[torch.Tensor, torch.Tensor]:
    """Both operands as matrices; what is copied alike for both is copied once."""
    first, second = route.done.left, route.done.right
    x = _arranged(first, left, "left", take)
    alike = left is right and (first.order, first.copied) == (second.order, second.copied)
    y = x if alike else _arranged(second, right, "right", take)
    return x.as_strided(*route.left), y.as_strided(*route.right)


def _arranged(how: Matrices, tensor: torch.Tensor, what: str, take: Take) -> torch.Tensor:
    """The tensor, copied with its axes in order where it is no batch of matrices as it lies."""
    if not how.copied:
        return tensor
    arranged = tensor.permute(how.order)
    return take(what, arranged.shape, tensor).copy_(arranged)


def _looped(route: _Route, steps: int, left: torch.Tensor, right: torch.Tensor, take: Take) -> torch.Tensor:
    """One product for each entry of an axis, written to its place."""
    done = route.done
    product = take("out", (steps, *done.product), left)
    for step in range(steps):
        x, y = (
            tensor if axis is None else tensor.select(axis, step)
            for tensor, axis in zip((left, right), done.at, strict=True)
        )
        _multiplied(*_pair(route, x, y, take), product[step])
    return product


def _multiplied(x: torch.Tensor, y: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """A batch of products, written to ``out``."""
    if x.device.type == "cpu" and multiplied(x, y, out):
        return out
    return torch.bmm(x, y, out=out)

"""Two arrays contracted as one batch of matrix products, spelled out where both lie so.

``jnp.einsum`` leaves products over several axes to the compiler, which on CPUs then chooses layouts that its fast
matrix product does not take: the product of rows over two weight axes ran at 90 GFLOP/s, and at 140 once its axes were
merged here. Where an operand would have to be transposed first, the compiler does that better than we can say it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def contract(spec: str, left: jax.Array, right: jax.Array) -> jax.Array:
    """The einsum ``spec`` of two arrays, in full precision of their dtype."""
    sources, out = spec.split("->")
    first, second = sources.split(",")
    batch = [x for x in first if x in second and x in out]
    summed = [x for x in first if x in second and x not in out]
    rows, columns = ([x for x in term if x in out and x not in batch] for term in (first, second))
    if rows and columns and list(out) == [*batch, *columns, *rows]:
        return contract(f"{second},{first}->{out}", right, left)  # so that the product is not to be transposed
    place1, place2 = _summed_place(first, batch, rows, summed), _summed_place(second, batch, columns, summed)
    labels = (*batch, *rows, *columns)
    if place1 is None or place2 is None or sorted(out) != sorted(labels) or len({*first}) < len(first):
        return jnp.einsum(spec, left, right, precision=jax.lax.Precision.HIGHEST)
    sizes = dict(zip((*first, *second), (*left.shape, *right.shape), strict=True))
    a, b = (
        jnp.reshape(array, [math.prod(sizes[x] for x in group) for group in _groups(place, batch, kept, summed)])
        for array, place, kept in ((left, place1, rows), (right, place2, columns))
    )
    numbers = (((place1,), (place2,)), ((0,), (0,)))
    product = jax.lax.dot_general(a, b, numbers, precision=jax.lax.Precision.HIGHEST)
    return jnp.transpose(jnp.reshape(product, [sizes[x] for x in labels]), [labels.index(x) for x in out])


def _groups(place: int, batch: Sequence[str], kept: Sequence[str], summed: Sequence[str]) -> tuple[Sequence[str], ...]:
    return (batch, summed, kept) if place == 1 else (batch, kept, summed)


def _summed_place(term: str, batch: Sequence[str], kept: Sequence[str], summed: Sequence[str]) -> int | None:
    """Which of three axes is summed when each group is merged into one, as the labels lie; None where they do not."""
    for place in (2, 1):
        if list(term) == [x for group in _groups(place, batch, kept, summed) for x in group]:
            return place
    return None

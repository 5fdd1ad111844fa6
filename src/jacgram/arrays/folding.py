"""Activations that take over what of a cotangent has no seeds.

Near the outputs a cotangent is often a small **core** times a **scale** that is the same for every seed: behind a mean
over positions ``t``, ``g[n, s, t, k] = core[n, s, k] scale[n, t, k]`` with the derivatives of what lies between, if
anything does, as the scale. Rows are then

    Σ_t a[n, t, i] g[n, s, t, k] = (Σ_t a[n, t, i] scale[n, t, k]) core[n, s, k],

whose sum over positions is taken once in place of once for each seed: the use is one of fewer positions, or of none,
with the bracket as its activation and the core as its cotangent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.arrays.base import Arrays
from jacgram.arrays.labelled import Labelled, einsum
from jacgram.arrays.windows import patches
from jacgram.core.uses import Conv, Einsum, Kind

Labels = tuple[str, ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Folding:
    """How one use is folded.

    Attributes:
        before: what the use is.
        activation: labels of its activation, of patches where it is a convolution; None where there is none.
        scale: labels of the scale's axes along which it is not repeated, its axes of other sizes than one.
        out_shape: sizes of the cotangent's axes after examples and seeds.
        kept: the axes of these that the core keeps.
        count: positions of which neither activation nor scale knows.
        after: what the use becomes.
        shape: sizes of its activation's axes after the examples.
        read: entries of what one example's activation is made of, patches or the activation before.
    """

    before: Kind
    activation: Labels | None
    scale: Labels
    out_shape: Shape
    kept: tuple[int, ...]
    count: int
    after: Einsum
    shape: Shape
    read: int

    @property
    def bytes_of_one(self) -> int:
        """What folding one example takes, in double precision: what is read, the scale and the result."""
        return 8 * (self.read + math.prod(self.out_shape) + math.prod(self.shape))

    def fold(self, xp: Arrays, activation: Any, scale: Any) -> Any:
        """The use's new activation ``(n, …)``.

        Args:
            xp: the arrays.
            activation: what it was, ``(n, …)`` or None.
            scale: ``(n, …)``, of the cotangent's axes, of size one where it is repeated.
        """
        assert self.after.activation is not None
        out = (_EXAMPLES, *self.after.activation)
        sizes = (scale.shape[0], *(size for size in scale.shape[1:] if size != 1))
        factor = Labelled((_EXAMPLES, *self.scale), _widened(xp, xp.reshape(scale, sizes)) * self.count)
        if activation is None or self.activation is None:
            return _narrowed(xp, einsum(xp, out, factor).array, scale)
        read = _widened(xp, activation)
        if isinstance(self.before, Conv):
            read = patches(xp, self.before, read, self.out_shape[:-1])
        found = _product(xp, out, Labelled((_EXAMPLES, *self.activation), read), factor)
        return _narrowed(xp, found, activation, scale)


_EXAMPLES = "examples"  # a label that no kind has
_WIDER = {"float32": "float64", "complex64": "complex128"}
_NARROWER = {wide: narrow for narrow, wide in _WIDER.items()}


def _dtype_of(array: Any) -> str:
    return str(array.dtype).removeprefix("torch.")


def _widened(xp: Arrays, array: Any) -> Any:
    """In double precision where there is any: these sums may be told to be that, and are not the contraction's."""
    wider = _WIDER.get(_dtype_of(array))
    return xp.astype(array, wider) if wider is not None and xp.has(wider) else array


def _narrowed(xp: Arrays, array: Any, *sources: Any) -> Any:
    """Back in single precision where its sources are."""
    narrower = _NARROWER.get(_dtype_of(array))
    is_single = all(_dtype_of(source) in _WIDER for source in sources)
    return xp.astype(array, narrower) if narrower is not None and is_single else array


def folding(
    kind: Kind,
    view_shape: Sequence[int],
    activation_shape: Sequence[int] | None,
    out_shape: Sequence[int],
    *,
    repeated: Collection[int],
    scaled: Collection[int],
    outputs: int,
) -> Folding | None:
    """How to fold a use whose cotangent is a core, repeated along some axes, times a scale; None where nothing is won.

    Neither activations nor the patches they are made of grow larger than the cotangents that they take over from, those
    of all outputs.

    Args:
        kind: what the use is.
        view_shape: sizes of the weight's axes.
        activation_shape: sizes of the activation's axes after the examples, or None.
        out_shape: sizes of the cotangent's axes after examples and seeds.
        repeated: axes of the cotangent along which the core is repeated.
        scaled: axes of the cotangent along which the scale is not; none of them is of size one.
        outputs: entries of one example's outputs.
    """
    named = _named(kind)
    if named is None:
        return None
    activation, cotangent, weight = named
    gone = {x for axis, x in enumerate(cotangent) if axis in repeated and x not in weight}
    if not gone:
        return None
    gone |= {x for x, size in zip(cotangent, out_shape, strict=True) if size == 1 and x not in weight}
    if isinstance(kind, Conv) and not gone.issuperset(cotangent[:-1]):
        return None
    scale = tuple(x for axis, x in enumerate(cotangent) if axis in scaled)
    known = (*scale, *(activation or ()))
    left = tuple(x for x in dict.fromkeys(known) if x not in gone)  # what both sides share ahead of what is summed
    sizes = _sizes(kind, activation_shape) | dict(zip(weight, view_shape, strict=True))
    sizes |= dict(zip(cotangent, out_shape, strict=True))
    shape = tuple(sizes[x] for x in left)
    read = math.prod(sizes[x] for x in activation or ())
    grown = max(math.prod(shape), read if isinstance(kind, Conv) else 0)
    if grown > max(math.prod(activation_shape or ()), outputs * math.prod(out_shape)):
        return None
    kept = tuple(axis for axis, x in enumerate(cotangent) if x not in gone)
    count = math.prod(sizes[x] for x in gone if x not in known)
    after = Einsum(left, tuple(cotangent[axis] for axis in kept), weight)
    return Folding(kind, activation, scale, tuple(out_shape), kept, count, after, shape, read)


def _named(kind: Kind) -> tuple[Labels | None, Labels, Labels] | None:
    """Labels of activation, cotangent and weight; None of kinds that are not folded."""
    match kind:
        case Einsum(activation, cotangent, weight):
            return activation, cotangent, weight
        case Conv(window, groups=1):
            t = tuple(f"t{axis}" for axis in range(len(window)))
            d = tuple(f"d{axis}" for axis in range(len(window)))
            return (*t, *d, "i"), (*t, "k"), (*d, "i", "k")
        case _:
            return None


def _sizes(kind: Kind, activation_shape: Sequence[int] | None) -> dict[str, int]:
    """Sizes of the activation's labels that its shape tells; patches are told by weight and cotangent."""
    if isinstance(kind, Einsum) and kind.activation is not None and activation_shape is not None:
        return dict(zip(kind.activation, activation_shape, strict=True))
    return {}


def _product(xp: Arrays, out: Labels, left: Labelled, right: Labelled) -> Any:
    """The einsum of two arrays; what one of them alone has and the result has not is summed first."""
    parts = [
        einsum(xp, tuple(x for x in one.labels if x in out or x in other.labels), one)
        for one, other in ((left, right), (right, left))
    ]
    return einsum(xp, out, *parts).array

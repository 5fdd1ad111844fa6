"""Uses in canonical axes: the weight's axes ordered as in the leaf and named ``w0, w1, …``, positions ``p0, p1, …``.

Two uses that read the same entries, one of them transposed, then have equal views and differ in labels alone. A
convolution becomes an einsum over patches: its window and input channels are weight axes of the activation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use
from jacgram.core.views import View

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Factor:
    """A use in canonical axes.

    Attributes:
        use: position of the use in its side's list.
        view: the view with axes in the leaf's order.
        activation: labels of the activation's axes after the examples, or None; for a convolution, of its patches.
        activation_sizes: their sizes.
        cotangent: labels of the cotangent's axes after examples and seeds.
        cotangent_sizes: their sizes.
        window: labels of the window axes of a convolution; empty otherwise.
        table: label of the indexed axis of a gather, which the activation stands for; None otherwise.
    """

    use: int
    view: View
    activation: tuple[str, ...] | None
    activation_sizes: Shape
    cotangent: tuple[str, ...]
    cotangent_sizes: Shape
    window: tuple[str, ...] = ()
    table: str | None = None

    @property
    def positions(self) -> tuple[str, ...]:
        """Labels of positions, those in the cotangent first."""
        every = dict.fromkeys((*self.cotangent, *(self.activation or ())))
        return tuple(label for label in every if label.startswith("p"))

    @property
    def roles(self) -> tuple[tuple[bool, bool], ...]:
        """For each weight axis, whether the activation and whether the cotangent has it. Like uses have equal roles."""
        names = [f"w{axis}" for axis in range(len(self.view.shape))]
        return tuple((name in (self.activation or ()), name in self.cotangent) for name in names)

    def sizes(self) -> dict[str, int]:
        """Size of every label."""
        pairs = [*zip(self.cotangent, self.cotangent_sizes, strict=True)]
        pairs += zip(self.activation or (), self.activation_sizes, strict=True)
        return dict(pairs) | {f"w{axis}": size for axis, size in enumerate(self.view.shape)}


def factor(position: int, use: Use) -> Factor:
    """The canonical form of one use, from its kind and shapes alone."""
    a_shape = () if use.activation is None else tuple(use.activation.shape[1:])
    g_shape = tuple(use.cotangent.shape[2:])
    match use.kind:
        case Einsum(activation, cotangent, weight):
            return _named(position, use.view, activation, a_shape, cotangent, g_shape, weight)
        case Identity():
            axes = tuple(f"k{axis}" for axis in range(len(g_shape)))
            return _named(position, use.view, None, (), axes, g_shape, axes)
        case Gather(positions):
            p = tuple(f"t{axis}" for axis in range(positions))
            k = tuple(f"k{axis}" for axis in range(len(use.view.shape) - 1))
            named = _named(position, use.view, p, a_shape, p + k, g_shape, ("v", *k))
            v = use.view.leaf_order().index(0)
            return Factor(*_fields(named), table=f"w{v}")
        case Conv() as conv:
            return _conv(position, use.view, conv, g_shape)


def _conv(position: int, view: View, conv: Conv, g_shape: Shape) -> Factor:
    *window, c_in, c_out = view.shape
    split = view.reshape((*window, c_in, conv.groups, c_out // conv.groups))
    assert split is not None, "splitting one axis of a strided view is a strided view"
    t = tuple(f"t{axis}" for axis in range(len(window)))
    d = tuple(f"d{axis}" for axis in range(len(window)))
    out_space = g_shape[:-1]
    named = _named(
        position,
        split,
        (*t, *d, "b", "i"),
        (*out_space, *window, conv.groups, c_in),
        (*t, "b", "k"),
        (*out_space, conv.groups, c_out // conv.groups),
        (*d, "i", "b", "k"),
    )
    order = split.leaf_order()
    return Factor(*_fields(named), window=tuple(f"w{order.index(axis)}" for axis in range(len(window))))


def _named(
    position: int,
    view: View,
    activation: tuple[str, ...] | None,
    a_shape: Shape,
    cotangent: tuple[str, ...],
    g_shape: Shape,
    weight: tuple[str, ...],
) -> Factor:
    order = view.leaf_order()
    names = {weight[axis]: f"w{place}" for place, axis in enumerate(order)}
    for label in dict.fromkeys((*cotangent, *(activation or ()))):
        names.setdefault(label, f"p{len(names) - len(weight)}")
    rename = lambda labels: tuple(names[label] for label in labels)  # noqa: E731
    return Factor(
        position,
        view.transpose(order),
        None if activation is None else rename(activation),
        a_shape,
        rename(cotangent),
        g_shape,
    )


def _fields(named: Factor) -> tuple[int, View, tuple[str, ...] | None, Shape, tuple[str, ...], Shape]:
    return (
        named.use,
        named.view,
        named.activation,
        named.activation_sizes,
        named.cotangent,
        named.cotangent_sizes,
    )


def factors(uses: Sequence[Use]) -> list[Factor]:
    """The canonical form of every use of a side."""
    return [factor(position, use) for position, use in enumerate(uses)]


def row_entries(use: Factor) -> int:
    """Multiplications that form one row of a use: one for each position and weight entry that meet there."""
    sizes = use.sizes()
    labels = {*use.cotangent, *(use.activation or ())}
    return math.prod(sizes[x] for x in labels if x != use.table)

"""Tensors computed from parameters alone, and which entries of which leaves they are.

A **weight** is a sum of terms, each ``scale · leaf[view]``, and possibly of parts that depend on leaves in other ways
(weight norm, low-rank products), called opaque. Views are found by running the same calls on meta tensors, which hold
no values, only an offset and strides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from jacgram.core.views import View
from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.compat import is_view


@dataclass(frozen=True, slots=True)
class Term:
    """``scale · leaf`` seen through ``meta``: a meta tensor of the weight's shape, a view of one of the leaf's."""

    leaf: int
    meta: torch.Tensor
    scale: float | complex = 1.0

    def view(self, dropped: Sequence[int] = ()) -> View:
        """The view, without axes along which an entry repeats (``dropped``, counted as in the weight)."""
        kept = [axis for axis in range(self.meta.ndim) if axis not in dropped]
        shape, strides = self.meta.shape, self.meta.stride()
        return View(int(self.meta.storage_offset()), tuple(shape[a] for a in kept), tuple(strides[a] for a in kept))

    @property
    def repeated(self) -> tuple[int, ...]:
        """Axes along which an entry repeats: those of an expanded tensor."""
        pairs = enumerate(zip(self.meta.shape, self.meta.stride(), strict=True))
        return tuple(axis for axis, (size, stride) in pairs if stride == 0 and size > 1)


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor computed from parameters alone.

    Attributes:
        terms: parts that are views of leaves.
        opaque: leaves it depends on in other ways.
    """

    terms: tuple[Term, ...]
    opaque: frozenset[int] = frozenset()

    @staticmethod
    def of_leaf(leaf: int, tensor: torch.Tensor) -> Weight:
        """A whole leaf."""
        return Weight((Term(leaf, torch.empty(tensor.shape, device="meta")),))

    @property
    def leaves(self) -> frozenset[int]:
        """Every leaf it depends on."""
        return self.opaque | {term.leaf for term in self.terms}

    def blurred(self) -> Weight:
        """The same dependence with nothing known of it."""
        return Weight((), self.leaves)

    def scaled(self, factor: float | complex) -> Weight:
        """A multiple."""
        return Weight(tuple(replace(term, scale=term.scale * factor) for term in self.terms), self.opaque)

    def broadcast(self, shape: Sequence[int]) -> Weight:
        """Expanded to a shape, as addition does."""
        return Weight(tuple(replace(t, meta=t.meta.expand(tuple(shape))) for t in self.terms), self.opaque)

    def __add__(self, other: Weight) -> Weight:
        """A sum. A leaf that is in it opaquely is in it opaquely only, for its gradient is taken as one."""
        opaque = self.opaque | other.opaque
        terms = tuple(term for term in (*self.terms, *other.terms) if term.leaf not in opaque)
        return Weight(terms, opaque)


VIEWS = named(
    "t", "T", "mT", "transpose", "swapaxes", "swapdims", "permute", "movedim", "moveaxis", "view", "reshape", "flatten",
    "unflatten", "ravel", "squeeze", "unsqueeze", "select", "narrow", "__getitem__", "chunk", "split", "tensor_split",
    "split_with_sizes", "unbind", "expand", "diagonal", "broadcast_to",
    "unsafe_chunk", "unsafe_split", "hsplit", "vsplit", "dsplit",
)  # fmt: skip
"""Calls whose results are (mostly) views of their first argument."""

COPIES = named(
    "contiguous", "clone", "to", "type", "float", "double", "half", "bfloat16", "cuda", "cpu", "requires_grad_",
    "positive", "__pos__",
)  # fmt: skip
"""Calls that keep every value, up to precision and place."""

ADDITIONS = named("add", "__add__", "__radd__")
SUBTRACTIONS = named("sub", "subtract", "__sub__")
REVERSED_SUBTRACTIONS = named("rsub", "__rsub__")
PRODUCTS = named("mul", "multiply", "__mul__", "__rmul__")
QUOTIENTS = named("div", "divide", "true_divide", "__truediv__")
NEGATIONS = named("neg", "negative", "__neg__")


def derived(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], out: torch.Tensor | Sequence[Any],
    known: Callable[[Any], Weight | None],
) -> list[Weight]:  # fmt: skip
    """What the results of a call on weights (and constants) are, in order.

    Args:
        func, args, kwargs: the call.
        out: its result, a tensor or several.
        known: the weight that a tensor is, or None for a constant.
    """
    sources = [weight for weight in map(known, flat_arguments((args, kwargs))) if weight is not None]
    outs = [out] if isinstance(out, torch.Tensor) else [part for part in out if isinstance(part, torch.Tensor)]
    blurred = Weight((), frozenset().union(*(weight.leaves for weight in sources)))
    first = known(args[0]) if args else None
    if func in VIEWS and first is not None and len(sources) == 1:
        return _viewed(func, args, kwargs, first, outs) or [blurred] * len(outs)
    if func in COPIES and first is not None and len(sources) == 1 and outs[0].shape == args[0].shape:
        return [first]
    if len(outs) == 1 and (linear := _linear(func, args, kwargs, known)) is not None:
        return [linear.broadcast(outs[0].shape)]
    return [blurred] * len(outs)


def _viewed(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], weight: Weight, outs: list[torch.Tensor]
) -> list[Weight] | None:
    """The call on each term's meta tensor; None where a result is no view of it."""
    if any(isinstance(arg, torch.Tensor) for arg in flat_arguments((args[1:], kwargs))):
        return None
    found = [Weight((), weight.opaque)] * len(outs)
    for term in weight.terms:
        try:
            seen: Any = func(term.meta, *args[1:], **kwargs)
        except (RuntimeError, ValueError, TypeError, IndexError):
            return None
        parts = [seen] if isinstance(seen, torch.Tensor) else list(seen)
        if len(parts) != len(outs) or any(not _aliases(part, term.meta) for part in parts):
            return None
        found = [
            Weight((*held.terms, replace(term, meta=part)), held.opaque)
            for held, part in zip(found, parts, strict=True)
        ]
    return found


def _aliases(part: torch.Tensor, base: torch.Tensor) -> bool:
    """Whether ``part`` is ``base`` or a view into it; a reshape may have copied."""
    return part is base or is_view(part)


def _linear(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], known: Callable[[Any], Weight | None]
) -> Weight | None:
    """Sums of weights and constants, and multiples of one; None for anything else."""
    if len(args) == 1 and not kwargs and func in NEGATIONS:
        weight = known(args[0])
        return None if weight is None else weight.scaled(-1)
    if len(args) != 2 or kwargs:
        return None
    left, right = known(args[0]), known(args[1])
    if func in ADDITIONS | SUBTRACTIONS | REVERSED_SUBTRACTIONS:
        signs = (1, 1) if func in ADDITIONS else (1, -1) if func in SUBTRACTIONS else (-1, 1)
        shape = torch.broadcast_shapes(*(arg.shape if isinstance(arg, torch.Tensor) else () for arg in args))
        parts = [w.scaled(s).broadcast(shape) for w, s in zip((left, right), signs, strict=True) if w is not None]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]
    if func in PRODUCTS and (left is None) != (right is None):
        weight, other = (left, args[1]) if left is not None else (right, args[0])
        return weight.scaled(number) if weight and (number := _number(other)) is not None else None
    if func in QUOTIENTS and left is not None and right is None and (number := _number(args[1])):
        return left.scaled(1 / number)
    return None


def _number(value: Any) -> float | complex | None:
    """A scalar, where it is one; a tensor of several entries is none."""
    if isinstance(value, torch.Tensor):
        return value.item() if value.ndim == 0 else None
    return value if isinstance(value, int | float | complex) else None


def flat_arguments(value: Any) -> list[Any]:
    """Everything in nested lists, tuples, dicts and slices."""
    if isinstance(value, list | tuple):
        return [part for item in value for part in flat_arguments(item)]
    if isinstance(value, dict):
        return flat_arguments(list(value.values()))
    return [value]

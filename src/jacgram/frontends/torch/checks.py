"""Checks on values, on first use: that examples keep to themselves, and that a complex f is holomorphic."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from jacgram.errors import InteractingExamplesError, StructureError
from jacgram.frontends.torch.calling import Precisions, training_batch_norms
from jacgram.frontends.torch.disturbed import disturbed
from jacgram.frontends.torch.products import constants, pushforward
from jacgram.frontends.torch.values import dtype_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

CHECKED_EXAMPLES = 64
"""Examples compared at once: all of a batch up to this size, as many spread over a larger one, to bound memory."""

DISTURBED_EXAMPLES = 4
"""Examples compared a second time, at other values."""

_FIX = (
    "make f treat each example alone and draw nothing at random (evaluation mode, no division by the batch size), with "
    "examples on axis 0"
)


class Seen:
    """What is remembered of (object, key), a check passed or more; an object that dies is forgotten."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Any, dict[Any, Any]]] = {}

    def get(self, f: Any, key: Any) -> Any:
        """What was remembered of f under this key, or None."""
        owner, extra = _identity(f)
        entry = self._by_id.get(id(owner))
        return None if entry is None else entry[1].get((extra, key))

    def put(self, f: Any, key: Any, value: Any = True) -> None:
        """Remember a value, unless f cannot be watched: it is then checked again each time."""
        owner, extra = _identity(f)
        key_of_owner = id(owner)
        if key_of_owner not in self._by_id:
            try:
                reference = weakref.ref(owner, lambda _: self._by_id.pop(key_of_owner, None))
            except TypeError:
                return
            self._by_id[key_of_owner] = (reference, {})
        self._by_id[key_of_owner][1][extra, key] = value


def _identity(f: Any) -> tuple[Any, Any]:
    """The object to watch: a bound method is made anew at each access, so its owner and function stand for it."""
    owner = getattr(f, "__self__", None)
    return (f, None) if owner is None or not hasattr(f, "__func__") else (owner, f.__func__)


_examples_seen = Seen()
_holomorphic_seen = Seen()


def key_of(side: TorchSide) -> Any:
    """Shapes, dtypes and module modes: what a check that passed is remembered by."""
    shapes = tuple((tuple(t.shape), t.dtype, t.device) for t in side.arrays())
    modes = tuple(part.training for module in side.program.modules() for part in module.modules())
    return type(side.program), shapes, modes


def state_of(side: TorchSide) -> Any:
    """Shapes of one example, dtypes and module modes: what is known of f holds for any number of such examples."""
    kind, shapes, modes = key_of(side)
    first = len(side.leaves)
    per_example = tuple((shape[1:], *rest) if k >= first else (shape, *rest) for k, (shape, *rest) in enumerate(shapes))
    return kind, per_example, modes


def check_examples(side: TorchSide) -> str:
    """``"checked"``, or why examples were not compared with their batch.

    Raises:
        InteractingExamplesError: a batch's output is not that of its examples alone.
    """
    if not side.has_examples:
        return "unchecked (no examples: J is taken with respect to x)"
    if side.n < 2:
        return "unchecked (fewer than two examples)"
    key = key_of(side)
    if not _examples_seen.get(side.program.f, key):
        few = _spread(side, CHECKED_EXAMPLES)
        _compare_examples(few)
        if (other := disturbed(_spread(side, DISTURBED_EXAMPLES))) is not None:  # what mixes may be multiplied by zero
            _compare_examples(other)
        _examples_seen.put(side.program.f, key)
    return "checked"


def _compare_examples(side: TorchSide) -> None:
    together, alone, gap = _both_ways(side)
    for path, a, b in zip(side.output_paths, together, alone, strict=True):
        _compare(path, a, b, side, gap)


def _spread(side: TorchSide, most: int) -> TorchSide:
    if side.n <= most:
        return side
    chosen = torch.linspace(0, side.n - 1, most).round().long()
    x = [leaf[chosen.to(leaf.device)] for leaf in side.x]
    return replace(side.examples(0, most), x=x)


def _both_ways(side: TorchSide) -> tuple[list[torch.Tensor], list[torch.Tensor], float]:
    """Outputs of the batch, of each example alone from another random state, and the gap that rounding may cause."""
    with side.calling(), Precisions() as seen:
        together = [y.detach() for y in side.flat(constants(side.leaves))]
    with side.calling():
        torch.rand(1)  # random numbers drawn in the same order would hide that f draws any
        leaves = constants(side.leaves)
        alone = [
            [y.detach() for y in side.flat(leaves, [leaf[k : k + 1] for leaf in side.inputs()])] for k in range(side.n)
        ]
    for path, a, b in zip(side.output_paths, together, alone[0], strict=True):
        if tuple(a.shape) != (side.n, *b.shape[1:]):
            raise InteractingExamplesError(
                f"f gives {_named(path)} of shape {tuple(a.shape)} for the whole batch of {side.n}, but of shape "
                f"{tuple(b.shape)} for one example; {_FIX}."
            )
    return together, [torch.cat(parts) for parts in zip(*alone, strict=True)], tolerance(side, seen.coarsest)


def _compare(path: str, together: torch.Tensor, alone: torch.Tensor, side: TorchSide, allowed: float) -> None:
    """Raise unless both agree to the rounding of the dtype, on the scale of the output; NaN and inf must coincide."""
    wide = torch.complex128 if together.is_complex() else torch.float64
    a, b = together.to(wide), alone.to(wide)
    finite = a.isfinite() & b.isfinite()
    same = finite | (a.isnan() & b.isnan()) | (a == b)
    scale = max(_largest(a[finite]), _largest(b[finite]))
    gap = _largest(a[finite] - b[finite])
    if bool(same.all()) and gap <= allowed * scale:
        return
    layers = training_batch_norms(side.program.modules())
    culprit = f" (batch norm in training mode: {', '.join(layers[:3])})" if layers else ""
    raise InteractingExamplesError(
        f"examples interact{culprit}: {_named(path)} of {side.n} examples together differs from each example's alone "
        f"by {gap:.3g} on a scale of {scale:.3g}, so per-example Jacobians do not exist; {_FIX}."
    )


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _named(path: str) -> str:
    return f"output {path!r}" if path else "an output"


def tolerance(side: TorchSide, within: float = 0.0) -> float:
    """Relative gap that rounding alone may cause: the square root of the coarsest precision in play.

    Args:
        side: f at a point.
        within: the coarsest precision that f computes in, as `Precisions` saw it.
    """
    structs = (*side.outputs, *side.variable)
    return math.sqrt(max(within, *(torch.finfo(dtype_of(struct)).eps for struct in structs)))


def check_holomorphic(side: TorchSide) -> None:
    """Raise `StructureError` unless J(i u) = i J(u) for a random u of the complex leaves. Nothing to do elsewhere."""
    turned = [leaf.is_complex() for leaf in side.leaves]
    if not any(turned) or side.real_part or side.n == 0:
        return
    key = key_of(side)
    if _holomorphic_seen.get(side.program.f, key):
        return
    few = _spread(side, CHECKED_EXAMPLES)
    for point in (few, disturbed(_spread(side, DISTURBED_EXAMPLES))):
        if point is not None:
            _compare_turned(point, turned)
    _holomorphic_seen.put(side.program.f, key)


def _compare_turned(side: TorchSide, turned: Sequence[bool]) -> None:
    tangents = _random_tangents(side, turned)
    pairs: list[list[torch.Tensor]] = []
    with side.calling():
        leaves = constants(side.leaves)
        for factor in (1j, 1.0):
            pairs.append(pushforward(side.flat, leaves, [factor * t if t.is_complex() else t for t in tangents]))
    for a, b in zip(*pairs, strict=True):
        gap, scale = (a - 1j * b).detach().abs(), b.detach().abs()
        finite = gap.isfinite()
        if _largest(gap[finite]) > tolerance(side) * _largest(scale[finite]):
            raise StructureError(
                "f is not holomorphic in its complex parameters (J(iu) differs from i J(u) by "
                f"{_largest(gap[finite]):.3g}), so it has no complex Jacobian; return real outputs, or pass real and "
                "imaginary parts as parameters."
            )


def _random_tangents(side: TorchSide, turned: Sequence[bool]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(leaf: torch.Tensor) -> torch.Tensor:
        return torch.randn(leaf.shape, dtype=leaf.dtype, generator=generator).to(leaf.device)

    pairs = zip(side.leaves, turned, strict=True)
    return [draw(leaf) if is_turned else torch.zeros_like(leaf) for leaf, is_turned in pairs]

"""From a rule's labels to a record's: broadcast axes dropped, axes of ``vmap`` within f counted as positions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from jacgram.core.uses import Conv, Einsum, Gather, Identity
from jacgram.frontends.torch.tape import Entry


@dataclass(frozen=True, slots=True)
class Fitted:
    """The labels of one einsum, sizes agreeing.

    Attributes:
        kind: its labels; ``weight`` without the dropped axes.
        dropped: axes of the weight along which it is broadcast.
        squeezed: axes of the activation (after n and inner axes) along which it is broadcast.
    """

    kind: Einsum
    dropped: tuple[int, ...]
    squeezed: tuple[int, ...]


def arranged(entry: Entry, cotangent: torch.Tensor) -> torch.Tensor:
    """The cotangent of the output in the axes that the reading speaks of."""
    reshaped = entry.reading.cotangent
    return cotangent if reshaped is None else reshaped(cotangent)


def fitted(entry: Entry) -> Fitted | None:
    """The einsum of an entry; None where an axis of the weight is in neither operand, or it is none."""
    kind = entry.reading.kind
    if isinstance(kind, Identity):
        d = tuple(f"d{axis}" for axis in range(len(entry.weight_shape)))
        kind = Einsum(None, d, d)
    if not isinstance(kind, Einsum):
        return None
    activation = None if kind.activation is None or entry.activation is None else tuple(entry.activation.shape)
    repeated = frozenset(axis for term in entry.weight.terms for axis in term.repeated)
    return _fitted(
        kind, tuple(arranged(entry, entry.output).shape), activation, entry.weight_shape, repeated, entry.inner
    )


@lru_cache(maxsize=4096)
def _fitted(
    kind: Einsum,
    cotangent: tuple[int, ...],
    activation: tuple[int, ...] | None,
    weight: tuple[int, ...],
    repeated: frozenset[int],
    inner: int,
) -> Fitted | None:
    """The same by shapes, and by axes along which parts of the weight repeat their entries."""
    sizes = dict(zip(kind.cotangent, cotangent[1 + inner :], strict=True))
    own = () if activation is None or kind.activation is None else activation[len(activation) - len(kind.activation) :]
    for label, size in zip(kind.activation or (), own, strict=True):
        sizes[label] = max(size, sizes.get(label, 1))
    for label, size in zip(kind.weight, weight, strict=True):
        sizes.setdefault(label, size)
    dropped = repeated | {a for a, (x, size) in enumerate(zip(kind.weight, weight, strict=True)) if size != sizes[x]}
    kept = tuple(label for axis, label in enumerate(kind.weight) if axis not in dropped)
    extra = tuple(f"v{axis}" for axis in range(inner))
    labels, squeezed = kind.activation, ()
    if labels is not None and activation is not None:
        lead = len(activation) - len(labels)
        if lead - 1 not in (0, inner):
            return None
        squeezed = tuple(a for a, (x, size) in enumerate(zip(labels, own, strict=True)) if size != sizes[x])
        labels = tuple(x for a, x in enumerate(labels) if a not in squeezed)
        labels = (*extra, *labels) if lead - 1 else labels
    if not set(kept) <= {*(labels or ()), *kind.cotangent}:
        return None
    return Fitted(Einsum(labels, (*extra, *kind.cotangent), kept), tuple(sorted(dropped)), squeezed)


def fits(entry: Entry) -> bool:
    """Whether the entry can be one use per term of its weight."""
    kind = entry.reading.kind
    if isinstance(kind, Einsum | Identity):
        return fitted(entry) is not None and _repeats_agree(entry)
    if entry.weight.opaque or entry.inner or any(term.repeated for term in entry.weight.terms):
        return False
    assert isinstance(kind, Conv | Gather)
    view = entry.reading.view
    return view is None or all(view(term.view()) is not None for term in entry.weight.terms)


def _repeats_agree(entry: Entry) -> bool:
    """Whether every part of the weight repeats its entries along the same axes, so that they can share one einsum."""
    repeats = {term.repeated for term in entry.weight.terms}
    return len(repeats) <= 1 and not (entry.weight.opaque and any(repeats))

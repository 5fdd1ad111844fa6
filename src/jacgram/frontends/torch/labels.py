"""From a rule's labels to a record's: broadcast axes dropped, axes of ``vmap`` within f counted as positions."""

from __future__ import annotations

from dataclasses import dataclass

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
    cotangent = arranged(entry, entry.output)
    inner = entry.inner
    sizes = dict(zip(kind.cotangent, cotangent.shape[1 + inner :], strict=True))
    if kind.activation is not None:
        assert entry.activation is not None
        own = entry.activation.shape[entry.activation.ndim - len(kind.activation) :]
        for label, size in zip(kind.activation, own, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    for label, size in zip(kind.weight, entry.weight_shape, strict=True):
        sizes.setdefault(label, size)
    return _without_broadcasts(entry, kind, sizes, inner)


def _without_broadcasts(entry: Entry, kind: Einsum, sizes: dict[str, int], inner: int) -> Fitted | None:
    pairs = list(enumerate(zip(kind.weight, entry.weight_shape, strict=True)))
    dropped = {axis for axis, (label, size) in pairs if size != sizes[label]}
    dropped |= {axis for term in entry.weight.terms for axis in term.repeated}
    weight = tuple(label for axis, (label, _) in pairs if axis not in dropped)
    extra = tuple(f"v{axis}" for axis in range(inner))
    activation, squeezed = kind.activation, ()
    if activation is not None and entry.activation is not None:
        lead = entry.activation.ndim - len(activation)
        if lead - 1 not in (0, inner):
            return None
        own = entry.activation.shape[lead:]
        squeezed = tuple(a for a, (x, size) in enumerate(zip(activation, own, strict=True)) if size != sizes[x])
        kept = tuple(x for a, x in enumerate(activation) if a not in squeezed)
        activation = (*extra, *kept) if lead - 1 else kept
    if not set(weight) <= {*(activation or ()), *kind.cotangent}:
        return None
    return Fitted(Einsum(activation, (*extra, *kind.cotangent), weight), tuple(sorted(dropped)), squeezed)


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

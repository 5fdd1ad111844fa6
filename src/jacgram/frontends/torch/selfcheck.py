"""What was found is compared with autograd's own gradient: one ordinary backward pass of the batch, on first use.

For random weights c of examples and seeds, ``Σ c[n, s] rows[n, s]`` must be the gradient of ``Σ c[n, s] seed[s] y[n]``.
Examples with a value that is not finite are left out, for nothing can be compared there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use
from jacgram.core.views import View
from jacgram.frontends.torch.assemble import Magnitudes
from jacgram.frontends.torch.calling import Precisions
from jacgram.frontends.torch.checks import tolerance
from jacgram.frontends.torch.products import fresh, gradients, pullback_by
from jacgram.frontends.torch.recording import random_seeds

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide


_STEPS = 1024  # of rounding in a sum of outputs that cancel, beside gradients of outputs that do not


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a comparison says.

    Attributes:
        wrong: leaves whose uses do not add up.
        telling: whether every leaf that y depends on has a gradient here. Where one has none, as behind a head of
            zeros, nothing was compared, and nothing is known of other values.
    """

    wrong: list[int]
    telling: bool


def compared(
    side: TorchSide, seeds: Sequence[torch.Tensor], uses: Sequence[Use], magnitudes: Magnitudes | None = None
) -> Comparison:
    """Uses beside an ordinary backward pass.

    Args:
        side: f at a point.
        seeds: per output leaf, the ``(s, *output)`` that the uses were found with.
        uses: all uses of all leaves; a leaf without any has a zero gradient.
        magnitudes: of the activations of those that are folded.

    Cost: one backward pass, and one pass over the uses' arrays.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn((side.n, len(seeds[0])), generator=generator, dtype=torch.float64).to(side.device)
    with torch.no_grad():
        weighted = _weighted(uses, weights)
        kept = _finite(side, weighted)
        if not bool(kept.any()):
            return Comparison([], telling=False)
        weighted = weighted if bool(kept.all()) else [_of_examples(use, kept) for use in weighted]
    expected, allowed, used = _reference(side, seeds, weights, kept)
    telling = all(bool(expected[leaf].any()) for leaf in used)
    sums = [
        torch.zeros(leaf.numel(), dtype=g.dtype, device=g.device) for leaf, g in zip(side.leaves, expected, strict=True)
    ]
    with torch.no_grad():
        for use in weighted:
            _entries(sums[use.leaf], use.view).add_(_summed_rows(use).to(sums[use.leaf].dtype))
        pairs = enumerate(zip(sums, expected, strict=True))
        apart = {leaf: _largest(a - b.reshape(-1)) for leaf, (a, b) in pairs if not _close(a, b.reshape(-1), allowed)}
        wrong = [
            leaf
            for leaf, gap in apart.items()
            if not gap <= allowed * _uncancelled(weighted, leaf, kept, magnitudes or {})
        ]
    if wrong:  # where outputs cancel, as their sum does behind a softmax, gradients are rounding alone
        usual, _, _ = _reference(side, random_seeds(side, len(seeds[0])), weights, kept)
        wrong = [leaf for leaf in wrong if not apart[leaf] <= _STEPS * allowed**2 * _largest(usual[leaf])]
    return Comparison(wrong, telling)


def _weighted(uses: Sequence[Use], weights: torch.Tensor) -> list[Use]:
    """Uses with one cotangent per example in place of one per seed: ``Σ_s c[n, s] g[n, s]``, of shape ``(n, 1, …)``."""
    found: dict[int, torch.Tensor] = {}
    for use in uses:
        if id(use.cotangent) not in found:
            g = use.cotangent.detach()
            flat = torch.bmm(weights.to(g.dtype)[:, None], g.flatten(2) if g.ndim > 2 else g[..., None])
            found[id(use.cotangent)] = flat.reshape(g.shape[0], 1, *g.shape[2:])
    return [
        replace(
            use,
            activation=None if use.activation is None else use.activation.detach(),
            cotangent=found[id(use.cotangent)],
        )
        for use in uses
    ]


def _of_examples(use: Use, kept: torch.Tensor) -> Use:
    activation = None if use.activation is None else use.activation[kept]
    return replace(use, activation=activation, cotangent=use.cotangent[kept])


def _close(a: torch.Tensor, b: torch.Tensor, allowed: float) -> bool:
    return _largest(a - b) <= allowed * max(_largest(a), _largest(b))


def _largest(values: torch.Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _uncancelled(weighted: Sequence[Use], leaf: int, kept: torch.Tensor, magnitudes: Magnitudes) -> float:
    """The scale of a leaf's gradient before terms cancel: a bias ahead of a norm layer has none but for rounding."""
    scale = 0.0
    for use in weighted:
        if use.leaf == leaf:
            a = magnitudes[leaf]().detach()[kept] if leaf in magnitudes else use.activation
            a = a if a is None or isinstance(use.kind, Gather) else a.abs()
            scale += _largest(_summed_rows(replace(use, activation=a, cotangent=use.cotangent.abs())))
    return scale


def _finite(side: TorchSide, weighted: Sequence[Use]) -> torch.Tensor:
    """Which examples have finite values throughout."""
    kept = torch.ones(side.n, dtype=torch.bool, device=side.device)
    arrays = {id(array): array for use in weighted for array in (use.activation, use.cotangent) if array is not None}
    for array in arrays.values():
        if array.is_floating_point() or array.is_complex():
            kept &= array.isfinite().reshape(side.n, -1).all(1)
    return kept


def _reference(
    side: TorchSide, seeds: Sequence[torch.Tensor], weights: torch.Tensor, kept: torch.Tensor
) -> tuple[list[torch.Tensor], float, set[int]]:
    """``Jᵀ`` of the weighted seeds by one backward pass of the examples kept, the gap allowed, and the leaves used."""
    weights = weights[kept]
    with side.calling():
        leaves = fresh(side.leaves, create_graph=False)
        with Precisions() as seen:
            outputs = side.flat(leaves, [leaf[kept.to(leaf.device)] for leaf in side.inputs()])
        cotangents = [torch.einsum("ns,s...->n...", weights.to(seed.dtype), seed) for seed in seeds]
        if not side.has_examples:
            cotangents = [v[0] for v in cotangents]
        used: set[int] = set()
        pulled = pullback_by(lambda fitted: gradients(outputs, leaves, fitted, used=used), outputs, leaves, cotangents)
        return pulled, tolerance(side, seen.coarsest), used


def _entries(flat: torch.Tensor, view: View) -> torch.Tensor:
    """The entries of a row-major leaf that a view reads; axes along which it runs backwards are not turned round."""
    offset = view.offset + sum((n - 1) * s for n, s in zip(view.shape, view.strides, strict=True) if s < 0)
    return flat.as_strided(view.shape, [abs(s) for s in view.strides], offset)


def _summed_rows(use: Use) -> torch.Tensor:
    """``Σ_n rows[n]`` of a use with one seed, in the view's axes, those that run backwards turned round."""
    g, a = use.cotangent[:, 0], use.activation
    match use.kind:
        case Identity():
            rows = g.sum(0)
        case Gather():
            rows = _gathered(use.view.shape, a, g)
        case Conv():
            rows = _convolved(use.kind, use.view.shape, a, g)
        case Einsum():
            rows = _contracted(use.kind, a, g)
    return rows.flip([axis for axis, stride in enumerate(use.view.strides) if stride < 0])


def _contracted(kind: Einsum, a: torch.Tensor | None, g: torch.Tensor) -> torch.Tensor:
    number = {label: k + 1 for k, label in enumerate(dict.fromkeys((*(kind.activation or ()), *kind.cotangent)))}
    operands: list[Any] = [] if a is None else [a.to(g.dtype), [0, *(number[x] for x in kind.activation or ())]]
    return torch.einsum(*operands, g, [0, *(number[x] for x in kind.cotangent)], [number[x] for x in kind.weight])


def _gathered(shape: tuple[int, ...], index: Any, g: torch.Tensor) -> torch.Tensor:
    rows = torch.zeros(shape, dtype=g.dtype, device=g.device)
    return rows.index_add_(0, index.reshape(-1), g.reshape(index.numel(), *shape[1:]))


def _convolved(kind: Conv, shape: tuple[int, ...], x: Any, g: torch.Tensor) -> torch.Tensor:
    """The weight gradient of the convolution that the record describes, by autograd."""
    x = x.to(g.dtype)
    for axis, spacing in enumerate(kind.input_dilation):
        x = _spread(x, axis + 1, spacing)
    x = functional.pad(x, [0, 0, *(size for pair in reversed(kind.padding) for size in pair)])
    strides, dilation = kind.strides, kind.dilation
    folded = len(kind.window) == 4 or (len(kind.window) > 1 and kind.window[0] == 1 and kind.strides[0] == 1)
    if folded:  # a first axis with a window of one is one more batch axis
        x, g, shape = x.flatten(0, 1), g.flatten(0, 1), shape[1:]
        strides, dilation = strides[1:], dilation[1:]
    dims = len(strides)
    *window, into, out = shape
    weight = torch.zeros((out, into, *window), dtype=g.dtype, device=g.device, requires_grad=True)
    with torch.enable_grad():
        call = (functional.conv1d, functional.conv2d, functional.conv3d)[dims - 1]
        y = call(x.movedim(-1, 1), weight, None, strides, 0, dilation, kind.groups)
        y = y[(..., *(slice(size) for size in g.shape[1:-1]))]  # outputs that the record leaves out
        rows = torch.autograd.grad(y, weight, g.movedim(-1, 1))[0]
    rows = rows.permute(*range(2, 2 + dims), 1, 0)
    return rows[None] if folded else rows


def _spread(x: torch.Tensor, axis: int, spacing: int) -> torch.Tensor:
    if spacing == 1:
        return x
    shape = list(x.shape)
    shape[axis] = max((shape[axis] - 1) * spacing + 1, 0)
    out = x.new_zeros(shape)
    out[(slice(None),) * axis + (slice(None, None, spacing),)] = x
    return out

"""The operands of a component's network: the activations and cotangents of like uses, stacked along their positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jacgram.arrays import Arrays
from jacgram.arrays.labelled import Labelled, einsum
from jacgram.arrays.windows import at_offset, patches, spread_input
from jacgram.core.uses import Conv, Use
from jacgram.plan.assembly import Stack, paired_positions
from jacgram.plan.factors import Factor


def cotangent(
    xp: Arrays, stack: Stack, uses: Sequence[Use], seeds: tuple[int, int], seed_sizes: Sequence[int], dtype: str
) -> Labelled:
    """The stacked cotangent in ``dtype``, seeds ``seeds[0]:seeds[1]`` unfolded into their axes."""
    parts: list[Labelled] = []
    for factor in stack.factors:
        array = xp.astype(xp.slice(uses[factor.use].cotangent, 1, seeds[0], seeds[1] - seeds[0]), dtype)
        n = array.shape[0]
        lead = () if stack.example is None else (n,)
        array = xp.reshape(array, (*lead, *seed_sizes, *factor.cotangent_sizes))
        if stack.stacked is None:
            return Labelled(stack.cotangent, array)
        head = (*(() if stack.example is None else (stack.example,)), *stack.seeds)
        parts.append(_lay_flat(xp, Labelled((*head, *factor.cotangent), array), factor, stack.cotangent, stack.stacked))
    return _concatenate(xp, parts, stack)


def activation(
    xp: Arrays, stack: Stack, uses: Sequence[Use], dtype: str, offset: tuple[int, ...] | None
) -> Labelled | None:
    """The stacked activation in ``dtype`` (indices as they are), or None where there is none.

    That of a convolution is its patches, or what it reads at one window offset.
    """
    if stack.activation is None:
        return None
    parts: list[Labelled] = []
    head = () if stack.example is None else (stack.example,)
    for factor in stack.factors:
        array, labels = _one_activation(xp, factor, uses[factor.use], offset)
        array = array if factor.table is not None else xp.astype(array, dtype)
        if stack.example is None:
            array = xp.reshape(array, array.shape[1:])
        dropped = factor.window if offset is not None else ()
        target = tuple(x for x in stack.activation if x not in dropped)
        if stack.stacked is None:
            return Labelled(target, array)
        parts.append(_lay_flat(xp, Labelled((*head, *labels), array), factor, target, stack.stacked))
    return _concatenate(xp, parts, stack)


def _one_activation(
    xp: Arrays, factor: Factor, use: Use, offset: tuple[int, ...] | None
) -> tuple[Any, tuple[str, ...]]:
    assert factor.activation is not None
    if not isinstance(use.kind, Conv):
        return use.activation, factor.activation
    conv, out_space = use.kind, tuple(use.cotangent.shape[2:-1])
    n, channels = use.activation.shape[0], use.activation.shape[-1] // conv.groups
    if offset is None:
        array = patches(xp, conv, use.activation, out_space)
        return xp.reshape(array, (n, *factor.activation_sizes)), factor.activation
    array = at_offset(xp, conv, spread_input(xp, conv, use.activation), offset, out_space)
    labels = tuple(x for x in factor.activation if x not in factor.window)
    return xp.reshape(array, (n, *out_space, conv.groups, channels)), labels


def _lay_flat(xp: Arrays, part: Labelled, factor: Factor, target: tuple[str, ...], stacked: str) -> Labelled:
    """Positions as one axis: those of both operands kept, those of one operand summed."""
    paired = paired_positions(factor)
    at = target.index(stacked)
    order = (*target[:at], *paired, *target[at + 1 :])
    arranged = einsum(xp, order, part)
    sizes = dict(zip(arranged.labels, arranged.array.shape, strict=True))
    shape = [math.prod(sizes[x] for x in paired) if x == stacked else sizes[x] for x in target]
    return Labelled(target, xp.reshape(arranged.array, shape))


def _concatenate(xp: Arrays, parts: Sequence[Labelled], stack: Stack) -> Labelled:
    assert stack.stacked is not None
    labels = parts[0].labels
    return Labelled(labels, xp.concatenate([part.array for part in parts], labels.index(stack.stacked)))

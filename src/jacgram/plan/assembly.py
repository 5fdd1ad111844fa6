"""From a component and what is wanted of it to a tensor network over stacked operands.

Labels: ``y:…`` for examples and seeds, ``w0, w1, …`` for the weight's axes, which both sides share, and ``p…'1`` or
``p…'2`` for positions, which each side has of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from jacgram.plan.components import Component, Form
from jacgram.plan.factors import Factor
from jacgram.plan.network import Network
from jacgram.plan.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Stack:
    """The operands of one side of a network: like uses, stacked along their positions.

    Attributes:
        factors: the uses, in the order in which they are stacked.
        example: label of the examples, or None.
        seeds: labels of the seeds.
        activation: labels of the stacked activation, or None; of a gather, of its indices.
        cotangent: labels of the stacked cotangent.
        stacked: label of the one position axis that several uses are laid along; None for a single use.
        sizes: (label, size) of every weight and position label.
    """

    factors: tuple[Factor, ...]
    example: str | None
    seeds: tuple[str, ...]
    activation: tuple[str, ...] | None
    cotangent: tuple[str, ...]
    stacked: str | None
    sizes: tuple[tuple[str, int], ...]


def stack(factors: Sequence[Factor], side: int, wanted: Wanted) -> Stack:
    """Stack the uses of side 1 or 2. They must have equal views and roles."""
    example = wanted.example1 if side == 1 else wanted.example2
    seeds = wanted.seeds1 if side == 1 else wanted.seeds2
    lead_a = () if example is None else (example,)
    first = factors[0]
    if len(factors) == 1:
        own = lambda labels: tuple(f"{x}'{side}" if x.startswith("p") else x for x in labels)  # noqa: E731
        a = None if first.activation is None else (*lead_a, *own(first.activation))
        sizes = {own((label,))[0]: size for label, size in first.sizes().items()}
        return Stack(
            tuple(factors), example, seeds, a, (*lead_a, *seeds, *own(first.cotangent)), None, tuple(sizes.items())
        )
    label = f"p'{side}"
    sizes = {x: size for x, size in first.sizes().items() if x.startswith("w")}
    sizes[label] = sum(position_count(f) for f in factors)
    a = None if first.activation is None else (*lead_a, label, *weights(first.activation))
    return Stack(
        tuple(factors),
        example,
        seeds,
        a,
        (*lead_a, *seeds, label, *weights(first.cotangent)),
        label,
        tuple(sizes.items()),
    )


def weights(labels: Sequence[str]) -> tuple[str, ...]:
    """The weight labels among these, in weight order."""
    return tuple(sorted((x for x in labels if x.startswith("w")), key=lambda x: int(x[1:])))


def position_count(factor: Factor) -> int:
    """Number of positions at which one example's cotangent meets its activation."""
    sizes = factor.sizes()
    return math.prod(sizes[x] for x in paired_positions(factor))


def paired_positions(factor: Factor) -> tuple[str, ...]:
    """Positions that remain when a use is stacked; those in one operand only are summed before."""
    if factor.activation is None:
        return ()
    return tuple(x for x in factor.positions if x in factor.activation and x in factor.cotangent)


@dataclass(frozen=True, slots=True)
class Assembly:
    """A component's network, with the stacks its operands are made of.

    Attributes:
        network: operands ``a1, g1, a2, g2``, without an activation that is not there; for a table ``a1a2, g1, g2``.
        stacks: of side 1 and of side 2.
        sizes: (label, size) of every label.
        windows: window labels that are looped over rather than formed as patches.
    """

    network: Network
    stacks: tuple[Stack, Stack]
    sizes: tuple[tuple[str, int], ...]
    windows: tuple[str, ...]


@lru_cache(maxsize=4096)
def assemble(component: Component, wanted: Wanted, *, loop_windows: bool) -> Assembly:
    """The network of a component of form ``NETWORK`` or ``TABLE``."""
    left, right = stack(component.left, 1, wanted), stack(component.right, 2, wanted)
    windows = component.left[0].window if loop_windows else ()
    out = wanted.block
    if component.form is Form.TABLE:
        assert left.activation is not None and right.activation is not None
        table = component.left[0].table
        meets = tuple(dict.fromkeys((*left.activation, *right.activation)))
        cut = lambda labels: tuple(x for x in labels if x != table)  # noqa: E731
        network = Network(("a1a2", "g1", "g2"), (meets, cut(left.cotangent), cut(right.cotangent)), out)
    else:
        names: list[str] = []
        operands: list[tuple[str, ...]] = []
        for side, part in ((1, left), (2, right)):
            if part.activation is not None:
                names.append(f"a{side}")
                operands.append(tuple(x for x in part.activation if x not in windows))
            names.append(f"g{side}")
            operands.append(part.cotangent)
        network = Network(tuple(names), tuple(operands), out)
    sizes = dict(wanted.sizes) | dict(left.sizes) | dict(right.sizes)
    return Assembly(network, (left, right), tuple(sizes.items()), windows)

"""What recording a run of f yields: where each weight was used, and the outputs to pull back from.

Shapes here are those of one example, as f sees them (with its batch axis of one). Tensors kept for later are held for
all examples, ``(n, *inner, *shape)``, where ``inner`` are axes of ``vmap`` within f.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.autograd.graph import GradientEdge

from jacgram.core.uses import Kind
from jacgram.core.views import View
from jacgram.frontends.torch.weights import Weight

Reshaped = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """How one call reads one weight: what a rule says of it.

    In an `Einsum`, an axis of size one whose label is larger elsewhere is broadcast along it.

    Attributes:
        weight: the tensor among the call's arguments.
        kind: labels name the axes of the weight, of the activation, and of the cotangent as ``cotangent`` arranges it.
        activation: a tensor of the kind's activation axes, or None.
        cotangent: rearranges the axes of the output's cotangent, counting them from the last; readings that share it
            share the function.
        view: rearranges the weight's view into the axes of a `Conv` or `Gather`; None where the result is no view.
        scale: factor of the use.
    """

    weight: torch.Tensor
    kind: Kind
    activation: torch.Tensor | None = None
    cotangent: Reshaped | None = None
    view: Callable[[View], View | None] | None = None
    scale: float | complex = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A reading that took place.

    Attributes:
        name: the operation.
        reading: what its rule said.
        weight: what the tensor read is.
        source: gradient edge of the tensor read where it is opaque, to pull rows back from.
        read: a meta tensor like it.
        activation: the activation ``(n, *inner, ...)``.
        edge: gradient edge of the call's output.
        output: a meta tensor like the output, ``(n, *inner, ...)``.
        rank: number of axes of the output as f sees it.
    """

    name: str
    reading: Reading
    weight: Weight
    source: GradientEdge | None
    read: torch.Tensor
    activation: torch.Tensor | None
    edge: GradientEdge
    output: torch.Tensor
    rank: int

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of the tensor read."""
        return tuple(self.read.shape)

    @property
    def inner(self) -> int:
        """Number of axes of ``vmap`` within f."""
        return self.output.ndim - 1 - self.rank

    @property
    def signature(self) -> Any:
        """What tells two calls apart: the operation, the weight's shape and leaves, the output's shape."""
        leaves = tuple(sorted(self.weight.leaves))
        return self.name, leaves, self.weight_shape, tuple(self.output.shape[1:]), type(self.reading.kind)


@dataclass(slots=True)
class Tape:
    """All entries of one run, in order, and its outputs.

    Attributes:
        entries: readings in the order of the calls.
        outputs: leaves of y, ``(n, *output)``; ``(1, *y)`` where y has no examples.
        calls: every call made, with the number of transforms around it.
        n: number of examples.
        largest_bytes: of one example's largest array that a call gave.
        packs_saved: whether a call was made where hooks pack what is saved for the way back.
    """

    n: int
    entries: list[Entry] = field(default_factory=list[Entry])
    outputs: list[torch.Tensor] = field(default_factory=list[torch.Tensor])
    calls: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    largest_bytes: int = 0
    packs_saved: bool = False

    @property
    def signature(self) -> Any:
        """The recorded call sequence: the calls that read weights, and all calls there were."""
        return tuple(entry.signature for entry in self.entries), tuple(self.calls)


def edge_key(edge: GradientEdge) -> tuple[int, int]:
    """Equal for edges into one output of one node; nodes are kept alive by the tape."""
    return id(edge.node), edge.output_nr

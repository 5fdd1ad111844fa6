"""The networks that a component may be contracted as, and what it takes to form their operands."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from jacgram.plan.assembly import Assembly, assemble
from jacgram.plan.by_example import one_example
from jacgram.plan.components import Component, Form
from jacgram.plan.network import Network, Step
from jacgram.plan.triangle import Triangle
from jacgram.plan.wanted import Wanted

_MAX_WINDOWS = 64  # a loop over more window offsets than this would make long programs; patches are formed instead


@dataclass(frozen=True, slots=True)
class Problem:
    """A network to be contracted, and what it takes to form its operands.

    Attributes:
        network: operands and result by labels.
        sizes: (label, size) of every label.
        repeats: how often it is contracted: once for each window offset that is looped over.
        loop_windows: whether window offsets are looped over.
        formed_bytes: bytes of operands that have to be formed: stacked, patched, compared.
        triangle: how much of the result is computed where both sides are one.
        examples: number of side 2's examples, where they are taken one at a time; 0 where they are axes like others.
    """

    network: Network
    sizes: tuple[tuple[str, int], ...]
    repeats: int
    loop_windows: bool
    formed_bytes: int
    triangle: Triangle
    examples: int = 0

    def rounds(self, step: Step) -> int:
        """How often a step is taken in a panel: once, or for each of the examples that are taken one at a time.

        What side 2 has of its own is made of each example in every panel that has it, and counted here for all panels.
        """
        if not self.examples or "2" not in step.sides:
            return 1
        panels = self.triangle.panels if len(step.sides) < 2 else 1
        return math.ceil(self.examples * self.triangle.share * panels)

    def once_entries(self, network: Network) -> int:
        """Entries that a loop over examples takes beside its rounds, of operands in the order of ``network``.

        What lies in another order now, what is cut for panels where that is a copy, and what the rounds have found,
        before it is brought into the block's order.
        """
        if not self.examples:
            return 0
        sizes = dict(self.sizes)
        found = self.examples * math.prod(sizes[x] for x in network.out)
        for name, before, after in zip(network.names, self.network.operands, network.operands, strict=True):
            if before != after or self.triangle.blocks:
                found += math.prod(sizes[x] for x in after) * (self.examples if "2" in name else 1)
        return found


def problems(component: Component, wanted: Wanted, itemsize: int, triangle: Triangle) -> list[Problem]:
    """The networks that a component may be contracted as: with patches, window by window, example by example."""
    if component.form is Form.ROWS:
        return []
    windows = component.left[0].window
    count = math.prod(component.left[0].sizes()[x] for x in windows)
    loops = (False, True) if 1 < count <= _MAX_WINDOWS else (False,)
    found = [_problem(component, assemble(component, wanted, loop_windows=loop), itemsize, triangle) for loop in loops]
    return [*found, *_one_by_one(found[0], wanted)] if goes_by_example(component, wanted) else found


def goes_by_example(component: Component, wanted: Wanted) -> bool:
    """Whether side 2's examples can be taken one at a time: they are an axis of the result, and not side 1's."""
    uses = (*component.left, *component.right)
    whole = component.form is Form.NETWORK and all(use.activation is not None for use in uses)
    return whole and wanted.example2 in wanted.out and not wanted.paired


def _problem(component: Component, assembly: Assembly, itemsize: int, triangle: Triangle) -> Problem:
    sizes = dict(assembly.sizes)
    formed = 0
    for part in assembly.stacks:
        if part.activation is not None and (part.stacked is not None or component.left[0].window):
            formed += math.prod(sizes[x] for x in part.activation if x not in assembly.windows)
        if part.stacked is not None:
            formed += math.prod(sizes[x] for x in part.cotangent)
    if component.form is Form.TABLE:
        formed += math.prod(sizes[x] for x in assembly.network.operands[0])
    repeats = math.prod(sizes[x] for x in assembly.windows)
    used = {x for labels in (*assembly.network.operands, assembly.network.out) for x in labels}
    kept = tuple((x, n) for x, n in assembly.sizes if x in used)
    return Problem(assembly.network, kept, repeats, bool(assembly.windows), formed * itemsize, triangle)


def _one_by_one(whole: Problem, wanted: Wanted) -> list[Problem]:
    """The same with side 2's examples one at a time, if they are several."""
    example, sizes = wanted.example2, dict(whole.sizes)
    assert example is not None
    n = sizes.pop(example)
    if n < 2:
        return []
    return [replace(whole, network=one_example(whole.network, example), sizes=tuple(sizes.items()), examples=n)]

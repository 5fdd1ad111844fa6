"""What an order costs, whole or in slices, by the device's roofline.

A price is the products' times, each the slower of arithmetic and traffic, with the copies to another layout and the
fresh memory that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from jacgram.plan.by_example import arranged
from jacgram.plan.choice import Choice
from jacgram.plan.dealing import dealt_label, repeated_entries
from jacgram.plan.device import Device
from jacgram.plan.network import Network, Step, Tree, order_name, product, steps
from jacgram.plan.problem import Problem

PRICES_KEPT = 512  # problems whose prices are kept, some tens of KiB each


@lru_cache(maxsize=PRICES_KEPT)
def pricing(problem: Problem, device: Device, itemsize: int) -> Pricing:
    """The prices of a problem's orders; one object for equal arguments, for other budgets ask for the same again."""
    return Pricing(problem, device, itemsize)


@dataclass(frozen=True, slots=True, eq=False)
class Pricing:
    """The prices of one problem's orders on a device, each found once.

    Attributes:
        problem, device: what is priced, and on what.
        itemsize: bytes of an entry.
    """

    problem: Problem
    device: Device
    itemsize: int
    _found: dict[tuple[Tree, str | None, int], Choice] = field(default_factory=dict, repr=False)

    def of(self, tree: Tree, label: str | None = None, chunk: int = 0) -> Choice:
        """One candidate; with ``label``, sliced along it in chunks."""
        key = tree, label, chunk
        if key not in self._found:
            self._found[key] = self._priced(tree, self._slices(label, chunk))
        return self._found[key]

    def sliced(self, tree: Tree) -> Iterator[Choice]:
        """An order looped over one summed label that counts no examples, with chunks halved from the whole down."""
        problem, sizes = self.problem, dict(self.problem.sizes)
        kept = {*problem.network.out, problem.triangle.rows, problem.triangle.columns}
        summed = {x for labels in problem.network.operands for x in labels} - kept
        for label in sorted(summed):
            chunk = sizes[label]
            while chunk > 1:
                chunk = math.ceil(chunk / 2)
                yield self.of(tree, label, chunk)

    def turned_labels(self, tree: Tree) -> frozenset[str]:
        """Labels common to all given operands that an order lays out anew; none where it lays out none."""
        given = _given(self.problem.network, tree, dict(self.problem.sizes))
        turned = [frozenset(labels) for labels, _, is_turned in given if is_turned]
        return frozenset.intersection(*turned) if turned else frozenset()

    def arithmetic_s(self, tree: Tree) -> float:
        """Time of an order's arithmetic alone: what no slicing can go below."""
        problem, sizes, total = self.problem, dict(self.problem.sizes), 0.0
        for step in steps(problem.network, tree):
            if not problem.triangle.is_second(step):
                times, here = problem.triangle.panel(step, sizes)
                beside = self._beside(times)
                total += times * self.device.product_s(product(step, here), self.itemsize, 0.0, 0.0, beside)
        return problem.repeats * total

    def given_bytes(self, choice: Choice) -> int:
        """Of a choice's memory, what is formed, or cut out of operands, before any product."""
        assert choice.tree is not None
        slices = self._slices(choice.slice_label, choice.slice_size)
        return self.problem.formed_bytes + self._cut_bytes(self.problem.network, choice.tree, slices)

    def _beside(self, times: int) -> int:
        """How many of a step's products run side by side: pairs of blocks do, where products run so; loops do not."""
        in_pairs = self.problem.triangle.blocks and not self.problem.examples
        return min(times, self.device.abreast) if in_pairs else 1

    def _slices(self, label: str | None, chunk: int) -> _Slices:
        return _Slices(dict(self.problem.sizes), label, chunk)

    def _priced(self, tree: Tree, slices: _Slices) -> Choice:
        problem, device, itemsize = self.problem, self.device, self.itemsize
        flops, seconds, peak, alive, turned = 0, 0.0, 0, 0, 0
        network = arranged(problem.network, tree) if problem.examples else problem.network
        made: dict[int, int] = {}
        for position, step in enumerate(steps(network, tree)):
            if problem.triangle.is_second(step) and not problem.examples:
                continue  # the same numbers as the first side's
            times, here = problem.triangle.panel(step, slices.sizes)
            rounds = times * problem.rounds(step)
            cost = product(step, here)
            out_bytes = times * cost.entries[2] * itemsize
            alive += out_bytes
            flops += rounds * cost.flops
            reads_s = self._reads_s(step, cost.entries[:2], slices, alive, cut=times > 1)
            writes_s = device.copy_s(out_bytes / times, alive)
            seconds += rounds * device.product_s(cost, itemsize, reads_s, writes_s, self._beside(times))
            seconds += rounds * cost.turned_entries * itemsize / device.turns_per_s
            turned += times * cost.turned_entries * itemsize
            peak = max(peak, alive + turned + times * cost.reduced * itemsize)
            alive -= made.pop(step.left, 0) + made.pop(step.right, 0)
            if not problem.examples or "2" in step.sides:  # what is made before a loop over examples outlives its steps
                made[len(network.operands) + position] = out_bytes
        once_bytes = problem.once_entries(network) * itemsize
        peak += once_bytes
        dealt = None if problem.examples else dealt_label(network, tree, slices.whole, slices.sizes, device.shares)
        if dealt is not None:
            block = math.prod(slices.sizes[x] for x in problem.network.out)
            peak += (repeated_entries(problem.network, slices.whole, device.shares) + device.shares * block) * itemsize
        formed_bytes = self._cut_bytes(network, tree, slices) + problem.formed_bytes
        once_s = device.fresh_s(peak, formed_bytes) + once_bytes / device.turns_per_s
        if problem.formed_bytes:
            once_s += device.copy_s(3 * problem.formed_bytes, problem.formed_bytes)
        return Choice(
            order=order_name(problem.network, tree),
            tree=tree,
            slice_label=slices.label,
            slice_size=slices.chunk,
            loop_windows=problem.loop_windows,
            flops=flops * slices.count * problem.repeats,
            peak_bytes=peak + formed_bytes,
            seconds=seconds * slices.count * problem.repeats + once_s,
            dealt=dealt,
            shares=1 if dealt is None else device.shares,
            by_example=problem.examples > 0,
        )

    def _reads_s(self, step: Step, entries: Sequence[int], slices: _Slices, alive_bytes: int, *, cut: bool) -> float:
        """Time to read a step's operands, which are the network's own, or among what is alive."""
        seconds, label, blocks = 0.0, slices.label, self.problem.triangle.blocks
        sides = (step.left, step.left_labels), (step.right, step.right_labels)
        for (operand, labels), count in zip(sides, entries, strict=True):
            # An operand of the network lies where it was made, however thinly sliced. Slices and panels are copied, and
            # blocks are not, which are made by themselves.
            given = operand < len(self.problem.network.operands)
            lies_in = math.prod(slices.whole[x] for x in labels) * self.itemsize if given else alive_bytes
            copies = 3 if (cut and (given or not blocks)) or (given and label in labels) else 1
            if given and label is not None and label == labels[-1]:
                copies *= max(_LINE_BYTES / (slices.chunk * self.itemsize), 1)  # memory is read by the line
            seconds += copies * self.device.copy_s(count * self.itemsize, lies_in)
        return seconds

    def _cut_bytes(self, network: Network, tree: Tree, slices: _Slices) -> int:
        """Slices of the network's own operands that have to be taken out of them, and are not turned anyway."""
        if slices.label is None:
            return 0
        given = _given(network, tree, slices.sizes)
        cut = [count for labels, count, turned in given if slices.label in labels[1:] and not turned]
        return sum(cut) * self.itemsize


def _given(network: Network, tree: Tree, sizes: Mapping[str, int]) -> Iterator[tuple[tuple[str, ...], int, bool]]:
    """The network's own operands, as the steps of an order take them: labels, entries, whether it is laid out anew."""
    for step in steps(network, tree):
        cost = product(step, sizes)
        sides = (step.left, step.left_labels), (step.right, step.right_labels)
        for (operand, labels), count, turned in zip(sides, cost.entries, cost.turned, strict=False):
            if operand < len(network.operands):
                yield labels, count, turned


_LINE_BYTES = 64


@dataclass(frozen=True, slots=True)
class _Slices:
    """Sizes of every label, and what is sliced: a label, or None, and how many of its entries are in a slice."""

    whole: Mapping[str, int]
    label: str | None
    chunk: int

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.whole if self.label is None else {**self.whole, self.label: self.chunk}

    @property
    def count(self) -> int:
        return 1 if self.label is None else math.ceil(self.whole[self.label] / self.chunk)

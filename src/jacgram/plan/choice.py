"""What the planner decides of one component."""

from __future__ import annotations

from dataclasses import dataclass

from jacgram.plan.network import Tree


@dataclass(frozen=True, slots=True)
class Choice:
    """How one component is contracted, and what that is predicted to cost.

    Attributes:
        order: the order's name.
        tree: the binary order of the network's operands; None sums rows of unlike uses and multiplies them.
        slice_label: label looped over with accumulation, or None.
        slice_size: entries of that label in one slice.
        loop_windows: whether a convolution's window offsets are looped over rather than formed as patches.
        flops: operations, in all slices.
        peak_bytes: largest working set of one slice, beside the operands and the accumulated block.
        seconds: predicted time.
        dealt: label whose entries are dealt out to the cores, or None; see `jacgram.plan.dealing`.
        shares: in how many shares.
        by_example: whether side 2's examples are taken one at a time; see `jacgram.plan.by_example`.
        parted: label whose entries each slice takes in parts, side by side, or None; see `jacgram.plan.parting`.
        parts: in how many parts.
    """

    order: str
    tree: Tree | None
    slice_label: str | None
    slice_size: int
    loop_windows: bool
    flops: int
    peak_bytes: int
    seconds: float
    dealt: str | None = None
    shares: int = 1
    by_example: bool = False
    parted: str | None = None
    parts: int = 1

"""What hooks on the nodes of a graph spare a backward pass.

Hooks see every pass that comes to their node, so only nodes that lead to the pass's aims have them: the graph of what f
closes over is the user's, and may be gone through at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.autograd.graph import GradientEdge

from jacgram.frontends.torch import entrywise, matrices, pieces
from jacgram.frontends.torch.nodes import consumers_first, leading_to


class Shortcuts:
    """Those of backward passes from some edges of a graph of our own to others.

    Args:
        starts: whence.
        aims: where to.
        at_once: whether passes are for many seeds under ``vmap``.
        packed: whether what nodes saved may have to be computed anew, or brought back, to be read.
    """

    def __init__(
        self, starts: Sequence[GradientEdge], aims: Sequence[GradientEdge], *, at_once: bool, packed: bool = False
    ) -> None:
        every = consumers_first([edge.node for edge in starts])
        leading = leading_to(every, {id(edge.node) for edge in aims})
        nodes = [node for node in every if id(node) in leading]
        self._wholes = pieces.wholes(nodes)
        self._entrywise = [node for node in nodes if at_once and node.name() in entrywise.FUSED]
        able = at_once and not packed
        self._products = [node for node in nodes if able and matrices.wants_products(node, leading)]

    def pulled(self, backward: Callable[[], Any]) -> Any:
        """What a backward pass finds; by autograd alone, now and later, where a piece has no cotangent."""
        try:
            with self._hooked():
                return backward()
        except pieces.PieceMissingError:
            self._wholes, self._entrywise, self._products = [], [], []
            return backward()

    @contextmanager
    def _hooked(self) -> Generator[None]:
        handles: list[Any] = []
        try:
            for whole in self._wholes:
                handles += pieces.watch(whole)
            for node in self._entrywise:
                handles += entrywise.watch(node)
            for node in self._products:
                handles += matrices.watch(node)
            yield
        finally:
            for handle in handles:
                handle.remove()

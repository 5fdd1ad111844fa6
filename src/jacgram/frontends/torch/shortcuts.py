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
    """

    def __init__(self, starts: Sequence[GradientEdge], aims: Sequence[GradientEdge], *, at_once: bool) -> None:
        every = consumers_first([edge.node for edge in starts])
        leading = leading_to(every, {id(edge.node) for edge in aims})
        nodes = [node for node in every if id(node) in leading]
        self._wholes = pieces.wholes(nodes)
        self._entrywise = [node for node in nodes if at_once and node.name() in entrywise.FUSED]
        self._products = [node for node in nodes if at_once and matrices.wants_products(node, leading)]

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
        handles = [handle for whole in self._wholes for handle in pieces.watch(whole)]
        handles += [handle for node in self._entrywise for handle in entrywise.watch(node)]
        handles += [handle for node in self._products for handle in matrices.watch(node)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

"""What hooks on the nodes of a graph spare a backward pass. The graph must be our own: hooks see every pass."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch.autograd.graph import GradientEdge

from jacgram.frontends.torch import entrywise, pieces
from jacgram.frontends.torch.nodes import consumers_first


class Shortcuts:
    """Those of backward passes from some edges.

    Args:
        starts: the edges.
        at_once: whether passes are for many seeds under ``vmap``.
    """

    def __init__(self, starts: Sequence[GradientEdge], *, at_once: bool) -> None:
        nodes = consumers_first([edge.node for edge in starts])
        self._wholes = pieces.wholes(nodes)
        self._entrywise = [node for node in nodes if at_once and node.name() in entrywise.FUSED]

    def pulled(self, backward: Callable[[], Any]) -> Any:
        """What a backward pass finds; by autograd alone where a piece has no cotangent."""
        try:
            with self._taken():
                return backward()
        except pieces.PieceMissingError:
            return backward()

    @contextmanager
    def _taken(self) -> Generator[None]:
        handles = [handle for whole in self._wholes for handle in pieces.watch(whole)]
        handles += [handle for node in self._entrywise for handle in entrywise.watch(node)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

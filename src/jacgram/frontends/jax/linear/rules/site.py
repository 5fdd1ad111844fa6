"""What a rule sees of an equation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jax.core import Tracer as _Tracer

from jacgram.frontends.jax.linear.tape import Node
from jacgram.frontends.jax.linear.terms import Deferred, Term


@dataclass(frozen=True, slots=True)
class Site:
    """An equation, and the operand that the term is in.

    Attributes:
        primitive: name of the equation's primitive.
        params: its parameters.
        position: which operand the term is in.
        operands: its operands: ``shape``, ``dtype`` and ``known`` of each can be read.
        outputs: its outputs, likewise.
    """

    primitive: str
    params: Mapping[str, Any]
    position: int
    operands: Sequence[Node]
    outputs: Sequence[Node]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the operand that the term is in."""
        return self.operands[self.position].shape

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Shape of the (first) output."""
        return self.outputs[0].shape

    def known(self, position: int) -> Deferred | None:
        """A known operand, or None where the operand depends on the tangents."""
        node = self.operands[position]
        return Deferred((node,), lambda value: value) if node.known else None

    def static(self, position: int) -> int | None:
        """A scalar operand whose value is written in the program, or None."""
        value = self.operands[position].value
        return None if value is None or isinstance(value, _Tracer) or np.ndim(value) else int(value)


Rule = Callable[[Term, Site], "Term | Sequence[Term | None] | None"]

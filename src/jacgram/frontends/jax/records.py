"""What tracing one example yields: uses whose operands are positions in two lists of arrays.

Operands are positions, so that a list of arrays can pass through ``vmap`` and ``jit`` while uses that share a cotangent
go on sharing it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.core.uses import Kind, Use
from jacgram.core.views import View


@dataclass(frozen=True, slots=True)
class Record:
    """A use of one leaf; ``activation`` and ``cotangent`` are positions in the lists of a `Recording`."""

    leaf: int
    view: View
    kind: Kind
    activation: int | None
    cotangent: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Uses of one example, or of a batch of them.

    Attributes:
        records: the uses.
        activations: arrays ``(…)`` of one example, ``(n, …)`` of a batch.
        cotangents: arrays ``(s, …)`` of one example, ``(n, s, …)`` of a batch.
    """

    records: tuple[Record, ...]
    activations: list[Any]
    cotangents: list[Any]

    def with_operands(self, activations: Sequence[Any], cotangents: Sequence[Any]) -> Recording:
        """The same uses of other arrays."""
        return Recording(self.records, list(activations), list(cotangents))

    def uses(self) -> list[Use]:
        """The uses as the rest of the package knows them; the lists must have an example axis."""
        return [
            Use(
                record.leaf,
                record.view,
                record.kind,
                None if record.activation is None else self.activations[record.activation],
                self.cotangents[record.cotangent],
            )
            for record in self.records
        ]

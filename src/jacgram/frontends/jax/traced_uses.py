"""The uses of one example as a traced program: f is linearised once, and every pass of either side runs the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun

from jacgram.frontends.jax.fingerprint import sub_jaxprs
from jacgram.frontends.jax.records import Record, Recording


@dataclass(frozen=True)
class TracedUses:
    """A recording's operands as a program of flat arrays: leaves, held arrays, one example, seeds.

    Attributes:
        program: those arrays to activations and then cotangents.
        records: the uses.
        activations: how many operands are activations.
        structured: whether it was asked for more than identity uses.
    """

    program: ClosedJaxpr
    records: tuple[Record, ...]
    activations: int
    structured: bool

    @classmethod
    def of(cls, record: Callable[..., Recording], specs: Sequence[jax.ShapeDtypeStruct], *, structured: bool) -> Self:
        """Traces ``record(*arrays)`` for arrays of these shapes, in full precision."""
        found: list[tuple[tuple[Record, ...], int]] = []

        def operands(*arrays: Any) -> list[Any]:
            recording = record(*arrays)
            found.append((recording.records, len(recording.activations)))
            return [*recording.activations, *recording.cotangents]

        with jax.default_matmul_precision("highest"):
            program = jax.make_jaxpr(operands)(*specs)
        records, activations = found[-1]
        return cls(program, records, activations, structured)

    def fits(self, arrays: Sequence[Any], *, structured: bool) -> bool:
        """Whether tracing anew with these arrays could only find the same: their types are those it was traced with."""
        return structured == self.structured and [jax.typeof(array) for array in arrays] == self.program.in_avals

    @cached_property
    def largest_bytes(self) -> int:
        """Bytes of the largest array that an operation of the program makes, but for what is only spread out."""
        return _largest_bytes(self.program.jaxpr)

    def shapes(self) -> Recording:
        """The recording of a batch of one example, with shapes in place of arrays."""
        return self._recording([jax.ShapeDtypeStruct((1, *out.shape), out.dtype) for out in self.program.out_avals])

    def __call__(self, arrays: Sequence[Any]) -> Recording:
        """The recording of one example from its arrays."""
        found = jaxpr_as_fun(self.program)(*arrays)  # where it is a constant, a number rather than an array
        return self._recording(
            [jnp.asarray(x, out.dtype) for x, out in zip(found, self.program.out_avals, strict=True)]
        )

    def _recording(self, operands: Sequence[Any]) -> Recording:
        return Recording(self.records, list(operands[: self.activations]), list(operands[self.activations :]))


_SPREAD = ("broadcast_in_dim", "iota")  # which no compiler lays out by itself


def _largest_bytes(jaxpr: Jaxpr) -> int:
    largest = 0
    for equation in jaxpr.eqns:
        for value in equation.params.values():
            largest = max(largest, *map(_largest_bytes, sub_jaxprs(value)), 0)
        if equation.primitive.name not in _SPREAD:
            largest = max(largest, *(_bytes(out.aval) for out in equation.outvars), 0)
    return largest


def _bytes(aval: Any) -> int:
    """Bytes of an array; none of what is no array."""
    return getattr(aval, "size", 0) * getattr(getattr(aval, "dtype", None), "itemsize", 0)

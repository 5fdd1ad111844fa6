"""Uses of a batch: seeds laid out, one example recorded, ``vmap`` over the rest, complex parts put together.

With real leaves and complex outputs a row is ``A(v) + i A(-i v)`` (see `products`): the seeds ``-i v`` follow the seeds
``v`` along the same axis, and the two halves of each cotangent are put together afterwards. A structured use of a real
leaf whose cotangent is itself complex has rows ``Re(a g) = re(a) re(g) - im(a) im(g)``: two real uses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jacgram.frontends.jax.records import Record, Recording
from jacgram.frontends.jax.trees import is_complex

Recorder = Callable[[list[Any], list[Any]], Recording]


def stacked_seeds(seeds: Sequence[Any], dtypes: Sequence[Any], *, twice: bool) -> list[Any]:
    """Per output leaf ``(s, *output)``, the seeds of all leaves one after the other along ``s``.

    With ``twice``, the same seeds times ``-i`` follow, ``(2 s, *output)``.
    """
    counts = [seed.shape[0] for seed in seeds]
    stacked: list[Any] = []
    for position, (seed, dtype) in enumerate(zip(seeds, dtypes, strict=True)):
        before, after = sum(counts[:position]), sum(counts[position + 1 :])
        block = jnp.pad(seed.astype(dtype), [(before, after)] + [(0, 0)] * (seed.ndim - 1))
        turned = -1j * block if is_complex(dtype) else jnp.zeros_like(block)
        stacked.append(jnp.concatenate([block, turned.astype(dtype)]) if twice else block)
    return stacked


def record_batch(recorder: Recorder, x: Sequence[Any], seeds: list[Any], *, has_examples: bool) -> Recording:
    """The recording of every example, with an example axis on each operand: one program, not a loop."""
    found: list[tuple[Record, ...]] = []

    def operands(leaves: list[Any]) -> tuple[list[Any], list[Any]]:
        recording = recorder(leaves, seeds)
        found.append(recording.records)
        return recording.activations, recording.cotangents

    if has_examples:
        activations, cotangents = jax.vmap(operands)(list(x))
    else:
        activations, cotangents = jax.tree.map(lambda array: jnp.asarray(array)[None], operands([]))
    return Recording(found[-1], list(activations), list(cotangents))


def complete(recording: Recording, variable: Sequence[Any], *, twice: bool) -> Recording:
    """The recording with the complex parts of each use put together (module docstring)."""
    pool = _Pool(recording, twice=twice)
    records = [part for record in recording.records for part in pool.parts(record, variable[record.leaf].dtype)]
    return Recording(tuple(records), pool.activations, pool.cotangents)


class _Pool:
    """Operands derived from a recording's, each made once, so that sharing survives."""

    def __init__(self, recording: Recording, *, twice: bool) -> None:
        self._old = recording
        self._twice = twice
        self._places: dict[tuple[str, int, str], int] = {}
        self.activations: list[Any] = []
        self.cotangents: list[Any] = []

    def parts(self, record: Record, leaf_dtype: Any) -> list[Record]:
        """The one or two uses that a recorded use of a leaf of this dtype stands for."""
        cotangent = self._old.cotangents[record.cotangent]
        if is_complex(leaf_dtype):
            return [self._place(record, "whole", "first" if self._twice else "whole")]
        if not is_complex(cotangent.dtype):
            return [self._place(record, "real", "joined" if self._twice else "whole")]
        complex_activation = record.activation is not None and is_complex(
            self._old.activations[record.activation].dtype
        )
        parts = [self._place(record, "real", "joined real")]
        return [*parts, self._place(record, "minus imag", "joined imag")] if complex_activation else parts

    def _place(self, record: Record, activation: str, cotangent: str) -> Record:
        a = None if record.activation is None else self._put("a", record.activation, activation)
        return Record(record.leaf, record.view, record.kind, a, self._put("g", record.cotangent, cotangent))

    def _put(self, side: str, position: int, part: str) -> int:
        old, new = (self._old.activations, self.activations) if side == "a" else (self._old.cotangents, self.cotangents)
        key = (side, position, part)
        if key not in self._places:
            self._places[key] = len(new)
            new.append(self._part(old[position], part))
        return self._places[key]

    def _part(self, array: Any, part: str) -> Any:
        match part:
            case "whole":
                return array
            case "real":
                return array.real if is_complex(array.dtype) else array
            case "minus imag":
                return -array.imag
            case "first":
                return array[:, : array.shape[1] // 2]
            case "joined real":
                return self._joined(array.real)
            case "joined imag":
                return self._joined(array.imag)
            case _:
                return self._joined(array)

    def _joined(self, array: Any) -> Any:
        if not self._twice:
            return array
        half = array.shape[1] // 2
        return array[:, :half] + 1j * array[:, half:]

"""Checks on values, on first use: that examples keep to themselves, and that a complex f is holomorphic.

Both are remembered per object f and shapes. Under tracing values are unknown, and the side says so.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jacgram.core.frontend import Struct
from jacgram.errors import InteractingExamplesError, StructureError
from jacgram.frontends.jax.disturbed import disturbed
from jacgram.frontends.jax.execute import holds_tracer, run
from jacgram.frontends.jax.products import pushforward
from jacgram.frontends.jax.program import output_leaves
from jacgram.frontends.jax.trees import is_complex, struct_of, type_of

if TYPE_CHECKING:
    from jacgram.frontends.jax.side import JaxSide

CHECKED_EXAMPLES = 64
"""Examples compared at once: a whole batch up to this size, as many spread evenly over a larger one (memory)."""

_FIX = "make f treat each example alone (evaluation mode, no division by the batch size), with examples on axis 0"


class _Seen:
    """Which (object, shapes) passed a check, forgetting an object when it dies."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[Any, set[Any]]] = {}

    def has(self, f: Any, key: Any) -> bool:
        owner, extra = _identity(f)
        entry = self._by_id.get(id(owner))
        return entry is not None and (extra, key) in entry[1]

    def add(self, f: Any, key: Any) -> None:
        owner, extra = _identity(f)
        name = id(owner)
        if name not in self._by_id:
            try:
                reference = weakref.ref(owner, lambda _: self._by_id.pop(name, None))
            except TypeError:
                return  # cannot be watched: it is checked again each time
            self._by_id[name] = (reference, set())
        self._by_id[name][1].add((extra, key))


def _identity(f: Any) -> tuple[Any, Any]:
    """The object to watch: a bound method is made anew at each access, so its owner and function stand for it."""
    owner = getattr(f, "__self__", None)
    return (f, None) if owner is None or not hasattr(f, "__func__") else (owner, f.__func__)


_examples_seen = _Seen()
_holomorphic_seen = _Seen()


def check_examples(side: JaxSide, beside: JaxSide | None = None) -> str:
    """``"checked"``, or why examples were not compared with their batch.

    ``beside`` is a side that was checked just before: one that differs from it in its examples alone, and not in their
    number, has shapes like it, and f is not traced for them.

    Raises:
        InteractingExamplesError: a batch's output is not that of its examples alone.
    """
    if not side.has_examples:
        return "unchecked (no examples: J is taken with respect to x)"
    if side.n < 2:
        return "unchecked (fewer than two examples)"
    if beside is None or beside.n != side.n or not side.like(beside):
        _check_shapes(side)
    if holds_tracer(side.arrays()):
        return "unchecked (traced)"
    key = _key(side)
    if not _examples_seen.has(side.program.f, key):
        few = _spread(side)
        function = _both_ways(few)
        here = run(function, few.arrays())
        if holds_tracer(here[0]):  # f closes over some
            return "unchecked (traced)"
        for together, alone in (here, *_elsewhere(function, few.arrays())):  # what mixes may be multiplied by zero
            for path, a, b in zip(side.output_paths, together, alone, strict=True):
                _compare(path, np.asarray(a), np.asarray(b), few)
        _examples_seen.add(side.program.f, key)
    return "checked"


def _elsewhere(function: Any, arrays: Sequence[Any], *more: Any) -> list[Any]:
    """What a function gives at moved arrays; nothing where it cannot be had, for its own values are compared anyway."""
    moved = disturbed(arrays)
    try:
        return [] if moved is None else [run(function, [*moved, *more])]
    except Exception:  # f holds at other values than these: NaN may be forbidden, or a callback refuse them
        return []


def _key(side: JaxSide) -> Any:
    structs = tuple(struct_of(array) for array in side.arrays())
    return structs, side.program.partition.treedef


def _spread(side: JaxSide) -> JaxSide:
    if side.n <= CHECKED_EXAMPLES:
        return side
    chosen = np.linspace(0, side.n - 1, CHECKED_EXAMPLES).round().astype(int)
    few = side.examples(0, CHECKED_EXAMPLES)
    return few.with_arrays([*side.leaves, *side.held, *(leaf[chosen] for leaf in side.x)])


def _alone(side: JaxSide) -> list[Any]:
    def one(x: list[Any]) -> list[Any]:
        return output_leaves(side.program.one(side.leaves, side.held, x))[1]

    return jax.vmap(one)(list(side.x))


def _both_ways(side: JaxSide) -> Any:
    def function(*arrays: Any) -> tuple[list[Any], list[Any]]:
        held = side.with_arrays(arrays)
        return output_leaves(held.program.batch(held.leaves, held.held, held.x))[1], _alone(held)

    return function


def _check_shapes(side: JaxSide) -> None:
    specs = [type_of(array) for array in side.arrays()]
    alone = jax.eval_shape(lambda *arrays: _alone(side.with_arrays(arrays)), *specs)
    for path, struct, found in zip(side.output_paths, side.outputs, alone, strict=True):
        if tuple(found.shape) != struct.shape:
            raise InteractingExamplesError(
                f"f gives {_named(path)} of shape {struct.shape} for the whole batch, but shape {tuple(found.shape)} "
                f"when its {side.n} examples go through f one by one; {_FIX}."
            )


def _compare(path: str, together: np.ndarray[Any, Any], alone: np.ndarray[Any, Any], side: JaxSide) -> None:
    """Raise unless both agree to the rounding of the dtype, on the scale of each output; NaN and inf must coincide."""
    precision = _precision(side.outputs, side.variable)
    wide = np.complex128 if is_complex(together.dtype) else np.float64
    a, b = together.astype(wide), alone.astype(wide)
    finite = np.isfinite(a) & np.isfinite(b)
    same = finite | (np.isnan(a) & np.isnan(b)) | (a == b)
    scale = max(float(np.abs(a[finite]).max(initial=0.0)), float(np.abs(b[finite]).max(initial=0.0)))
    gap = float(np.abs(a[finite] - b[finite]).max(initial=0.0))
    if same.all() and gap <= math.sqrt(precision) * scale:
        return
    raise InteractingExamplesError(
        f"examples interact: {_named(path)} of {side.n} examples together differs from each example's alone by "
        f"{gap:.3g} on a scale of {scale:.3g}, so per-example Jacobians do not exist; {_FIX}."
    )


def _named(path: str) -> str:
    return f"output {path!r}" if path else "an output"


def _precision(*groups: Sequence[Struct]) -> float:
    dtypes = [jnp.dtype(struct.dtype) for group in groups for struct in group]
    return max(float(jnp.finfo(dtype).eps) for dtype in dtypes)


def check_holomorphic(side: JaxSide) -> None:
    """Raise `StructureError` unless J(i u) = i J(u) for a random u of the complex leaves. Nothing to do elsewhere."""
    complex_outputs = any(is_complex(struct.dtype) for struct in side.outputs)
    complex_leaves = [is_complex(struct.dtype) for struct in side.variable]
    key = _key(side)
    if not complex_outputs or not any(complex_leaves) or side.n == 0 or holds_tracer(side.arrays()):
        return
    if _holomorphic_seen.has(side.program.f, key):
        return
    tangents = _random_tangents(side, complex_leaves)
    count = len(side.arrays())

    def function(*arrays: Any) -> tuple[list[Any], list[Any]]:
        held = _spread(side).with_arrays(arrays[:count])
        given = list(arrays[count:])
        turned = [1j * t if turn else t for t, turn in zip(given, complex_leaves, strict=True)]
        return tuple(pushforward(held._flat_batch, held.leaves, u) for u in (turned, given))  # type: ignore[return-value]

    arrays = _spread(side).arrays()
    found = [run(function, [*arrays, *tangents]), *_elsewhere(function, arrays, *tangents)]
    for a, b in (pair for pairs in found for pair in zip(*pairs, strict=True)):
        gap, scale = np.abs(np.asarray(a) - 1j * np.asarray(b)), np.abs(np.asarray(b))
        bound = math.sqrt(_precision(side.outputs, side.variable)) * scale.max(initial=0.0, where=np.isfinite(scale))
        if (gap[np.isfinite(gap)] > bound).any():
            raise StructureError(
                f"f is not holomorphic in its complex parameters (J(iu) differs from i J(u) by {np.nanmax(gap):.3g}), "
                "so it has no complex Jacobian; return real outputs, or pass real and imaginary parts as parameters."
            )
    _holomorphic_seen.add(side.program.f, key)


def _random_tangents(side: JaxSide, complex_leaves: Sequence[bool]) -> list[Any]:
    rng = np.random.default_rng(0)
    tangents: list[Any] = []
    for struct, complex_leaf in zip(side.variable, complex_leaves, strict=True):
        draw = rng.standard_normal((2, *struct.shape))
        tangents.append(jnp.array(draw[0] + 1j * draw[1] if complex_leaf else 0 * draw[0], struct.dtype))
    return tangents

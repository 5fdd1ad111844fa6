"""Running a function of arrays: traced at each call, compiled once for each distinct computation.

A retrace of a small function costs about a millisecond; a compilation, hundreds. Closed-over arrays become arguments,
so rebinding one costs nothing and is never missed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jacgram.frontends.jax.fingerprint import fingerprint

EXECUTABLES = 256
"""Computations kept compiled; the least recently used goes first."""

_executables: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()


def holds_tracer(arrays: Sequence[Any]) -> bool:
    """Whether some array is being traced, so that its values are unknown."""
    return any(isinstance(array, Tracer) for array in arrays)


def run(function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
    """``function(*arrays)``, a pytree, compiled and in full precision.

    With a tracer among the arrays, or closed over, the function is simply called: its caller compiles. Errors while
    tracing are the function's own.
    """
    with jax.default_matmul_precision("highest"):
        if holds_tracer(arrays):
            return function(*arrays)
        closed, shape = _traced(function, arrays)
        consts = list(closed.consts)
        if holds_tracer(consts):
            return function(*arrays)
        flat = _executable(closed)(consts, list(arrays))
        return jax.tree.unflatten(jax.tree.structure(shape), flat)


def prepare(function: Callable[..., Any], arrays: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
    """`run` for many arrays of the shapes and dtypes of these: traced once, with closed-over values as they are now.

    The result takes the arrays as one sequence.
    """
    with jax.default_matmul_precision("highest"):
        closed, shape = _traced(function, arrays)
    consts, executable, treedef = list(closed.consts), _executable(closed), jax.tree.structure(shape)

    def prepared(arrays: Sequence[Any]) -> Any:
        with jax.default_matmul_precision("highest"):
            return jax.tree.unflatten(treedef, executable(consts, list(arrays)))

    return prepared


def _traced(function: Callable[..., Any], arrays: Sequence[Any]) -> tuple[Any, Any]:
    """The jaxpr of the function as it is now: JAX would remember that of the same object, from before a rebinding."""
    return jax.make_jaxpr(lambda *given: function(*given), return_shape=True)(*arrays)


def _executable(closed: Any) -> Callable[..., Any]:
    key = fingerprint(closed.jaxpr)
    if key not in _executables:
        _executables[key] = jax.jit(_of_jaxpr(closed.jaxpr))
        if len(_executables) > EXECUTABLES:
            _executables.popitem(last=False)
    _executables.move_to_end(key)
    return _executables[key]


def _of_jaxpr(jaxpr: Any) -> Callable[..., Any]:
    """The jaxpr as a function of its constants and arguments, holding none of the constants it was traced with."""

    def function(consts: list[Any], arrays: list[Any]) -> list[Any]:
        return jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*arrays)

    return function

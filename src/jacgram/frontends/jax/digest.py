"""A digest of f's traced program, equal in every process: what it takes to know that a stored kernel is f's.

The program is that of y and of its vjp at one example, so that custom derivatives count, and so does the content of
closed-over arrays. Names of functions do not.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jacgram.frontends.jax.fingerprint import Same, fingerprint
from jacgram.frontends.jax.program import output_leaves

if TYPE_CHECKING:
    from jacgram.frontends.jax.side import JaxSide

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def program_digest(side: JaxSide) -> str:
    """SHA-256 of y and its vjp at one example."""

    def both(leaves: list[Any], held: list[Any], x: list[Any], cotangents: list[Any]) -> Any:
        y, pull = jax.vjp(lambda moved: output_leaves(side.program.batch(moved, held, x))[1], leaves)
        return y, pull(cotangents)

    # Weak types are left out: an array that was stored and read again has none, and its kernel is the same.
    spec = lambda array, shape: jax.ShapeDtypeStruct(shape, array.dtype)  # noqa: E731
    one = [spec(leaf, (1, *leaf.shape[1:])) for leaf in side.x]
    leaves, held = ([spec(leaf, leaf.shape) for leaf in group] for group in (side.leaves, side.held))
    cotangents = jax.eval_shape(lambda *arrays: output_leaves(side.program.batch(*arrays))[1], leaves, held, one)
    closed = jax.make_jaxpr(both)(leaves, held, one, cotangents)
    found = hashlib.sha256()
    _feed(found, (fingerprint(closed.jaxpr), tuple(closed.consts), tuple(side.held)))
    return found.hexdigest()


def _feed(found: Any, value: Any) -> None:
    """Adds a value to a digest. Every part is framed by its type, so that different values never read alike."""
    match value:
        case ("name", (text_type, str())) if text_type is str:
            return  # the name of an inner function
        case tuple() | list():
            found.update(b"(")
            for item in value:
                _feed(found, item)
            found.update(b")")
        case Same(value=inner):
            _feed(found, inner)
        case jax.Array() | np.ndarray() | np.generic():
            array = np.asarray(_numbers(value))
            found.update(f"array {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        case bytes():
            found.update(b"b" + value)
        case np.dtype():
            found.update(f"dtype {value.name};".encode())  # equal dtypes may print differently
        case set() | frozenset():
            found.update(f"set {sorted(map(_text, value))}".encode())
        case type():
            found.update(f"type {value.__module__}.{value.__qualname__}".encode())
        case _:
            found.update(f"{type(value).__qualname__} {_text(value)};".encode())


def _numbers(value: Any) -> Any:
    """The array; of random keys, the numbers they are made of."""
    is_key = isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(value) if is_key else value


def _text(value: Any) -> str:
    return _ADDRESS.sub("", repr(value))

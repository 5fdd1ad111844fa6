"""Which framework an array belongs to, without importing any framework, and its adapter."""

from __future__ import annotations

from functools import lru_cache

from jacgram.arrays.base import Arrays
from jacgram.errors import ArgumentError


@lru_cache(maxsize=4)
def adapter(framework: str) -> Arrays:
    """The array primitives of ``"jax"`` or ``"torch"``, whose package is imported here."""
    match framework:
        case "jax":
            from jacgram.arrays.jax import JaxArrays

            return JaxArrays()
        case "torch":
            from jacgram.arrays.torch import TorchArrays

            return TorchArrays()
        case _:
            raise ArgumentError(f"framework must be 'jax' or 'torch', got {framework!r}.")

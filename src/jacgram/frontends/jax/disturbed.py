"""Arrays at other values: what a check says of one point need not hold at another.

Behind a head of zeros, or at inputs of zeros, nothing that f does can be seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

_SHARE = 0.1  # of an array's own scale, by which its entries are moved: little, for f may hold at such values alone
_DRAWN = np.random.default_rng(2).standard_normal((2, 4099))  # over and over, for parameters may be many


def disturbed(arrays: Sequence[Any]) -> list[Any] | None:
    """Arrays with every number moved a little, none of them zero; None where they do not all lie in this process."""
    if not all(getattr(array, "is_fully_addressable", True) for array in arrays):
        return None
    return [_moved(array) for array in arrays]


def _moved(array: Any) -> Any:
    """Numbers are moved; integers, which choose, and truth values are as they were."""
    if not jnp.issubdtype(array.dtype, jnp.inexact) or not array.size:
        return array
    is_complex = jnp.issubdtype(array.dtype, jnp.complexfloating)
    held = np.asarray(array).astype(np.complex128 if is_complex else np.float64)
    scale = float(np.sqrt(np.mean(np.abs(held) ** 2)))
    scale = scale if 0 < scale < float("inf") else 1.0
    real, imaginary = (np.resize(drawn, held.shape) for drawn in _DRAWN)
    return jnp.asarray(held + _SHARE * scale * (real + 1j * imaginary if is_complex else real), array.dtype)

"""A Gram operator for other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jacgram.errors import MissingDependencyError

Apply = Callable[[Any], Any]


def scipy_operator(shape: tuple[int, int], dtype: str, apply: Apply, apply_adjoint: Apply) -> Any:
    """A `scipy.sparse.linalg.LinearOperator` on NumPy vectors, from products with flat vectors."""
    try:
        from scipy.sparse.linalg import LinearOperator  # noqa: PLC0415  (an optional package)
    except ImportError as error:
        raise MissingDependencyError("to_scipy() needs SciPy. Fix: pip install scipy.") from error
    native = np.dtype("float32" if dtype in ("bfloat16", "float16") else dtype)

    def on_vectors(product: Apply) -> Apply:
        return lambda vector: product(np.asarray(vector).reshape(-1).astype(native, copy=False))

    made: Any = LinearOperator  # its stubs describe the abstract class alone
    return made(shape, dtype=native, matvec=on_vectors(apply), rmatvec=on_vectors(apply_adjoint))

"""A Gram operator for other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jacgram.arrays import adapter
from jacgram.errors import MissingDependencyError

if TYPE_CHECKING:
    from jacgram.operator.gram import GramOperator


def scipy_operator(gram: GramOperator) -> Any:
    """See `GramOperator.to_scipy`."""
    try:
        from scipy.sparse.linalg import LinearOperator
    except ImportError as error:
        raise MissingDependencyError("to_scipy() needs SciPy. Fix: pip install scipy.") from error
    xp = adapter(gram.framework)
    dtype = np.dtype("float32" if gram.dtype in ("bfloat16", "float16") else gram.dtype)

    def apply(operator: GramOperator, vector: Any) -> Any:
        return xp.to_numpy(operator @ np.asarray(vector).reshape(-1).astype(dtype, copy=False))

    return LinearOperator(
        gram.shape, dtype=dtype, matvec=lambda v: apply(gram, v), rmatvec=lambda v: apply(gram.H, v)
    )

"""Kernels for other libraries: SciPy's operators, xarray's named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jacgram.core.optional import installed
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


def scipy_blocks(shape: tuple[int, int], dtype: str, apply: Callable[[Any, bool], Any]) -> Any:
    """A `scipy.sparse.linalg.LinearOperator` from products with blocks of vectors, ``apply(vectors, adjoint)``."""
    try:
        from scipy.sparse.linalg import LinearOperator  # noqa: PLC0415  (an optional package)
    except ImportError as error:
        raise MissingDependencyError("operator() needs SciPy. Fix: pip install scipy.") from error

    def on_blocks(adjoint: bool) -> Apply:
        return lambda vectors: apply(np.asarray(vectors), adjoint)

    def on_vectors(adjoint: bool) -> Apply:
        return lambda vector: apply(np.asarray(vector).reshape(-1, 1), adjoint)[:, 0]

    made: Any = LinearOperator
    return made(
        shape,
        dtype=np.dtype(dtype),
        matvec=on_vectors(False),
        rmatvec=on_vectors(True),
        matmat=on_blocks(False),
        rmatmat=on_blocks(True),
    )


def data_array(array: Any, dimensions: Sequence[str], attributes: Mapping[str, Any]) -> Any:
    """A Zarr array as an `xarray.DataArray`, positions as coordinates; read chunk by chunk where Dask is installed."""
    try:
        import xarray  # noqa: PLC0415  (an optional package)
    except ImportError as error:
        raise MissingDependencyError("to_xarray() needs xarray. Fix: pip install xarray.") from error

    if installed("dask"):
        import dask.array  # noqa: PLC0415

        data: Any = dask.array.from_zarr(array)
    else:
        data = np.asarray(array[...])
    coordinates = {name: np.arange(size) for name, size in zip(dimensions, array.shape, strict=True)}
    return xarray.DataArray(data, coordinates, dimensions, name="kernel", attrs=dict(attributes))

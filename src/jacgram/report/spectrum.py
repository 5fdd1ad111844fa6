"""Eigenvalues of a stored kernel, and their picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jacgram.core.optional import require
from jacgram.errors import ArgumentError

if TYPE_CHECKING:
    from jacgram.operator.stored import StoredKernel

_DENSE_COPIES = 3  # the matrix as stored, in float64, and as LAPACK works on it


def spectrum(kernel: StoredKernel, top: int | None, memory_bytes: int) -> NDArray[np.float64]:
    """Eigenvalues of a Hermitian stored kernel, largest first.

    All of them where the matrix fits in memory, else the ``top`` ones (100 where None) by Lanczos iterations that
    stream over the chunks (ARPACK's, through SciPy).

    Args:
        kernel: complete, and with equal sides.
        top: how many; None for all that can be had.
        memory_bytes: what may be allocated.

    Raises:
        ArgumentError: its two sides differ, or it has no square matrix.
    """
    require("test", "scipy")
    from scipy.sparse.linalg import eigsh  # noqa: PLC0415  (an optional package)

    operator = kernel.operator()
    rows, columns = operator.shape
    if kernel.header.mirror is None and not kernel.header.paired:
        raise ArgumentError(
            f"{kernel!r} is not that of one set of examples with itself, so it has no spectrum. Fix: write the kernel "
            "with x2=None, and one tile size for both sides."
        )
    if top is None and _DENSE_COPIES * rows * columns * 8 <= memory_bytes:
        matrix = operator @ np.eye(rows, dtype=kernel.dtype)
        wide = np.complex128 if np.iscomplexobj(matrix) else np.float64
        return np.linalg.eigvalsh(matrix.astype(wide)).astype(np.float64)[::-1]
    count = min(top or 100, rows - 1)
    found: Any = eigsh(operator, k=count, which="LA", return_eigenvectors=False)
    return np.sort(found.astype(np.float64))[::-1]


def draw_spectrum_png(values: NDArray[np.float64], title: str, path: str | os.PathLike[str]) -> None:
    """A picture of eigenvalues over their rank.

    Raises:
        MissingDependencyError: Matplotlib is not installed.
    """
    require("plot", "matplotlib")
    from matplotlib.figure import Figure  # noqa: PLC0415  (an optional package)

    from jacgram.report.kernels import draw_spectrum  # noqa: PLC0415

    figure = Figure(figsize=(6, 4.3), layout="constrained")
    axes = figure.subplots()
    draw_spectrum(axes, values, title, "#b2182b")
    axes.set_ylabel("eigenvalue")
    axes.set_title(title, fontsize=11)
    figure.savefig(path, dpi=130)

"""Kernel regression: what the linearised network would predict, from its kernel alone.

With kernel K of the training images, k of the held-out ones against them, one-hot targets Y and ridge λ, the scores are
``mean(Y) + k (K + λI)⁻¹ (Y - mean(Y))``: the mean of a Gaussian process of covariance K with noise λ (Rasmussen &
Williams, *Gaussian Processes for Machine Learning*, 2006, eq. 2.25).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jacgram.demo.digits import CLASSES

RELATIVE_RIDGE = 1e-3


def kernel_scores(kernel: NDArray[Any], cross: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Scores ``(m, 10)`` of m held-out images.

    Args:
        kernel: ``(n, n)``, training images.
        cross: ``(m, n)``, held-out by training images.
        labels: ``(n,)`` classes of the training images.
    """
    targets = np.eye(CLASSES)[labels]
    mean = targets.mean(0)
    ridge = RELATIVE_RIDGE * np.trace(kernel) / len(kernel)
    weights = np.linalg.solve(kernel.astype(np.float64) + ridge * np.eye(len(kernel)), targets - mean)
    return mean + cross @ weights


def spectrum(kernel: NDArray[Any]) -> NDArray[Any]:
    """Eigenvalues of a symmetric kernel, largest first."""
    return np.linalg.eigvalsh(kernel.astype(np.float64))[::-1]

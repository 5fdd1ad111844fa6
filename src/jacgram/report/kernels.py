"""Pictures of kernels, drawn onto the axes of a Matplotlib figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage


def correlation(kernel: ArrayLike) -> NDArray[Any]:
    """``K[i, j] / sqrt(K[i, i] K[j, j])`` of the centred kernel: how alike two examples look to the network.

    Centring takes from each row and column its mean, as in kernel PCA, so that what all examples have in common does
    not hide where they differ. An example of norm zero is like none.

    Args:
        kernel: ``(n, n)``, symmetric.

    Example:
        >>> correlation([[2.0, 0.0], [0.0, 2.0]])
        array([[ 1., -1.],
               [-1.,  1.]])
    """
    K = np.asarray(kernel, dtype=np.float64)
    centred = K - K.mean(0, keepdims=True) - K.mean(1, keepdims=True) + K.mean()
    norm = np.sqrt(np.clip(np.diagonal(centred), 0, None))
    scale = np.divide(1, norm, out=np.zeros_like(norm), where=norm > 0)
    return centred * scale[:, None] * scale[None, :]


def draw_by_class(axes: Axes, kernel: ArrayLike, labels: ArrayLike, *, limit: float = 1.0) -> AxesImage:
    """The `correlation` of a kernel as an image, examples sorted by class, classes named and parted by lines.

    Args:
        axes: where to draw.
        kernel: ``(n, n)``, symmetric.
        labels: ``(n,)`` classes.
        limit: the correlation at which colours saturate.

    Returns:
        The image, for a colour bar.
    """
    labels = np.asarray(labels)
    order = np.argsort(labels, kind="stable")
    image = axes.imshow(correlation(kernel)[np.ix_(order, order)], cmap="RdBu_r", vmin=-limit, vmax=limit)
    classes, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    for start in starts[1:]:
        axes.axhline(start - 0.5, color="white", linewidth=0.6)
        axes.axvline(start - 0.5, color="white", linewidth=0.6)
    middles = starts + counts / 2 - 0.5
    axes.set_xticks(middles, [str(name) for name in classes])
    axes.set_yticks(middles, [str(name) for name in classes])
    axes.tick_params(length=0)
    return image


def draw_spectrum(axes: Axes, eigenvalues: ArrayLike, label: str, color: str) -> None:
    """Eigenvalues, largest first, over their rank, both logarithmic; those that are not positive are left out."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    rank = np.arange(1, len(values) + 1)
    axes.loglog(rank[values > 0], values[values > 0], label=label, color=color, linewidth=1.8)
    axes.set_xlabel("rank")
    axes.grid(visible=True, which="major", alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)

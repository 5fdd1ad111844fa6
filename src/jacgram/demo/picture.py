"""The demo's picture: the kernel before and after training, sorted by class, and both spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from jacgram.report.kernels import draw_by_class, draw_spectrum

_COLOURS = {"random weights": "#8c9bab", "trained": "#b2182b"}


def draw(path: Path, kernels: dict[str, NDArray[Any]], labels: NDArray[Any], spectra: dict[str, NDArray[Any]]) -> None:
    """One PNG. Keys of ``kernels`` and ``spectra`` are "random weights" and "trained"."""
    figure = Figure(figsize=(13, 4.3), layout="constrained")
    *maps, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.05))
    images = [draw_by_class(axes, K, labels, limit=0.8) for axes, K in zip(maps, kernels.values(), strict=True)]
    for axes, name in zip(maps, kernels, strict=True):
        axes.set_title(f"Kernel of {len(labels)} digits, {name}", fontsize=11)
        axes.set_xlabel("digit")
    maps[0].set_ylabel("digit")
    figure.colorbar(images[0], ax=maps, shrink=0.85, pad=0.01, label="correlation (centred)")
    for name, values in spectra.items():
        draw_spectrum(right, values, name, _COLOURS[name])
    right.set_title("Spectrum", fontsize=11)
    right.set_ylabel("eigenvalue")
    right.legend(frameon=False)
    figure.savefig(path, dpi=130)

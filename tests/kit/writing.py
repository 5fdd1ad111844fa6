"""A small kernel to be written, in this process or in one that can be killed.

``python -m kit.writing FRAMEWORK STORE COUNTS [SLOW_S]`` writes it, and appends to COUNTS each tile that it begins to
compute; from kernels written so, tests count what was computed twice.
"""

import sys
import time
from pathlib import Path

import numpy as np

from kit.native import array

N, FEATURES, HIDDEN, OUTPUTS, TILE = 26, 5, 7, 3, 4


def data(n=N, seed=0):
    return np.random.default_rng(seed).standard_normal((n, FEATURES)).astype(np.float32)


def jax_network(params, x):
    import jax.numpy as jnp

    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def torch_network(params, x):
    import torch

    return torch.tanh(x @ params["w"] + params["b"]) @ params["v"]


def network(framework):
    """f and its parameters."""
    rng = np.random.default_rng(1)
    shapes = {"w": (FEATURES, HIDDEN), "b": (HIDDEN,), "v": (HIDDEN, OUTPUTS)}
    params = {k: array(framework, rng.standard_normal(shape).astype(np.float32)) for k, shape in shapes.items()}
    return {"jax": jax_network, "torch": torch_network}[framework], params


def watch(monkeypatch, begin):
    """Calls ``begin(tile)`` before each tile is computed, in this process."""
    from jacgram.operator.tile_work import TileWorker

    run = TileWorker.run

    def watched(self, tile):
        if self.stored.manifest.entry(tile) is None:
            begin(tile)
        run(self, tile)

    monkeypatch.setattr(TileWorker, "run", watched)


class _Patch:
    """As much of pytest's monkeypatch as `watch` needs, for good."""

    setattr = staticmethod(setattr)


def main(framework, store, counts, slow_s=0.0):
    import jacgram

    def begin(tile):
        with Path(counts).open("a") as file:
            file.write(f"{tile[0]} {tile[1]}\n")
        time.sleep(slow_s)

    watch(_Patch, begin)
    f, params = network(framework)
    jacgram.write_ntk(store, f, data(), params=params, tile=TILE, memory="64MiB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)

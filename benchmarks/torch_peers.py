"""Self-Gram matrices (x2 = None) of PyTorch models against torchjd 0.18 and nngeometry 0.4.

    python -m benchmarks.torch_peers --n 16

Both are installed beside this file the first time, without what they depend on: they are plain Python, and neither
may bring another build of PyTorch. Each has a copy of the model to itself, since it may leave hooks there.
"""

import argparse
import copy
import subprocess
import sys
from pathlib import Path

import torch

import jacgram
from benchmarks.models_torch import MODELS
from benchmarks.stopwatch import HEAD, attempt

PEERS = Path(__file__).parent / ".peers"
PINS = ["torchjd==0.18.0", "nngeometry==0.4"]


def install():
    """The peers' folder, on the path."""
    if not (PEERS / "ready").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(PEERS), *PINS]
        subprocess.run(command, check=True)
        (PEERS / "ready").touch()
    sys.path.append(str(PEERS))


def torchjd(module):
    """Its Gramian by batched Jacobians of each layer, as ``(n, n, o, o)``."""
    from torchjd.autogram import Engine

    engine = Engine(module, batch_dim=0)

    def kernel(x):
        y = module(x)
        return engine.compute_gramian(y).reshape(*y.shape, *y.shape).transpose(1, 2)

    return kernel


def nngeometry(module):
    """Its ``GramMatrix`` by forward and backward hooks, as ``(n, n, o, o)``."""
    from nngeometry import GramMatrix

    return lambda x: GramMatrix(module, (x.clone(),)).to_torch().permute(1, 3, 0, 2)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[16])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    install()
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {', '.join(PINS)}\n\n{HEAD}")
    for name in chosen.models:
        module, make = MODELS[name]()
        contestants = [(peer.__name__, peer(copy.deepcopy(module))) for peer in (torchjd, nngeometry)]
        for n in chosen.n:
            x = make(n, 0)
            ours = lambda m=module, x=x: jacgram.ntk(m, x)
            for peer, kernel in contestants:
                theirs = lambda kernel=kernel, x=x: kernel(x)
                print(attempt(f"{name}, n = {n}, {peer}", theirs, ours, rounds=chosen.rounds), flush=True)


if __name__ == "__main__":
    main()

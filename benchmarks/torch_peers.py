"""Self-Gram matrices (x2 = None) of PyTorch models against torchjd 0.18 and nngeometry 0.4.

    python -m benchmarks.torch_peers --n 16

Both are installed beside this file the first time, without what they depend on: they are plain Python, and neither
may bring another build of PyTorch. Each is in a process of its own, in turn with ours.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch

import jacgram
from benchmarks.alone import contest
from benchmarks.models_torch import MODELS
from benchmarks.stopwatch import HEAD

PEERS = Path(__file__).parent / ".peers"
PINS = ["torchjd==0.18.0", "nngeometry==0.4"]


def install():
    """The peers' folder, which is then on the path."""
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


NAMES = {peer.__name__: peer for peer in (torchjd, nngeometry)}


def theirs(peer, name, n):
    """A peer's kernel of a model with itself, of no argument."""
    install()
    module, make = MODELS[name]()
    kernel, x = NAMES[peer](module), make(n, 0)
    return lambda: kernel(x)


def ours(name, n):
    """The same of jacgram."""
    module, make = MODELS[name]()
    x = make(n, 0)
    return lambda: jacgram.ntk(module, x)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[16])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--rounds", type=int, default=7)
    chosen = options.parse_args()
    install()
    print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {', '.join(PINS)}\n\n{HEAD}")
    for name in chosen.models:
        for n in chosen.n:
            for peer in NAMES:
                title = f"{name}, n = {n}, {peer}"
                print(contest(title, (theirs, peer, name, n), (ours, name, n), rounds=chosen.rounds), flush=True)


if __name__ == "__main__":
    main()

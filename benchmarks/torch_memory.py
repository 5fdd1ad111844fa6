"""Peak memory of a transformer's kernel beside ``torch.func``'s Jacobian contraction, each in a process of its own.

    python -m benchmarks.torch_memory --n 16 --memory 2GiB

Width 512, 4 layers, 64 tokens, 10 outputs. The other side holds both Jacobians: 16 GiB at n = 16.
"""

import argparse
import time

import torch

import jacgram
from benchmarks.apart import apart
from benchmarks.growth import resident
from benchmarks.models_torch import MODELS
from benchmarks.torch_func import contraction


def run(who, n, memory):
    """Growth of this process, the time taken and the kernel's corner."""
    module, make = MODELS["transformer"](width=512, blocks=4, length=64, heads=8)
    x1, x2 = make(n, 0), make(n, 1)
    module(x1[:1])
    before, start = resident("VmHWM"), time.perf_counter()
    kernel = contraction(module, x1, x2) if who == "peer" else jacgram.ntk(module, x1, x2, memory=memory)
    taken = time.perf_counter() - start
    corner = kernel.detach()[:2, :2].flatten().tolist()
    return {"bytes": resident("VmHWM") - before, "seconds": taken, "corner": corner}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=16)
    options.add_argument("--memory", default="2GiB")
    chosen = options.parse_args()
    ours = apart(run, "ours", chosen.n, chosen.memory)
    print(f"jacgram: {ours['bytes'] / 2**20:.0f} MiB, {ours['seconds']:.1f} s")
    try:
        theirs = apart(run, "peer", chosen.n, chosen.memory)
    except RuntimeError as error:
        print(f"torch.func, both Jacobians contracted: {error}")
        return
    gap = max(abs(torch.tensor(ours["corner"]) - torch.tensor(theirs["corner"]))) / max(map(abs, theirs["corner"]))
    print(f"torch.func, both Jacobians contracted: {theirs['bytes'] / 2**20:.0f} MiB, {theirs['seconds']:.1f} s")
    print(f"share: {ours['bytes'] / theirs['bytes']:.3f}; kernels differ by {gap:.0e}")


if __name__ == "__main__":
    main()

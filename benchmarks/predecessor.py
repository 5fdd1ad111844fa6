"""JAX kernels against neural-tangents 0.6.5 on JAX 0.4.25, the best of its three methods, in turn with ours.

    python -m benchmarks.predecessor --n 8 32

Its environment is built beside this file the first time (numpy < 2 and scipy < 1.13, as it needs).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jacgram
from benchmarks.models_jax import MODELS

HERE = Path(__file__).parent
PEER = HERE / ".neural-tangents"
PINS = ["jax==0.4.25", "jaxlib==0.4.25", "numpy<2", "scipy<1.13", "frozendict", "typing_extensions", "flatbuffers"]
ROUNDS, BATCH = 7, 2
# On the residual network the peer is 3e-4 from the product in float64, and jacgram 2e-7.
TOLERANCE = 1e-3


def environment():
    """The peer's interpreter; its packages are installed once."""
    python = PEER / "bin" / "python"
    if not (PEER / "ready").exists():
        venv.create(PEER, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *PINS], check=True)
        subprocess.run([*install, "--no-deps", "neural-tangents==0.6.5"], check=True)
        (PEER / "ready").touch()
    return python


def compare(name, n):
    """One row of the table."""
    f, params, make = MODELS[name]()
    params = jax.tree.map(jnp.asarray, params)
    x1, x2 = jnp.asarray(make(n, 0)), jnp.asarray(make(n, 1))
    start = time.perf_counter()
    kernel = jax.jit(lambda p, a, b: jacgram.ntk(f, a, b, params=p)).lower(params, x1, x2).compile()
    first_s = time.perf_counter() - start
    temporary = kernel.memory_analysis().temp_size_in_bytes
    result = np.asarray(kernel(params, x1, x2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.npy"
        command = [str(environment()), "predecessor_worker.py", name, str(n), str(path)]
        with subprocess.Popen(command, cwd=HERE, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as peer:
            about = json.loads(peer.stdout.readline())
            expected = np.load(path)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                peer.stdin.write(f"time {BATCH}\n")
                peer.stdin.flush()
                theirs += json.loads(peer.stdout.readline())
                for _ in range(BATCH):
                    start = time.perf_counter()
                    kernel(params, x1, x2).block_until_ready()
                    ours.append(time.perf_counter() - start)
            peer.stdin.close()
    error = np.abs(result - expected).max() / np.abs(expected).max()
    assert error < TOLERANCE, f"{name}: results differ by {error:.1e}"
    a, b = statistics.median(theirs), statistics.median(ours)
    mib = [size / 2**20 for size in (about["temporary_bytes"], temporary)]
    return (
        f"| {name}, n = {n} | {a * 1e3:.3g} ({about['method'].lower()}) | {b * 1e3:.3g} | {a / b:.2f} "
        f"| {mib[0]:.0f}, {mib[1]:.0f} | {about['first_s']:.2g}, {first_s:.2g} | {error:.0e} |"
    )


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[8, 32])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    chosen = options.parse_args()
    print(f"Python {sys.version.split()[0]}, jax {jax.__version__}")
    print("| | peer, ms | jacgram, ms | ratio | temporary MiB | trace and compile, s | error |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for n in chosen.n:
        for name in chosen.models:
            print(compare(name, n), flush=True)


if __name__ == "__main__":
    main()

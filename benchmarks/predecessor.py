"""JAX kernels against neural-tangents 0.6.5 on JAX 0.4.25, the best of its three methods, in turn with ours.

    python -m benchmarks.predecessor --n 8 32

Its environment is built beside this file the first time (numpy < 2 and scipy < 1.13, as it needs). Each row is measured
in processes of its own. The share is that of the rate of a large product, by the operations that our plan counts;
growth is that of each process in a warm call.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jacgram
from benchmarks.apart import apart
from benchmarks.growth import MIB, growth
from benchmarks.models_jax import MODELS
from benchmarks.stopwatch import agreed, host, product_rate, seconds

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


@contextmanager
def opponent(name, n, *methods):
    """A process of the peer: what it says of itself, its kernel, and a function to ask it for times and growth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.npy"
        command = [str(environment()), "predecessor_worker.py", name, str(n), str(path), *methods]
        with subprocess.Popen(command, cwd=HERE, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as peer:

            def ask(question):
                peer.stdin.write(f"{question}\n")
                peer.stdin.flush()
                return json.loads(peer.stdout.readline())

            line = peer.stdout.readline()
            if not line:
                raise RuntimeError(f"neural-tangents did not end on {name} at n = {n}, code {peer.wait()}")
            yield json.loads(line), np.load(path), ask
            peer.stdin.close()


def problem(name, n):
    """f, params, and the examples of both sides."""
    f, params, make = MODELS[name]()
    return f, jax.tree.map(jnp.asarray, params), jnp.asarray(make(n, 0)), jnp.asarray(make(n, 1))


def settle():
    """A plan of next to nothing: the device is measured on the first one, and no first call should pay for that."""
    jacgram.plan(lambda w, x: x @ w, jnp.ones((2, 2)), params=jnp.ones((2, 2)))


def fight(kernel, ask, rounds, batch):
    """Median seconds of a call, the peer's and ours, in turn."""
    theirs, ours = [], []
    for _ in range(rounds):
        theirs += ask(f"time {batch}")
        ours += [seconds(kernel) for _ in range(batch)]
    return statistics.median(theirs), statistics.median(ours)


def compare(name, n):
    """One row of the table."""
    jax.config.update("jax_platforms", "cpu")  # as the peer's build, so that both have the same device
    settle()
    f, params, x1, x2 = problem(name, n)
    start = time.perf_counter()
    program = jax.jit(lambda p, a, b: jacgram.ntk(f, a, b, params=p)).lower(params, x1, x2).compile()
    first_s = time.perf_counter() - start
    kernel = lambda: program(params, x1, x2)
    result = host(kernel())
    with opponent(name, n) as (about, expected, ask):
        a, b = fight(kernel, ask, ROUNDS, BATCH)
        grown = ask("growth"), growth(kernel, apart=True)
    error = agreed(name, result, expected, tolerance=TOLERANCE)
    rate = product_rate("jax")
    share = jacgram.plan(f, x1, x2, params=params).flops / b / rate
    return (
        f"| {name}, n = {n} | {a * 1e3:.3g} ({about['method'].lower()}) | {b * 1e3:.3g} | {a / b:.2f} "
        f"| {share:.0%} of {rate / 1e9:.0f} | {grown[0] / MIB:.0f}, {grown[1] / MIB:.0f} "
        f"| {about['first_s']:.2g}, {first_s:.2g} | {error:.0e} |"
    )


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[8, 32])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    chosen = options.parse_args()
    print(f"Python {sys.version.split()[0]}, jax {jax.__version__}\n")
    print("| | peer, ms | jacgram, ms | ratio | share of GFLOP/s | growth, MiB | trace and compile, s | error |")
    print("| --- | --: | --: | --: | --: | --: | --: | --: |", flush=True)
    for n in chosen.n:
        for name in chosen.models:
            print(apart(compare, name, n), flush=True)


if __name__ == "__main__":
    main()

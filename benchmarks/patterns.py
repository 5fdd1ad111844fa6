"""What a pattern, one side or a kernel by leaf costs, beside the full rectangular kernel, in JAX.

python -m benchmarks.patterns --n 32
"""

import argparse

import jax
import jax.numpy as jnp

import jacgram
from benchmarks.models_jax import MODELS
from benchmarks.stopwatch import medians

ROUNDS = 11


def compiled(f, params, *x, **options):
    program = jax.jit(lambda p, *sides: jacgram.ntk(f, *sides, params=p, **options))
    jax.block_until_ready(program(params, *x))
    return lambda: jax.block_until_ready(program(params, *x))


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, default=32)
    options.add_argument("--models", nargs="+", default=["cnn", "transformer"])
    chosen = options.parse_args()
    print("| | full, ms | x2=None | trace | summed outputs | by leaf | half of n |\n| --- " + "| --: " * 6 + "|")
    for name in chosen.models:
        f, params, make = MODELS[name]()
        params = jax.tree.map(jnp.asarray, params)
        x1, x2 = jnp.asarray(make(chosen.n, 0)), jnp.asarray(make(chosen.n, 1))
        half = chosen.n // 2
        found = medians(
            {
                "full": compiled(f, params, x1, x2),
                "one side": compiled(f, params, x1),
                "trace": compiled(f, params, x1, x2, pattern="n i, m i -> n m"),
                "summed": compiled(f, params, x1, x2, pattern="n i, m j -> n m"),
                "by leaf": compiled(f, params, x1, x2, by_leaf=True),
                "half": compiled(f, params, x1[:half], x2[:half]),
            },
            ROUNDS,
        )
        full = found.pop("full")
        shares = " | ".join(f"{seconds / full:.2f}" for seconds in found.values())
        print(f"| {name}, n = {chosen.n} | {full * 1e3:.3g} | {shares} |", flush=True)


if __name__ == "__main__":
    main()

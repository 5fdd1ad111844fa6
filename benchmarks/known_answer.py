"""The seed's f(x) = sqrt(F x / N): jvp after vjp, vmapped over the identity, against ``jacgram.gram``; both jitted.

python -m benchmarks.known_answer
"""

import jax
import jax.numpy as jnp
import numpy as np

import jacgram
from benchmarks.growth import MIB
from benchmarks.stopwatch import HEAD, duel, medians

jax.config.update("jax_default_matmul_precision", "highest")  # as ours is, on GPUs too
SIZES = ((10_000, 5), (100_000, 50), (10_000, 500))


def problem(n, m):
    """F, x1 and x2 as the known answer draws them."""
    rng = np.random.RandomState(1701)
    return [jnp.asarray(rng.rand(*shape), "float32") for shape in ((m, n), (n,), (n,))]


def f(F, x):
    return jnp.sqrt(F @ x / x.size)


@jax.jit
def known_answer(F, x1, x2):
    """Column by column: J1 (J2ᵀ e) for every e at once."""
    _, pull = jax.vjp(lambda x: f(F, x), x2)
    column = lambda e: jax.jvp(lambda x: f(F, x), (x1,), pull(e))[1]
    return jax.vmap(column, out_axes=1)(jnp.eye(len(F)))


@jax.jit
def ours(F, x1, x2):
    return jacgram.gram(lambda x: f(F, x), x1, x2)


def main():
    print(HEAD)
    memory = []
    for n, m in SIZES:
        arrays = problem(n, m)
        theirs = lambda arrays=arrays: known_answer(*arrays)
        mine = lambda arrays=arrays: ours(*arrays)
        print(duel(f"N = {n}, M = {m}", theirs, mine, rounds=50).row())
        temporary = [k.lower(*arrays).compile().memory_analysis().temp_size_in_bytes for k in (known_answer, ours)]
        memory.append("{:.3g} and {:.3g}".format(*(size / MIB for size in temporary)))
    print(f"\nTemporary memory of peer and ours, MiB: {', '.join(memory)}")
    F, x1, x2 = problem(*SIZES[0])
    eager = lambda: jacgram.gram(lambda x: f(F, x), x1, x2)
    eager()
    print(f"An eager call, f made anew each time: median {medians({'': eager}, 20)[''] * 1e3:.2f} ms")


if __name__ == "__main__":
    main()

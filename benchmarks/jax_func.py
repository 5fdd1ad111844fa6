"""Kernels of JAX models against what anyone can write, jitted: both Jacobians by ``jacrev``, or jvp after vjp.

    python -m benchmarks.jax_func --n 8 16

A peer is left out where it would need more than 8 GiB.
"""

import argparse

import jax
import jax.numpy as jnp

import jacgram
from benchmarks.models_jax import MODELS
from benchmarks.stopwatch import HEAD, absent, duel, host

jax.config.update("jax_default_matmul_precision", "highest")  # as ours is, on GPUs too
MOST_BYTES = 8 << 30


def contraction(f):
    """Both Jacobians, contracted."""
    one = lambda p, x: f(p, x[None])[0]

    def kernel(p, x1, x2):
        rows = lambda x: jax.vmap(jax.jacrev(one), (None, 0))(p, x)
        flat = lambda j, leaf: j.reshape(*j.shape[: j.ndim - leaf.ndim], -1)
        product = lambda a, b, leaf: jnp.tensordot(flat(a, leaf), flat(b, leaf), (-1, -1))
        found = sum(jax.tree.leaves(jax.tree.map(product, rows(x1), rows(x2), p)))  # (n1, *y, n2, *y)
        return jnp.moveaxis(found, found.ndim // 2, 1)

    return kernel


def products(f):
    """The known answer, jvp after vjp vmapped over the identity, for each pair of examples."""
    one = lambda p, x: f(p, x[None])[0]

    def kernel(p, x1, x2):
        def pair(a, b):
            y, pull = jax.vjp(lambda q: one(q, b), p)
            column = lambda e: jax.jvp(lambda q: one(q, a), (p,), pull(e))[1]
            columns = jax.vmap(column, out_axes=-1)(jnp.eye(y.size).reshape(-1, *y.shape))
            return columns.reshape(*y.shape, *y.shape)

        return jax.vmap(jax.vmap(pair, (None, 0)), (0, None))(x1, x2)

    return kernel


def compiled(kernel, *arrays):
    """A call of the compiled kernel, and the temporary memory that it takes."""
    program = jax.jit(kernel).lower(*arrays).compile()
    return (lambda: program(*arrays)), program.memory_analysis().temp_size_in_bytes


PEERS = {"jacrev": contraction, "known answer": products}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[8, 16])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    print(HEAD)
    for name in chosen.models:
        f, params, make = MODELS[name]()
        params = jax.tree.map(jnp.asarray, params)
        for n in chosen.n:
            arrays = params, jnp.asarray(make(n, 0)), jnp.asarray(make(n, 1))
            mine, _ = compiled(lambda p, a, b, f=f: jacgram.ntk(f, a, b, params=p), *arrays)
            for peer, make_kernel in PEERS.items():
                title = f"{name}, n = {n}, {peer}"
                theirs, needed_bytes = compiled(make_kernel(f), *arrays)
                if needed_bytes > MOST_BYTES:
                    print(absent(title, f"left out, {needed_bytes / 2**30:.1f} GiB"), flush=True)
                else:
                    print(duel(title, theirs, mine, rounds=chosen.rounds, expected=host(theirs())).row(), flush=True)


if __name__ == "__main__":
    main()

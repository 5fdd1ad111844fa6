"""Models of particular users against what anyone can write: in JAX the known answer and a product of Jacobians by
``jacrev``, both jitted; in PyTorch ``torch.func``'s Jacobian contraction.

    python -m benchmarks.applied --framework jax torch --n 8 32 128

A peer is left out where it would need more than 4 GiB, or by its time at the size before, more than 20 s.
"""

import argparse

import jacgram
from benchmarks.apart import apart
from benchmarks.growth import MIB
from benchmarks.stopwatch import HEAD, absent, duel, host

MOST_S, MOST_BYTES = 20, 4096 * MIB
NAMES = ["gpt", "untied_gpt", "residual", "embedding", "recurrent"]


def contestants_jax(name):
    """Examples by size and side, our kernel, and the peers': each a function of both sides' examples."""
    import jax
    import jax.numpy as jnp

    from benchmarks.applied_jax import MODELS

    f, params, make = MODELS[name]()
    params = jax.tree.map(jnp.asarray, params)
    one = lambda p, x: f(p, x[None])[0]

    def known_answer(p, x1, x2):
        """jvp after vjp for each pair of examples, vmapped over the identity."""

        def pair(a, b):
            y, pull = jax.vjp(lambda q: one(q, b), p)
            column = lambda e: jax.jvp(lambda q: one(q, a), (p,), pull(e))[1]
            columns = jax.vmap(column, out_axes=-1)(jnp.eye(y.size).reshape(-1, *y.shape))
            return columns.reshape(*y.shape, *y.shape)

        return jax.vmap(jax.vmap(pair, (None, 0)), (0, None))(x1, x2)

    def jacrev(p, x1, x2):
        """Both Jacobians, contracted."""
        rows = lambda x: jax.vmap(jax.jacrev(one), (None, 0))(p, x)
        flat = lambda j, leaf: j.reshape(*j.shape[: j.ndim - leaf.ndim], -1)
        product = lambda a, b, leaf: jnp.tensordot(flat(a, leaf), flat(b, leaf), (-1, -1))
        kernel = sum(jax.tree.leaves(jax.tree.map(product, rows(x1), rows(x2), p)))  # (n1, *y, n2, *y)
        return jnp.moveaxis(kernel, kernel.ndim // 2, 1)

    def compiled(function):
        def make_call(x1, x2):
            program = jax.jit(function).lower(params, x1, x2).compile()
            bytes_needed = program.memory_analysis().temp_size_in_bytes
            return (lambda: program(params, x1, x2)), bytes_needed

        return make_call

    ours = compiled(lambda p, x1, x2: jacgram.ntk(f, x1, x2, params=p))
    peers = {"known answer": compiled(known_answer), "jacrev": compiled(jacrev)}
    return lambda n, side: jnp.asarray(make(n, side)), ours, peers


def contestants_torch(name):
    """The same in PyTorch."""
    from benchmarks.applied_torch import MODELS
    from benchmarks.torch_func import contraction

    module, make = MODELS[name]()
    entries = sum(leaf.numel() for leaf in module.parameters())

    def contracted(x1, x2):
        rows = module(x1[:1]).numel() * (len(x1) + len(x2))
        vmapped = name != "recurrent"  # vmap does not go through nn.RNN
        return (lambda: contraction(module, x1, x2, vmapped=vmapped)), 4 * entries * rows

    ours = lambda x1, x2: ((lambda: jacgram.ntk(module, x1, x2)), 0)
    return make, ours, {"torch.func": contracted}


CONTESTANTS = {"jax": contestants_jax, "torch": contestants_torch}


def compare(framework, name, sizes, rounds):
    """Rows of one model, at growing sizes."""
    examples, ours, peers = CONTESTANTS[framework](name)
    rows, last = [], {}
    for n in sizes:
        x1, x2 = examples(n, 0), examples(n, 1)
        mine, _ = ours(x1, x2)
        for peer, make_call in peers.items():
            title = f"{framework}, {name}, n = {n}, {peer}"
            before, seconds = last.get(peer, (n, 0))
            expected_s = seconds * (n / before) ** 2
            if expected_s > MOST_S:
                rows.append(absent(title, f"left out, about {expected_s:.0f} s a call"))
                continue
            try:
                theirs, needed_bytes = make_call(x1, x2)
                result = host(theirs()) if needed_bytes <= MOST_BYTES else None
            except Exception as error:  # whatever a peer raises
                rows.append(absent(title, f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"))
                continue
            if result is None:
                rows.append(absent(title, f"left out, {needed_bytes / 2**30:.1f} GiB"))
                continue
            found = duel(title, theirs, mine, rounds=rounds, expected=result)
            rows.append(found.row())
            last[peer] = n, found.theirs_s
    return rows


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--framework", nargs="+", default=["jax", "torch"], choices=["jax", "torch"])
    options.add_argument("--n", type=int, nargs="+", default=[8, 32, 128])
    options.add_argument("--models", nargs="+", default=NAMES, choices=NAMES)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    print(HEAD, flush=True)
    for framework in chosen.framework:
        for name in chosen.models:
            try:
                print("\n".join(apart(compare, framework, name, chosen.n, chosen.rounds)), flush=True)
            except RuntimeError as error:
                print(absent(f"{framework}, {name}", str(error)), flush=True)


if __name__ == "__main__":
    main()

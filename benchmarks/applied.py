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
    from benchmarks.jax_func import PEERS, compiled

    f, params, make = MODELS[name]()
    params = jax.tree.map(jnp.asarray, params)

    def caller(kernel):
        return lambda x1, x2: compiled(kernel, params, x1, x2)

    ours = caller(lambda p, x1, x2: jacgram.ntk(f, x1, x2, params=p))
    return lambda n, side: jnp.asarray(make(n, side)), ours, {peer: caller(kernel(f)) for peer, kernel in PEERS.items()}


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

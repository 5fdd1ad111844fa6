"""Kernels of PyTorch models against the two methods of the ``torch.func`` tutorial on neural tangent kernels.

    python -m benchmarks.torch_func --n 8 16

Each kernel is in a process of its own, in turn.
"""

import argparse

import torch
from torch.func import functional_call, jacrev, jvp, vjp, vmap

import jacgram
from benchmarks.alone import contest
from benchmarks.models_torch import MODELS
from benchmarks.stopwatch import HEAD


def _per_example(module, x):
    """The parameters, the module on one example with its outputs in a row, and the kernel's last axes."""
    params = {name: leaf.detach() for name, leaf in module.named_parameters()}
    outputs = module(x[:1]).shape[1:]
    return params, lambda p, x: functional_call(module, p, (x[None],)).flatten(), (*outputs, *outputs)


def contraction(module, x1, x2, *, vmapped=True):
    """Both Jacobians, contracted; example by example for what ``vmap`` cannot do."""
    params, one, outputs = _per_example(module, x1)
    rows = vmap(jacrev(one), (None, 0)) if vmapped else lambda p, x: _stacked([jacrev(one)(p, row) for row in x])
    left, right = rows(params, x1), rows(params, x2)
    pairs = ((left[name].flatten(2), right[name].flatten(2)) for name in params)
    kernel = sum(torch.einsum("nip,mjp->nmij", a, b) for a, b in pairs)
    return kernel.reshape(len(x1), len(x2), *outputs)


def _stacked(trees):
    return {name: torch.stack([tree[name] for tree in trees]) for name in trees[0]}


def products(module, x1, x2):
    """jvp after vjp for each pair of examples, vmapped over the identity."""
    params, one, outputs = _per_example(module, x1)

    def pair(a, b):
        output, pull = vjp(lambda p: one(p, b), params)
        column = lambda e: jvp(lambda p: one(p, a), (params,), pull(e))[1]
        return vmap(column, out_dims=1)(torch.eye(output.numel(), device=output.device))

    return vmap(vmap(pair, (None, 0)), (0, None))(x1, x2).reshape(len(x1), len(x2), *outputs)


PEERS = {peer.__name__: peer for peer in (contraction, products)}


def theirs(peer, name, n):
    """A peer's kernel of a model, of no argument."""
    module, make = MODELS[name]()
    x1, x2 = make(n, 0), make(n, 1)
    return lambda: PEERS[peer](module, x1, x2)


def ours(name, n):
    """The same of jacgram."""
    module, make = MODELS[name]()
    x1, x2 = make(n, 0), make(n, 1)
    return lambda: jacgram.ntk(module, x1, x2)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--n", type=int, nargs="+", default=[8, 16])
    options.add_argument("--models", nargs="+", default=list(MODELS))
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    print(HEAD)
    for name in chosen.models:
        for n in chosen.n:
            for peer in PEERS:
                title = f"{name}, n = {n}, {peer}"
                print(contest(title, (theirs, peer, name, n), (ours, name, n), rounds=chosen.rounds), flush=True)


if __name__ == "__main__":
    main()

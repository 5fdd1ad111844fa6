"""Time and memory against the number of examples, ours and the best peer's, as tables and pictures.

    python -m benchmarks.sizes --framework jax torch --n 8 32 128

In JAX the peer is neural-tangents, by the best of its methods, from the second size on by the one that was best
before; in PyTorch ``torch.func``'s Jacobian contraction. A peer is left out where it would need more than 4 GiB for
Jacobians, or by its time at the size before, more than 20 s. Every point is measured in processes of its own.
"""

import argparse
import json
from pathlib import Path

from benchmarks.apart import apart
from benchmarks.applied import MOST_BYTES, MOST_S
from benchmarks.growth import MIB, growth
from benchmarks.stopwatch import duel, finish, medians

RESULTS = Path(__file__).parent / "results"
NAMES = ["fcn", "cnn", "resnet", "transformer"]


def measure_jax(name, n, rounds, with_peer, methods):
    """Seconds and growth of both, in JAX."""
    import jax

    import jacgram
    from benchmarks.predecessor import TOLERANCE, fight, opponent, problem, settle
    from benchmarks.stopwatch import agreed, host

    settle()
    f, params, x1, x2 = problem(name, n)
    program = jax.jit(lambda p, a, b: jacgram.ntk(f, a, b, params=p)).lower(params, x1, x2).compile()
    kernel = lambda: program(params, x1, x2)
    if not with_peer or jax.default_backend() != "cpu":  # the peer's build is for the processor
        return without_peer(kernel, rounds)
    with opponent(name, n, *methods) as (about, expected, ask):
        agreed(name, host(kernel()), expected, tolerance=TOLERANCE)
        theirs_s, ours_s = fight(kernel, ask, rounds, 1)
        peer = {"seconds": theirs_s, "grown": ask("growth"), "method": about["method"]}
    return {"ours": {"seconds": ours_s, "grown": growth(kernel, apart=True)}, "peer": peer}


def measure_torch(name, n, rounds, with_peer, _methods):
    """The same in PyTorch, where the peer has one method."""
    import jacgram
    from benchmarks.models_torch import MODELS
    from benchmarks.torch_func import contraction

    module, make = MODELS[name]()
    x1, x2 = make(n, 0), make(n, 1)
    kernel = lambda: jacgram.ntk(module, x1, x2)
    theirs = lambda: contraction(module, x1, x2)
    bytes_needed = 4 * sum(p.numel() for p in module.parameters()) * 2 * module(x1).numel()
    if not with_peer or bytes_needed > MOST_BYTES:
        return without_peer(kernel, rounds)
    found = duel(name, theirs, kernel, rounds=rounds)
    grown = [growth(call, apart=True) for call in (kernel, theirs)]
    return {
        "ours": {"seconds": found.ours_s, "grown": grown[0]},
        "peer": {"seconds": found.theirs_s, "grown": grown[1], "method": "contraction"},
    }


def without_peer(kernel, rounds):
    """Ours without a peer."""
    finish(kernel())
    return {"ours": {"seconds": medians({"": kernel}, rounds)[""], "grown": growth(kernel, apart=True)}, "peer": None}


MEASURES = {"jax": measure_jax, "torch": measure_torch}


def curve(framework, name, sizes):
    """Points of one model at growing sizes."""
    points, last = [], None
    for n in sizes:
        with_peer = last is None or last["seconds"] * (n / last["n"]) ** 2 <= MOST_S
        methods = [last["method"]] if last else []
        point = apart(MEASURES[framework], name, n, 5 if n <= 32 else 2, with_peer, methods)
        points.append({"framework": framework, "model": name, "n": n} | point)
        if point["peer"]:
            last = point["peer"] | {"n": n}
        print(row(points[-1]), flush=True)
    return points


def row(point):
    ours, peer = point["ours"], point["peer"]
    name = f"{point['framework']}, {point['model']}, n = {point['n']}"
    mine = f"{ours['seconds'] * 1e3:.3g} | {ours['grown'] / MIB:.0f}"
    if peer is None:
        return f"| {name} | left out | {mine} | |"
    theirs = f"{peer['seconds'] * 1e3:.3g} ({peer['method'].lower()}), {peer['grown'] / MIB:.0f} MiB"
    return f"| {name} | {theirs} | {mine} | {peer['seconds'] / ours['seconds']:.2f} |"


def draw(framework, points):
    """Time above, memory below, a column for each model."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    models = list(dict.fromkeys(point["model"] for point in points))
    figure, axes = pyplot.subplots(2, len(models), figsize=(3 * len(models), 5.5), sharex=True, squeeze=False)
    peer_name = {"jax": "neural-tangents", "torch": "torch.func"}[framework]
    for column, model in zip(axes.T, models):
        mine = [point for point in points if point["model"] == model]
        for axis, key, unit in zip(column, ("seconds", "grown"), (1, MIB)):
            least = 0 if key == "seconds" else 1  # less than a MiB is not told from nothing
            for who, label, style in (("ours", "jacgram", "o-"), ("peer", peer_name, "s--")):
                shown = [(point["n"], max(point[who][key] / unit, least)) for point in mine if point[who]]
                axis.plot(*zip(*shown), style, label=label) if shown else None
            axis.set(xscale="log", yscale="log")
            axis.set_xticks([point["n"] for point in mine], [point["n"] for point in mine], minor=False)
            axis.xaxis.minorticks_off()
            axis.grid(alpha=0.3)
        column[0].set_title(model)
        column[1].set_xlabel("examples on each side")
    axes[0, 0].set_ylabel("seconds")
    axes[1, 0].set_ylabel("growth, MiB (1 or more)")
    axes[0, 0].legend()
    figure.tight_layout()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / f"{framework}.png", dpi=120)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--framework", nargs="+", default=["jax", "torch"], choices=["jax", "torch"])
    options.add_argument("--n", type=int, nargs="+", default=[8, 32, 128])
    options.add_argument("--models", nargs="+", default=NAMES, choices=NAMES)
    chosen = options.parse_args()
    print("| | peer, ms, and its growth | jacgram, ms | our growth, MiB | ratio |")
    print("| --- | --: | --: | --: | --: |", flush=True)
    for framework in chosen.framework:
        points = [point for name in chosen.models for point in curve(framework, name, chosen.n)]
        draw(framework, points)
        (RESULTS / f"{framework}.json").write_text(json.dumps(points, indent=1))


if __name__ == "__main__":
    main()

"""The planner's choice against every order measured, over random dense layers.

    python -m benchmarks.orders --framework jax --count 200

Each layer's kernel is contracted by every order whole, and by each in the slices that are predicted fastest, but for
those predicted beyond 20 times the best. The ratio is the choice's time over that of the fastest order, both measured
once more in turn, so that the fastest of many is not so by luck. What is slow at first is not timed again.
"""

import argparse
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from benchmarks.growth import MIB
from benchmarks.stopwatch import finish, medians, primitives, seconds
from jacgram.arrays.measure import device
from jacgram.contract.component import Factors, contract
from jacgram.core.patterns import Pattern
from jacgram.core.uses import Einsum, Use
from jacgram.core.views import View
from jacgram.plan.choose import candidates, choose
from jacgram.plan.components import components
from jacgram.plan.wanted import wanted

MOST_BYTES, MOST_FLOPS, LEAST_FLOPS = 512 * MIB, 3e9, 1e6
UNLIKELY, SLOW = 20, 3
ITEMSIZE = 4


@dataclass(frozen=True)
class Shape:
    """A dense layer: examples of both sides, outputs, positions, input and output features."""

    n1: int
    n2: int
    o: int
    t: int
    i: int
    k: int

    def uses(self, n, fill):
        """The one use, of ``n`` examples, with arrays from ``fill(shape)``."""
        kind = Einsum(("t", "i"), ("t", "k"), ("i", "k"))
        activation, cotangent = fill((n, self.t, self.i)), fill((n, self.o, self.t, self.k))
        return [Use(0, View.of((self.i, self.k)), kind, activation, cotangent)]

    @property
    def wanted(self):
        """The full kernel."""
        y1, y2 = (self.n1, self.o), (self.n2, self.o)
        return wanted(Pattern.parse("n i, m j -> n m i j").fit(y1, y2, examples=True), y1, y2, examples=True)


def draw(rng):
    sizes = [round(math.exp(rng.uniform(math.log(a), math.log(b)))) for a, b in ((4, 1024), (4, 1024))]
    n1, n2, o, t = (int(rng.integers(1, most + 1)) for most in (32, 32, 16, 64))
    return Shape(n1, n2, o, t, *sizes)


def options(shape, figures):
    """Each order whole and in its best slices, as far as it fits and is likely; the choice comes first."""
    (component,) = components(*(shape.uses(n, lambda size: np.empty(size, np.float32)) for n in (shape.n1, shape.n2)))
    chosen = choose(component, shape.wanted, figures, ITEMSIZE, MOST_BYTES)
    best = {}
    for choice in candidates(component, shape.wanted, figures, ITEMSIZE):
        key = choice.tree, choice.slice_label is None, choice.by_example
        if choice.peak_bytes <= MOST_BYTES and (key not in best or choice.seconds < best[key].seconds):
            best[key] = choice
    fastest = min((choice.seconds for choice in best.values()), default=math.inf)
    others = [c for c in best.values() if c.seconds <= UNLIKELY * fastest and c != chosen]
    return component, [chosen, *others]


def fits(shape, figures):
    """Whether the layer is neither next to nothing nor too much for one measurement."""
    rows_bytes = max(shape.n1, shape.n2) * shape.o * shape.t * max(shape.i, shape.k) * ITEMSIZE
    if rows_bytes > MOST_BYTES:
        return False
    least = min(choice.flops for choice in options(shape, figures)[1])
    return LEAST_FLOPS <= least <= MOST_FLOPS


def runner(framework, component, shape, rng):
    """``call(choice)``: a function that contracts random arrays so."""
    xp = primitives(framework)
    if framework == "torch":
        import torch

        fill = lambda size: torch.from_numpy(rng.standard_normal(size, np.float32)).to(xp.device)
    else:
        import jax

        fill = lambda size: jax.device_put(rng.standard_normal(size, np.float32))
    arrays = [(u.activation, u.cotangent) for n in (shape.n1, shape.n2) for u in shape.uses(n, fill)]

    def kernel(choice, arrays):
        pairs = iter(arrays)
        sides = []
        for n in (shape.n1, shape.n2):
            activation, cotangent = next(pairs)
            (use,) = shape.uses(n, lambda size: np.empty(size, np.float32))
            use = Use(0, use.view, use.kind, activation, cotangent)
            sides.append(Factors([use], (0, shape.o), [shape.i * shape.k]))
        return contract(xp, component, choice, shape.wanted, tuple(sides), "float32", conjugate=False)

    if framework == "torch":
        return lambda choice: lambda: kernel(choice, arrays)

    def compiled(choice):
        program = jax.jit(lambda given: kernel(choice, given)).lower(arrays).compile()
        return lambda: program(arrays)

    return compiled


def spell(choice):
    cut = "" if choice.slice_label is None else f", {choice.slice_label} by {choice.slice_size}"
    parts = "" if choice.parted is None else f", {choice.parted} in {choice.parts} parts"
    return choice.order + cut + parts + (", example by example" if choice.by_example else "")


def measure(framework, shape, figures, rng, rounds):
    """(choice, seconds) of every option that is not slow, the ratio, and the two measured once more."""
    component, every = options(shape, figures)
    make = runner(framework, component, shape, rng)
    calls = {choice: make(choice) for choice in every}
    for call in calls.values():
        finish(call())
    once = {choice: seconds(call) for choice, call in calls.items()}
    quick = {c: call for c, call in calls.items() if c is every[0] or once[c] <= SLOW * min(once.values())}
    found = once | medians(quick, rounds)
    fastest = min(found, key=found.get)
    pair = {every[0]: calls[every[0]], fastest: calls[fastest]}
    again = medians(pair, rounds)
    return found, every[0], fastest, again


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--framework", nargs="+", default=["jax", "torch"], choices=["jax", "torch"])
    arguments.add_argument("--count", type=int, default=200)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--rounds", type=int, default=7)
    given = arguments.parse_args()
    for framework in given.framework:
        rng, figures = np.random.default_rng(given.seed), device(primitives(framework))
        cases, accuracy = [], defaultdict(list)
        while len(cases) < given.count:
            shape = draw(rng)
            if not fits(shape, figures):
                continue
            found, chosen, fastest, again = measure(framework, shape, figures, rng, given.rounds)
            cases.append((again[chosen] / again[fastest], shape, chosen, fastest, again))
            for choice, taken in found.items():
                how = ", example by example" if choice.by_example else ", sliced" if choice.slice_label else ""
                accuracy[choice.order + how].append(choice.seconds / taken)
        report(framework, cases, accuracy)


def report(framework, cases, accuracy):
    ratios = sorted(case[0] for case in cases)
    within = sum(ratio <= 1.3 for ratio in ratios) / len(ratios)
    print(
        f"{framework}, {len(cases)} layers: within 1.3 of the fastest order in {within:.1%}, worst {ratios[-1]:.2f}\n"
    )
    print("| n1, n2, o, t, i, k | ratio | chosen | ms | predicted | fastest | ms | predicted |")
    print("| --- | --: | --- | --: | --: | --- | --: | --: |")
    for ratio, s, chosen, fastest, again in sorted(cases, key=lambda case: -case[0])[:10]:
        sides = " | ".join(f"{spell(c)} | {again[c] * 1e3:.3g} | {c.seconds * 1e3:.3g}" for c in (chosen, fastest))
        print(f"| {s.n1}, {s.n2}, {s.o}, {s.t}, {s.i}, {s.k} | {ratio:.2f} | {sides} |")
    print("\n| order | layers | predicted / measured, median | lowest and highest tenth |\n| --- | --: | --: | --: |")
    for name, shares in sorted(accuracy.items(), key=lambda item: -len(item[1])):
        low, high = np.quantile(shares, (0.1, 0.9))
        print(f"| {name} | {len(shares)} | {statistics.median(shares):.2f} | {low:.2f}, {high:.2f} |")
    print(flush=True)


if __name__ == "__main__":
    main()

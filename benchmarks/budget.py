"""Growth of the process beside the budget that was given: each case in a process of its own, warm.

    python -m benchmarks.budget

Growth is the highest resident memory during the call, less what was resident before it and less the result.
"""

import jacgram
from benchmarks.apart import apart
from benchmarks.growth import MIB, growth

CASES = [("fcn", 64), ("cnn", 48), ("transformer", 32)]
BUDGETS = ["128MiB", "512MiB"]


def inputs(framework, name, n):
    """f, params and both sides' examples."""
    if framework == "torch":
        from benchmarks.models_torch import MODELS

        module, make = MODELS[name]()
        return module, None, make(n, 0), make(n, 1)
    import jax
    import jax.numpy as jnp

    from benchmarks.models_jax import MODELS

    f, params, make = MODELS[name]()
    return f, jax.tree.map(jnp.asarray, params), jnp.asarray(make(n, 0)), jnp.asarray(make(n, 1))


def run(framework, name, n, memory):
    """The figures of one case, in this process."""
    f, params, x1, x2 = inputs(framework, name, n)
    plan = jacgram.plan(f, x1, x2, params=params, memory=memory)

    def kernel(a, b):
        found = jacgram.ntk(f, a, b, params=params, memory=memory)
        return found.block_until_ready() if framework == "jax" else found

    few = slice(None) if framework == "jax" else slice(2)  # a program is compiled for its shapes
    kernel(x1[few], x2[few])
    grown = growth(lambda: kernel(x1, x2))
    return {"grown": grown, "planned": plan.peak_bytes, "budget": plan.budget_bytes}


def measured(framework, name, n, memory):
    """The figures of one case, in a process of its own."""
    return apart(run, framework, name, n, memory)


def main():
    print("| | budget, MiB | planned, MiB | growth, MiB | growth / budget |\n| --- | --: | --: | --: | --: |")
    for framework in ("jax", "torch"):
        for name, n in CASES:
            for memory in BUDGETS:
                found = measured(framework, name, n, memory)
                figures = " | ".join(f"{found[key] / MIB:.0f}" for key in ("budget", "planned", "grown"))
                print(
                    f"| {framework}, {name}, n = {n} | {figures} | {found['grown'] / found['budget']:.2f} |", flush=True
                )


if __name__ == "__main__":
    main()

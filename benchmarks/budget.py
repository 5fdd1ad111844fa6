"""Growth of the process beside the budget that was given: each case in a process of its own, warm.

    python -m benchmarks.budget

Growth is the highest resident memory during the call, less what was resident before it and less the result.
"""

import gc
import json
import subprocess
import sys
from pathlib import Path

import jacgram
from jacgram.execute.memory import give_back

CASES = [("fcn", 64), ("cnn", 48), ("transformer", 32)]
BUDGETS = ["128MiB", "512MiB"]


def resident(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


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
    """Prints the figures of one case as JSON."""
    f, params, x1, x2 = inputs(framework, name, int(n))
    plan = jacgram.plan(f, x1, x2, params=params, memory=memory)

    def kernel(a, b):
        found = jacgram.ntk(f, a, b, params=params, memory=memory)
        return found.block_until_ready() if framework == "jax" else found

    few = slice(None) if framework == "jax" else slice(2)  # a program is compiled for its shapes
    kernel(x1[few], x2[few])
    gc.collect()
    give_back()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    result = kernel(x1, x2)
    grown = resident("VmHWM") - before - result.nbytes
    print(json.dumps({"grown": grown, "planned": plan.peak_bytes, "budget": plan.budget_bytes}))


def measured(framework, name, n, memory):
    """The figures of one case, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.budget", framework, name, str(n), memory]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])
    return json.loads(done.stdout.splitlines()[-1])


def main():
    print("| | budget, MiB | planned, MiB | growth, MiB | growth / budget |\n| --- | --: | --: | --: | --: |")
    for framework in ("jax", "torch"):
        for name, n in CASES:
            for memory in BUDGETS:
                found = measured(framework, name, n, memory)
                figures = " | ".join(f"{found[key] / 2**20:.0f}" for key in ("budget", "planned", "grown"))
                print(
                    f"| {framework}, {name}, n = {n} | {figures} | {found['grown'] / found['budget']:.2f} |", flush=True
                )


if __name__ == "__main__":
    run(*sys.argv[1:]) if len(sys.argv) > 1 else main()

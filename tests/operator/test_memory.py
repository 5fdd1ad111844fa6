"""Growth of a process that computes a kernel whose Jacobians would not fit its budget."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import jacgram
from jacgram.errors import BudgetError
from kit.native import array

_SCRIPT = """
import threading, time, numpy as np, psutil, jacgram
process, peak, done = psutil.Process(), [0], threading.Event()

def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], process.memory_info().rss)

n_inputs, n_outputs = 10**6, 256
{framework}

jacgram.gram(lambda x: f(x)[:2], x1[:n_outputs], x2[:n_outputs], memory="64MiB")  # what starting up takes is not asked for
before = process.memory_info().rss
thread = threading.Thread(target=watch)
thread.start()
kernel = np.asarray(jacgram.gram(f, x1, x2, memory="64MiB"))
done.set()
thread.join()
a, b = (np.cos(np.asarray(x, dtype=np.float64))[: n_outputs * 3906].reshape(n_outputs, -1) for x in (x1, x2))
error = np.abs(kernel - np.diag((a * b).sum(1))).max() / np.abs(kernel).max()
print((peak[0] - before) / 2**20, error)
"""
_FRAMEWORKS = {
    "jax": """
        import jax.numpy as jnp
        x1, x2 = (jnp.asarray(np.random.default_rng(k).random(n_inputs), "float32") for k in (0, 1))
        def f(x):
            return jnp.sin(x)[: x.size // n_outputs * n_outputs].reshape(n_outputs, -1).sum(1)
    """,
    "torch": """
        import torch
        x1, x2 = (torch.rand(n_inputs) for _ in range(2))
        def f(x):
            return torch.sin(x)[: x.numel() // n_outputs * n_outputs].reshape(n_outputs, -1).sum(1)
    """,
}


def test_the_budget_is_kept_where_one_jacobian_is_a_gibibyte(framework):
    pytest.importorskip("psutil")
    script = _SCRIPT.format(framework=textwrap.dedent(_FRAMEWORKS[framework]))
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    growth_mib, error = map(float, made.stdout.split()[-2:])
    assert growth_mib < 1024 / 4
    assert error < 1e-5


_LARGE_RESULT = """
import sys, numpy as np, jacgram
side, by_leaf, method = sys.argv[1], sys.argv[2] == "by leaf", getattr(jacgram, sys.argv[3])()
{framework}
rng = np.random.default_rng(0)
draw = lambda *shape: asarray(rng.standard_normal(shape).astype("float32"))
params, x, other = dict(w=draw(16, 32), v=draw(32, 10)), draw(600, 16), draw(600, 16)
f = lambda p, x: tanh(x @ p["w"]) @ p["v"]

def memory(key):
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith(key))

def kernel(n):
    second = None if side == "one side" else other[:n]
    found = jacgram.ntk(f, x[:n], second, params=params, memory="24MiB", by_leaf=by_leaf, method=method)
    leaves = list(found.values()) if by_leaf else [found]
    return leaves, sum(np.asarray(leaf).nbytes for leaf in leaves) / 2**20

kernel(600)  # what compiling takes is not asked for
open("/proc/self/clear_refs", "w").write("5")
before = memory("VmRSS")
leaves, result = kernel(600)
print(result, memory("VmHWM") - before - result)
"""
_TANH = {
    "jax": "import jax.numpy as jnp; asarray, tanh = jnp.asarray, jnp.tanh",
    "torch": "import torch; asarray, tanh = torch.from_numpy, torch.tanh",
}


@pytest.mark.parametrize(
    ("side", "parts", "method"),
    [
        ("one side", "whole", "Structured"),
        ("one side", "whole", "MatrixFree"),
        ("one side", "by leaf", "Structured"),
        ("two sides", "whole", "Structured"),
    ],
)
def test_a_result_beyond_the_budget_is_held_once(side, parts, method, framework):
    """137 MiB, or twice as many: mirrored tile by tile, not as a whole."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs /proc")
    if framework == "torch" and method == "MatrixFree":
        pytest.skip("a pass for each row takes the time")
    script = _LARGE_RESULT.format(framework=_TANH[framework])
    command = [sys.executable, "-c", script, side, parts, method]
    made = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    result_mib, growth_mib = map(float, made.stdout.split()[-2:])
    assert result_mib > 130
    assert growth_mib < 0.75 * result_mib / (2 if parts == "by leaf" else 1)


@pytest.mark.parametrize("method", [jacgram.Structured(), jacgram.MatrixFree()], ids=str)
def test_what_lies_between_uses_is_planned_for(method, framework):
    """Scores of attention are neither an activation nor a cotangent of a use, and larger than all that are."""
    f, softmax = _attention(framework)
    draw = lambda *shape: array(framework, np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    params, x = {name: draw(4, 4) for name in "qkv"}, draw(2, 256, 4)
    scores = 256 * 256 * 4
    plan = jacgram.plan(f(softmax), x, params=params, method=method)
    assert plan.peak_bytes >= scores
    with pytest.raises(BudgetError, match="the smallest needs"):
        jacgram.plan(f(softmax), x, params=params, method=method, memory=scores // 2)


def _attention(framework):
    def f(softmax):
        def of(p, x):
            scores = (x @ p["q"]) @ (x @ p["k"]).swapaxes(-1, -2)
            return (softmax(scores, -1) @ (x @ p["v"])).mean(1)

        return of

    if framework == "jax":
        import jax

        return f, jax.nn.softmax
    import torch

    return f, torch.softmax

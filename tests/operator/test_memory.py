"""Growth of a process that computes a kernel whose Jacobians would not fit its budget."""

import subprocess
import sys
import textwrap

import pytest

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

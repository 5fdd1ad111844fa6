"""Settings that must stand before a framework is imported, and which frameworks the tests run on."""

import importlib.util
import os

import pytest

# Float64 in JAX, so that tests can tell exact from nearly exact. Tests of float32 make float32 arrays.
os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Most of the time of these tests is XLA compiling small programs that run once: compile quickly rather than well.
_xla = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers share the cores; a pool of threads in each makes them wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _xla += ["--xla_cpu_multi_thread_eigen=false", "intra_op_parallelism_threads=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(_xla))

FRAMEWORKS = ("jax", "torch")
INSTALLED = tuple(name for name in FRAMEWORKS if importlib.util.find_spec(name) is not None)
collect_ignore = [f"frontends/{name}" for name in FRAMEWORKS if name not in INSTALLED]


def pytest_addoption(parser):
    parser.addoption(
        "--frameworks",
        default=",".join(INSTALLED),
        help="comma-separated frameworks to test; one that is named and not installed is an error",
    )


def pytest_configure(config):
    wanted = [name for name in config.getoption("--frameworks").split(",") if name]
    if missing := [name for name in wanted if name not in INSTALLED]:
        raise pytest.UsageError(f"--frameworks names {', '.join(missing)}, which is not installed")
    if not wanted:
        raise pytest.UsageError("neither jax nor torch is installed: the tests need one of them at least")


def pytest_generate_tests(metafunc):
    """A test that takes ``framework`` runs once in each."""
    if "framework" in metafunc.fixturenames and not _parametrized(metafunc, "framework"):
        wanted = [name for name in metafunc.config.getoption("--frameworks").split(",") if name]
        metafunc.parametrize("framework", wanted)


def _parametrized(metafunc, name):
    marks = metafunc.definition.iter_markers("parametrize")
    names = (mark.args[0] for mark in marks)
    return any(name in (n.replace(" ", "").split(",") if isinstance(n, str) else n) for n in names)

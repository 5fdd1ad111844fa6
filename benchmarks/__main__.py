"""Every benchmark, one after the other, with tables in ``benchmarks/results/latest.md`` and pictures beside it.

    python -m benchmarks                                 all of it: hours on two cores
    python -m benchmarks --quick                         a short subset
    python -m benchmarks --only predecessor torch_func   some of them

A GPU is used where there is one; hide it (``CUDA_VISIBLE_DEVICES=``) to measure the processor.
"""

import argparse
import datetime
import importlib.metadata
import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
FEW = ["--models", "fcn", "transformer"]
# Name of the script: what it measures, its arguments, and those of a quick run (None: left out).
TABLES = {
    "known_answer": ("The known answer, on f(x) = sqrt(F x / N)", [], []),
    "predecessor": ("JAX: neural-tangents", ["--n", "8", "32"], ["--n", "8", *FEW]),
    "jax_func": ("JAX: jacrev and the known answer", ["--n", "16"], ["--n", "8", *FEW, "--rounds", "3"]),
    "torch_func": ("PyTorch: torch.func", ["--n", "16"], ["--n", "8", *FEW, "--rounds", "3"]),
    "torch_peers": ("PyTorch: self-Gram, torchjd and nngeometry", ["--n", "16"], ["--n", "8", *FEW, "--rounds", "3"]),
    "applied": ("Models of particular users", ["--n", "8", "32", "128"], ["--n", "8", "--rounds", "3"]),
    "patterns": ("Patterns and one side, JAX", ["--n", "32"], ["--n", "8", "--models", "transformer"]),
    "budget": ("Growth beside the budget", [], None),
    "torch_memory": ("PyTorch: peak memory of a large transformer", ["--n", "16", "--memory", "1GiB"], None),
    "storing": ("Storing all digits' kernel", [], None),
    "orders": ("The planner's choice among orders", [], ["--count", "10"]),
    "sizes": ("Time and memory against n", [], ["--n", "4", "8", "--models", "transformer"]),
}


def machine():
    """Lines that say what and when was measured."""
    names = ["jacgram", "jax", "jaxlib", "torch", "numpy"]
    installed = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    versions = ", ".join(f"{name} {installed[name]}" for name in names if name in installed)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    yield f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, `{command}`"
    yield f"- {processor()}, {cores} cores{gpu()}"
    yield f"- Python {platform.python_version()}, {versions}"


def processor():
    """The model's name, which ``platform`` does not know on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu():
    if not shutil.which("nvidia-smi"):
        return ""
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    return ", " + ", ".join(subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines())


def run(name, arguments, write):
    """One script, its lines written as they come; whether it ended well."""
    command = [sys.executable, "-u", "-m", f"benchmarks.{name}", *arguments]
    write(f"    python -m benchmarks.{shlex.join([name, *arguments])}\n")
    with subprocess.Popen(command, cwd=RESULTS.parents[1], stdout=-1, text=True) as process:
        for line in process.stdout:
            write(line.rstrip("\n"))
    if process.returncode:
        write(f"\nEnded with code {process.returncode}.")
    return process.returncode == 0


def main():
    options = argparse.ArgumentParser(prog="python -m benchmarks", description="Every benchmark, side by side.")
    options.add_argument("--quick", action="store_true", help="a short subset, at small sizes")
    options.add_argument("--only", nargs="+", choices=list(TABLES), metavar="NAME", help=", ".join(TABLES))
    options.add_argument("--output", type=Path, default=RESULTS / "latest.md")
    chosen = options.parse_args()
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    failed = []
    with chosen.output.open("w") as file:

        def write(line):
            print(line, flush=True)
            print(line, file=file, flush=True)

        write("# Measured\n")
        for line in machine():
            write(line)
        for name in chosen.only or TABLES:
            title, full, quick = TABLES[name]
            arguments = quick if chosen.quick else full
            if arguments is None:
                continue
            write(f"\n## {title}\n")
            if not run(name, arguments, write):
                failed.append(name)
    sys.exit(f"did not end well: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

"""One function of a benchmark in a process of its own: it inherits nothing, and may die of memory."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def apart(function, *arguments):
    """What the function returns; arguments and result go through JSON. RuntimeError where it does not end well."""
    module = f"benchmarks.{Path(function.__code__.co_filename).stem}"
    command = [sys.executable, "-m", "benchmarks.apart", module, function.__name__, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed, likely out of memory"])[-1]
        raise RuntimeError(f"{function.__name__}{arguments} ended with code {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    name, function, arguments = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(name), function)(*json.loads(arguments))))

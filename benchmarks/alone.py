"""Kernels in processes of their own, called in turn: what one library sets for its process does not reach the other.

jacgram has the C library keep freed memory, for one: in its process other libraries are faster than they are alone.
"""

from __future__ import annotations

import importlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.stopwatch import Duel, absent, agreed, finish, host, seconds

ROOT = Path(__file__).parents[1]


class UnableError(Exception):
    """The kernel's own process could not compute it, and why."""


@contextmanager
def alone(make: Callable[..., Any], *arguments: Any) -> Generator[tuple[np.ndarray, Callable[[], float]]]:
    """A process that holds ``make(*arguments)()``: its result, and a function that has it called and gives the seconds.

    Args:
        make: a function of one of these modules; from its arguments, which go through JSON, to a function of none.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.npy"
        module = f"benchmarks.{Path(make.__code__.co_filename).stem}"
        command = [sys.executable, "-m", "benchmarks.alone", module, make.__name__, json.dumps(arguments), str(path)]
        with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def answer() -> Any:
                line = process.stdout.readline() if process.stdout else ""
                if not line:
                    raise UnableError(f"ended with code {process.wait()}, likely out of memory")
                return json.loads(line)

            def taken() -> float:
                print("again", file=process.stdin, flush=True)
                return answer()

            why = answer()
            if why is not None:
                raise UnableError(why)
            yield np.load(path), taken


def contest(title: str, theirs: tuple[Any, ...], ours: tuple[Any, ...], *, rounds: int) -> str:
    """The row of two kernels, each ``(make, *arguments)``, or one that says why the peer's does not run."""
    with alone(*ours) as (found, mine):
        try:
            with alone(*theirs) as (expected, other):
                error = agreed(title, found, expected)
                times = [(other(), mine()) for _ in range(rounds)]
        except UnableError as error:
            return absent(title, str(error))
    return Duel(title, *(statistics.median(taken) for taken in zip(*times, strict=True)), error).row()


def serve(module: str, name: str, arguments: str, path: str) -> None:
    """The other process: the result, then the seconds of one call for each line."""
    say = lambda answer: print(json.dumps(answer), flush=True)
    try:
        kernel = getattr(importlib.import_module(module), name)(*json.loads(arguments))
        np.save(path, host(kernel()))
        finish(kernel())  # once more, beside what the first call has left in memory
    except Exception as error:  # whatever a library raises
        say(f"{type(error).__name__}: {' '.join(str(error).split())[:80]}")
        return
    say(None)
    for _ in sys.stdin:
        say(seconds(kernel))


if __name__ == "__main__":
    serve(*sys.argv[1:])

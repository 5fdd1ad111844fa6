"""Kernels in processes of their own, called in turn: what one library sets for its process does not reach the other.

jacgram has the C library keep freed memory, for one: in its process other libraries are faster than they are alone.
"""

from __future__ import annotations

import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.apart import ROOT
from benchmarks.stopwatch import Duel, absent, agreed, finish, host, seconds


class UnableError(Exception):
    """A kernel's own process could not compute it, and why."""


class Process:
    """A process that holds one kernel.

    Attributes:
        result: what the kernel gave.
    """

    def __init__(self, process: subprocess.Popen[str], path: Path) -> None:
        self._process = process
        self._answer()
        self.result: np.ndarray = np.load(path)

    def seconds(self) -> float:
        """Of one more call."""
        with suppress(BrokenPipeError):  # it has ended; its answer says so
            print("again", file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UnableError(f"ended with code {self._process.wait()}")
        why, taken = json.loads(line)
        if why is not None:
            raise UnableError(why)
        return taken


@contextmanager
def alone(make: Callable[..., Any], *arguments: Any) -> Generator[Process]:
    """A process that holds ``make(*arguments)``, a kernel of no argument.

    Args:
        make: a function of one of these modules; its arguments go through JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.npy"
        module = f"benchmarks.{Path(make.__code__.co_filename).stem}"
        command = [sys.executable, "-m", "benchmarks.alone", module, make.__name__, json.dumps(arguments), str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1, text=True)
        try:
            yield Process(process, path)
        finally:
            with suppress(BrokenPipeError):
                process.communicate()


def contest(title: str, theirs: tuple[Any, ...], ours: tuple[Any, ...], *, rounds: int) -> str:
    """The row of two kernels, each ``(make, *arguments)``, or one that says why the peer's does not run."""
    with alone(*ours) as mine:
        try:
            with alone(*theirs) as other:
                error = agreed(title, mine.result, other.result)
                times = [(other.seconds(), _ours(mine)) for _ in range(rounds)]
        except UnableError as error:
            return absent(title, str(error))
    return Duel(title, *(statistics.median(taken) for taken in zip(*times, strict=True)), error).row()


def _ours(process: Process) -> float:
    """Seconds of a call; what keeps it from one is no reason to pass over the row."""
    try:
        return process.seconds()
    except UnableError as error:
        raise RuntimeError(f"jacgram's own process: {error}") from error


def serve(module: str, name: str, arguments: str, path: str) -> None:
    """The other process: ``[why not, seconds]`` of the first call and, for each line, of one more."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(why: str | None, taken: float) -> None:
        print(json.dumps([why, taken]), file=answers, flush=True)

    try:
        kernel = getattr(importlib.import_module(module), name)(*json.loads(arguments))
        np.save(path, host(kernel()))
        finish(kernel())  # once more, beside what the first call has left in memory
        say(None, 0.0)
        for _ in sys.stdin:
            say(None, seconds(kernel))
    except Exception as error:  # whatever a library raises
        say(f"{type(error).__name__}: {' '.join(str(error).split())[:80]}", 0.0)


if __name__ == "__main__":
    serve(*sys.argv[1:])

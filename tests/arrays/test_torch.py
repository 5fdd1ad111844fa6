"""What PyTorch's adapter asks of the C library."""

import os
import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch")

IN_HEAP = """
import sys
import torch
from jacgram.arrays.torch import reuse_freed_memory

if sys.argv[1] == "reused":
    reuse_freed_memory()
place = torch.empty(31 << 20, dtype=torch.uint8, device="cpu").data_ptr()
heap = next(line.split()[0] for line in open("/proc/self/maps") if line.rstrip().endswith("[heap]"))
first, last = (int(end, 16) for end in heap.split("-"))
print(first <= place < last)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells what glibc does")
@pytest.mark.parametrize(("how", "expected"), [("reused", "True"), ("as it comes", "False")])
def test_large_arrays_lie_where_what_is_freed_is_used_again(how, expected):
    """In the heap, that is, and not in pages of their own, which go back to the system with every array."""
    found = subprocess.run([sys.executable, "-c", IN_HEAP, how], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == expected


FAULTS = """
import ctypes, resource, sys
import torch
from jacgram.arrays.torch import reuse_freed_memory

def made():
    return [torch.zeros(20 << 20, dtype=torch.uint8) for _ in range(6)]

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: no page is large
made()
if sys.argv[1] == "reused":
    reuse_freed_memory()
made()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    made()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize())
"""
"""Bytes that the system clears for five times 120 MiB in pieces of 20."""


def _cleared(how, **environment):
    """The most of three processes: in one of twelve, something small lies behind all that is freed and holds it."""
    return max(_cleared_once(how, **environment) for _ in range(3))


def _cleared_once(how, **environment):
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(command, env=plain | environment, capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells what glibc does")
def test_what_is_freed_at_once_is_kept():
    assert 10 * _cleared("reused") < _cleared("as it comes")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells what glibc does")
def test_what_the_environment_says_stands():
    assert _cleared("reused", MALLOC_TRIM_THRESHOLD_="65536") > 300 << 20

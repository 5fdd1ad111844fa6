"""What PyTorch's adapter asks of the C library."""

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch")

FAULTS = """
import resource, sys
import torch
from jacgram.arrays.torch import reuse_freed_memory

if sys.argv[1] == "reused":
    reuse_freed_memory()

def arrays():
    held = [torch.empty(6 << 20, dtype=torch.uint8).fill_(1) for _ in range(5)]

for count in range(20):
    if count == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    arrays()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="tells what glibc does")
def test_pages_freed_are_not_faulted_in_again():
    """30 MiB in five pieces, ten times over: 75,000 pages of 4 KiB where each time they come from the system."""
    counts = {
        how: int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("reused", "as it comes")
    }
    assert counts["reused"] < counts["as it comes"] / 10, counts

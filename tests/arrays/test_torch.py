"""What PyTorch's adapter asks of the C library."""

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
    torch.set_default_device("meta")
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

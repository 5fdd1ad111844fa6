"""Memory of this process."""

import os
import platform
import subprocess
import sys

import pytest

from jacgram.execute.memory import give_back, keep_no_longer, keep_until_given_back, peak_bytes, peak_of_family

FAULTS = """
import resource, sys
import numpy as np
from jacgram.execute.memory import keep_no_longer, keep_until_given_back
if sys.argv[1] != "returned":
    keep_until_given_back()
if sys.argv[1] == "no longer kept":
    keep_no_longer()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

np.ones(3 << 17)
before = faults()
for _ in range(10):
    np.ones(3 << 17)
print(faults() - before)
"""
"""Page faults of ten arrays of 3 MiB, each freed before the next."""


def test_peaks_are_in_bytes():
    for measured in (peak_bytes(), peak_of_family()):
        assert 10 << 20 < measured < 1 << 40


def test_giving_back_is_harmless():
    give_back()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's memory")
def test_freed_memory_is_kept_where_dask_would_have_it_returned():
    def faults(way):
        options = {"MALLOC_TRIM_THRESHOLD_": "65536", "NUMPY_MADVISE_HUGEPAGE": "0"}  # the first is Dask's own
        command = [sys.executable, "-c", FAULTS, way]
        return int(subprocess.run(command, env=os.environ | options, capture_output=True, check=True).stdout)

    assert 4 * faults("kept") < min(faults("returned"), faults("no longer kept"))


def test_keeping_is_harmless():
    keep_until_given_back()
    keep_no_longer()

"""Memory of this process."""

import os
import platform
import subprocess
import sys

import pytest

from jacgram.arrays import allocator
from jacgram.execute import memory
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


def test_nothing_is_set_where_glibc_decides_by_itself(monkeypatch):
    made = []
    for module in (allocator, memory):
        monkeypatch.setattr(module, "of_libc", lambda name: lambda *given: made.append((name, *given)))
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    keep_until_given_back()
    keep_no_longer()
    assert made == [("malloc_trim", 0)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    keep_no_longer()
    assert made[1:] == [("mallopt", -1, 65536), ("mallopt", -3, 128 << 10), ("malloc_trim", 0)]
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", str(1 << 30))
    keep_until_given_back()
    assert made[4:] == [("mallopt", -1, 1 << 30), ("mallopt", -3, 32 << 20)]

"""The host: how its processor is told from others."""

import pytest

from jacgram.arrays.host import described, host_name, usable_cores

MILAN = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu vme

processor\t: 1
model\t\t: 99
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 243.75
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
"""


@pytest.mark.parametrize(
    ("cpuinfo", "name"), [(MILAN, "AMD EPYC 25-1-1"), (GRAVITON, "0x41-0xd0c-0x3"), ("", ""), ("Features : half", "")]
)
def test_a_processor_is_told_by_its_name_and_numbers(cpuinfo, name):
    assert described(cpuinfo) == name


def test_processors_of_one_name_are_told_apart():
    """Virtual machines call all of a maker's alike; figures of one must not serve another."""
    assert described(MILAN) != described(MILAN.replace("model\t\t: 1", "model\t\t: 17"))


def test_the_host_is_named_with_its_cores():
    assert host_name().endswith(f" {usable_cores()} cores")

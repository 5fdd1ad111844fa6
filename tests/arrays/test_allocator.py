"""What glibc keeps of freed memory, as the environment has it and as it is set."""

import pytest

from jacgram.arrays import allocator
from jacgram.arrays.allocator import environment_fixes_thresholds, set_thresholds, thresholds_of_environment

VARIABLES = [f"MALLOC_{name}_" for name in ("TRIM_THRESHOLD", "MMAP_THRESHOLD", "TOP_PAD", "MMAP_MAX")]


@pytest.fixture(autouse=True)
def _nothing_given(monkeypatch):
    for name in (*VARIABLES, "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_fixed_where_nothing_is_given():
    assert not environment_fixes_thresholds()
    assert thresholds_of_environment() == (128 << 10, 128 << 10)


@pytest.mark.parametrize("name", VARIABLES)
def test_each_variable_fixes_both(monkeypatch, name):
    monkeypatch.setenv(name, "65536")
    assert environment_fixes_thresholds()


@pytest.mark.parametrize("name", ["trim_threshold", "mmap_threshold", "top_pad", "mmap_max"])
def test_each_tunable_fixes_both(monkeypatch, name):
    monkeypatch.setenv("GLIBC_TUNABLES", f"glibc.malloc.hugetlb=1:glibc.malloc.{name}=65536")
    assert environment_fixes_thresholds()


def test_other_tunables_fix_neither(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=2:glibc.rtld.nns")
    assert not environment_fixes_thresholds()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"MALLOC_TRIM_THRESHOLD_": "65536"}, (65536, 128 << 10)),
        ({"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4096"}, (128 << 10, 4096)),
        ({"MALLOC_TRIM_THRESHOLD_": "a lot"}, (128 << 10, 128 << 10)),
        ({"MALLOC_TRIM_THRESHOLD_": str(1 << 31)}, ((1 << 31) - 1, 128 << 10)),
        ({"MALLOC_TRIM_THRESHOLD_": "-1", "MALLOC_MMAP_THRESHOLD_": "0x1000"}, ((1 << 31) - 1, 4096)),
        ({"MALLOC_TRIM_THRESHOLD_": "1", "GLIBC_TUNABLES": "glibc.malloc.trim_threshold=2"}, (2, 128 << 10)),
    ],
)
def test_thresholds_of_the_environment(monkeypatch, given, expected):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert thresholds_of_environment() == expected


def test_nothing_is_set_where_the_c_library_cannot(monkeypatch):
    assert allocator.of_libc("no_such_function") is None
    monkeypatch.setattr(allocator, "of_libc", lambda name: None)
    set_thresholds(1 << 20, 1 << 20)


def test_both_are_set_by_the_numbers_of_malloc(monkeypatch):
    made = []
    monkeypatch.setattr(allocator, "of_libc", lambda name: lambda *given: made.append((name, *given)))
    set_thresholds(2 << 20, 1 << 20)
    assert made == [("mallopt", -1, 2 << 20), ("mallopt", -3, 1 << 20)]

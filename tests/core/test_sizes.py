import pytest
from hypothesis import given
from hypothesis import strategies as st

from jacgram.core.sizes import format_bytes, parse_bytes
from jacgram.errors import ArgumentError


@pytest.mark.parametrize(
    ("memory", "n_bytes"),
    [(7, 7), ("7", 7), ("7 b", 7), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("2tib", 2 << 40), (" 3 kB ", 3000)],
)
def test_parse(memory, n_bytes):
    assert parse_bytes(memory) == n_bytes


@pytest.mark.parametrize("memory", [0, -1, "0", "-3 MiB"])
def test_not_positive(memory):
    with pytest.raises(ArgumentError, match="memory must be positive"):
        parse_bytes(memory)


@pytest.mark.parametrize("memory", ["", "lots", "3 XB", "1e3", "3 Mi B"])
def test_unreadable(memory):
    with pytest.raises(ArgumentError, match="memory cannot be read from"):
        parse_bytes(memory)


@pytest.mark.parametrize("memory", [True, 2.5, None, [1]])
def test_of_another_type(memory):
    with pytest.raises(ArgumentError, match="memory must be an int or a str"):
        parse_bytes(memory)


@given(st.integers(1, 1 << 50))
def test_format_reads_back_to_three_digits(n_bytes):
    assert parse_bytes(format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=0.006, abs=1)

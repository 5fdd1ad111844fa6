"""Figures of a device: what makes no sense is refused by name."""

from dataclasses import asdict, replace

import pytest

from jacgram import Auto, Device, Materialize, MatrixFree, Structured
from jacgram.errors import ArgumentError

MIB = 1 << 20
TABLE = ((1.0, 1e9), (1024.0, 1e11))
GOOD = Device("mine", TABLE, TABLE, 1e-6)


def test_written_and_read_figures_are_the_same():
    for figures in (GOOD, replace(GOOD, views=False, compiled=True, abreast=4)):
        assert Device.from_json(figures.to_json()) == figures


def test_working_memory_beyond_what_is_reused_is_cleared_first():
    pieces = replace(GOOD, reused_bytes=32 * MIB)
    assert pieces.fresh_s(32 * MIB) == 0
    assert pieces.fresh_s(33 * MIB) == pytest.approx(MIB / 1e11)


def test_one_piece_is_cleared_as_a_whole():
    program = replace(GOOD, reused_bytes=32 * MIB, compiled=True)
    assert program.fresh_s(32 * MIB) == 0
    assert program.fresh_s(33 * MIB) == pytest.approx(33 * MIB / 1e11)


def test_beside_what_is_held_less_is_reused():
    program = replace(GOOD, reused_bytes=32 * MIB, compiled=True)
    assert program.beside(0) == program
    assert program.beside(20 * MIB).fresh_s(12 * MIB) == 0
    assert program.beside(20 * MIB).fresh_s(13 * MIB) == program.fresh_s(33 * MIB) - 20 * MIB / 1e11
    full = program.beside(64 * MIB)
    assert full.fresh_s(4 * MIB) == 0, "what is small takes turns"
    assert full.fresh_s(5 * MIB) == pytest.approx(MIB / 1e11)
    assert GOOD.beside(64 * MIB) == GOOD, "where memory comes in pieces, it is freed in pieces"


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("products", (), "a tuple of pairs"),
        ("products", [(1, 1e9)], "a tuple of pairs"),
        ("products", ((1, 0.0),), "a tuple of pairs"),
        ("copies", ((0, 1e9),), "a tuple of pairs"),
        ("copies", ((2, 1e9), (1, 1e9)), "by growing size"),
        ("copies", ((2, 1e9, 3),), "a tuple of pairs"),
        ("sums", ((1, float("nan")),), "a tuple of pairs"),
        ("call_s", -1.0, "of at least 0"),
        ("call_s", "fast", "of at least 0"),
        ("overhead", 0, "above 0"),
        ("turns_per_s", float("nan"), "above 0"),
        ("shares", True, "above 0"),
    ],
)
def test_figures_that_make_no_sense(field, value, expected):
    figures = asdict(GOOD) | {"products": TABLE, "copies": TABLE, field: value}
    with pytest.raises(ArgumentError, match=rf"Device\({field}=\.\.\.\) must be .*{expected}"):
        Device(**figures)


@pytest.mark.parametrize("method", [Auto, Structured, MatrixFree, Materialize])
def test_methods_take_figures_and_nothing_else(method):
    assert method(device=GOOD).device is GOOD
    with pytest.raises(ArgumentError, match=rf"{method.__name__}\(device=\.\.\.\) must be a jacgram\.Device or None"):
        method(device=5)

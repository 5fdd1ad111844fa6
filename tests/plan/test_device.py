"""Figures of a device: what makes no sense is refused by name."""

from dataclasses import asdict, replace

import pytest

from jacgram import Auto, Device, Materialize, MatrixFree, Structured
from jacgram.errors import ArgumentError

MIB = 1 << 20
TABLE = ((1.0, 1e9), (1024.0, 1e11))
GOOD = Device("mine", TABLE, TABLE, 1e-6)
PROGRAM = replace(GOOD, reused_bytes=32.0 * MIB, compiled=True)


def test_written_and_read_figures_are_the_same():
    for figures in (GOOD, replace(GOOD, views=False, compiled=True, abreast=4)):
        assert Device.from_json(figures.to_json()) == figures


def test_working_memory_beyond_what_is_reused_is_cleared_first():
    pieces = replace(GOOD, reused_bytes=32 * MIB)
    assert pieces.fresh_s(32 * MIB) == 0
    assert pieces.fresh_s(33 * MIB) == pytest.approx(MIB / 1e11)


def test_one_piece_is_cleared_as_a_whole():
    """From 20 of 32 MiB on, for its size is foretold to about a third."""
    assert PROGRAM.fresh_s(20 * MIB) == PROGRAM.fresh_s(12 * MIB, 8 * MIB) == 0
    assert PROGRAM.fresh_s(21 * MIB) == PROGRAM.fresh_s(12 * MIB, 9 * MIB) == pytest.approx(21 * MIB / 1e11)
    assert [PROGRAM.comes_fresh(n * MIB) for n in (20, 21)] == [False, True]
    assert not GOOD.comes_fresh(1 << 40), "pieces are freed one by one"


def test_beside_what_is_held_less_is_reused():
    assert PROGRAM.with_held(0) == PROGRAM
    some = PROGRAM.with_held(24 * MIB)
    assert (some.fresh_s(5 * MIB), some.fresh_s(6 * MIB)) == (0, pytest.approx(6 * MIB / 1e11))
    assert PROGRAM.with_held(24 * MIB + 1) == PROGRAM.with_held(28 * MIB) != some, "few sizes"
    full = PROGRAM.with_held(64 * MIB)
    assert full.fresh_s(4 * MIB) == 0, "a small one lies where others have been"
    assert full.fresh_s(5 * MIB) == pytest.approx(MIB / 1e11)


@pytest.mark.parametrize("device", [GOOD, replace(GOOD, compiled=True, reused_bytes=float("inf"))])
def test_what_is_held_elsewhere_or_of_endless_memory_leaves_as_much(device):
    assert device.with_held(64 * MIB) == device
    assert device.with_held(64 * MIB).fresh_s(MIB) == 0


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
        ("views", "no", "True or False"),
        ("compiled", 1, "True or False"),
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

"""Figures of a device: what makes no sense is refused by name."""

from dataclasses import asdict

import pytest

from jacgram import Auto, Device, Materialize, MatrixFree, Structured
from jacgram.errors import ArgumentError

TABLE = ((1.0, 1e9), (1024.0, 1e11))
GOOD = Device("mine", TABLE, TABLE, 1e-6)


def test_written_and_read_figures_are_the_same():
    assert Device.from_json(GOOD.to_json()) == GOOD


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

import pytest

from jacgram.core.dtypes import accumulation, check_accumulate, itemsize, promote, real_dtype
from jacgram.errors import ArgumentError


@pytest.mark.parametrize(
    ("dtype", "accumulate", "expected"),
    [
        ("float32", None, "float32"),
        ("float16", None, "float32"),
        ("bfloat16", None, "float32"),
        ("bfloat16", "float64", "float64"),
        ("complex64", None, "complex64"),
        ("complex64", "float64", "complex128"),
        ("complex128", "float32", "complex64"),
    ],
)
def test_accumulation(dtype, accumulate, expected):
    assert accumulation(dtype, accumulate) == expected


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("bfloat16", "float16"), "float32"),
        (("bfloat16", "float32"), "float32"),
        (("float32", "float64"), "float64"),
        (("float32", "complex64"), "complex64"),
        (("float64", "complex64"), "complex128"),
        (("bfloat16", "complex64"), "complex64"),
    ],
)
def test_promote(dtypes, expected):
    assert promote(*dtypes) == expected
    assert promote(*reversed(dtypes)) == expected


def test_accumulate_by_name_or_by_dtype():
    import numpy as np

    assert check_accumulate(None) is None
    assert check_accumulate("float64") == "float64"
    assert check_accumulate(np.float32) == "float32"
    with pytest.raises(ArgumentError, match="accumulate must be None, 'float32' or 'float64', got 'float16'"):
        check_accumulate("float16")


def test_sizes():
    assert itemsize("complex64") == 8
    assert real_dtype("complex64") == "float32"
    assert real_dtype("bfloat16") == "bfloat16"

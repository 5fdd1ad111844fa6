"""Dtypes by name: which are inexact or complex, and in which one products are accumulated."""

from __future__ import annotations

from jacgram.errors import ArgumentError

_HALF = ("bfloat16", "float16")
_COMPLEX = {"float32": "complex64", "float64": "complex128"}
_REAL = {"complex64": "float32", "complex128": "float64"}
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8, "complex64": 8, "complex128": 16}


def is_complex(dtype: str) -> bool:
    """Whether a dtype is complex."""
    return dtype in _REAL


def real_dtype(dtype: str) -> str:
    """The dtype of the real part."""
    return _REAL.get(dtype, dtype)


def accumulation(dtype: str, accumulate: str | None = None) -> str:
    """The dtype in which arrays of ``dtype`` are multiplied and summed.

    That is ``dtype`` itself, float32 for half precisions, or the real precision ``accumulate`` where one is given.

    Example:
        >>> accumulation("bfloat16"), accumulation("complex64", "float64")
        ('float32', 'complex128')
    """
    real = _REAL.get(dtype, dtype)
    chosen = accumulate or ("float32" if real in _HALF else real)
    return _COMPLEX[chosen] if is_complex(dtype) else chosen


def check_accumulate(accumulate: str | None) -> str | None:
    """``accumulate`` as a name, or an error that lists the choices."""
    name = None if accumulate is None else str(getattr(accumulate, "__name__", accumulate)).removeprefix("torch.")
    if name is not None and name not in _COMPLEX:
        raise ArgumentError(f"accumulate must be None, 'float32' or 'float64', got {accumulate!r}.")
    return name


def itemsize(dtype: str) -> int:
    """Bytes of one entry."""
    return _BYTES[dtype]


def promote(*dtypes: str) -> str:
    """The smallest inexact dtype that holds values of all of them."""
    wide = any(_REAL.get(dtype, dtype) == "float64" for dtype in dtypes)
    halves = {dtype for dtype in dtypes if dtype in _HALF}
    real = "float64" if wide else halves.pop() if len(halves) == 1 and set(dtypes) <= set(_HALF) else "float32"
    if any(is_complex(dtype) for dtype in dtypes):
        return _COMPLEX[accumulation(real)]
    return real

"""What the command line's arguments stand for: a function with parameters, and arrays on disk."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from jacgram.core.optional import installed, require
from jacgram.errors import ArgumentError


def load_factory(target: str) -> tuple[Any, Any]:
    """``(f, params)`` as the function that ``module:factory`` or ``file.py:factory`` names returns them.

    Raises:
        ArgumentError: there is no such module or function, or it returns something else.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise ArgumentError(f"{target!r} is no MODULE:FACTORY. Fix: for example mymodel:make, or mymodel.py:make.")
    module = _module(place)
    factory = getattr(module, name, None)
    if not callable(factory):
        raise ArgumentError(f"{place} has no function {name!r}.")
    made: Any = factory()
    if not isinstance(made, tuple) or len(made) != 2:
        raise ArgumentError(f"{target} returned {type(made).__name__}, expected (f, params).")
    f, params = made
    return f, params


def _module(place: str) -> ModuleType:
    """A module by its name, the current folder included, or by its file."""
    try:
        if not place.endswith(".py"):
            sys.path.insert(0, "")
            module = importlib.import_module(place)
        else:
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
    except (ImportError, FileNotFoundError) as error:
        raise ArgumentError(f"cannot import {place!r}: {error}.") from error
    if installed("cloudpickle"):
        import cloudpickle

        # Workers need not have the module: what it defines is sent to them.
        cloudpickle.register_pickle_by_value(module)
    return module


def load_array(path: Path | None, option: str) -> Any:
    """An array on disk, not read yet: a ``.npy`` file as a memory map, or a Zarr array.

    Raises:
        ArgumentError: it is neither.
    """
    if path is None:
        return None
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".zarr" or path.is_dir():
            require("store", "zarr")
            import zarr

            return zarr.open_array(str(path), mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise ArgumentError(f"{option} {path} cannot be read: {error}") from error
    raise ArgumentError(f"{option} {path} is neither a .npy file nor a Zarr array.")

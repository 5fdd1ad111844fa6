"""Where a side's examples come from: held in memory, or read a block at a time from whatever can be sliced."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from jacgram.arrays import adapter
from jacgram.core.frontend import Side
from jacgram.errors import StructureError
from jacgram.frontends.select import load

_CHECKED = 64  # examples of which a kernel that is read in blocks is checked at first use
_READ_BYTES = 16 << 20  # read at a time for a digest
_CONSTANTS = (type(None), bool, str)


class Examples(Protocol):
    """One side of a kernel, block by block. It can be pickled."""

    @property
    def n(self) -> int:
        """Number of examples."""
        ...

    def sample(self) -> Side:
        """A side of some of the examples, at which f is checked and described."""
        ...

    def side(self, start: int, size: int, filled: int = 0) -> Side:
        """The side of a block of examples, behind ``filled`` others, whichever can be had, at most ``start``.

        Nothing is read but the block itself.
        """
        ...

    def data_digest(self) -> str:
        """Digest of the examples' content."""
        ...


@dataclass(frozen=True, slots=True)
class HeldExamples:
    """Examples of a side that exists already."""

    whole: Side

    @property
    def n(self) -> int:
        return self.whole.n

    def sample(self) -> Side:
        return self.whole

    def side(self, start: int, size: int, filled: int = 0) -> Side:
        return self.whole.examples(start - filled, size + filled)

    def data_digest(self) -> str:
        xp = adapter(self.whole.framework)
        return _digest([(_native_rows(xp, array), array) for array in example_arrays(self.whole)])


@dataclass(frozen=True, slots=True)
class ReadExamples:
    """Examples in anything that can be sliced: memory maps, Zarr or HDF5 arrays, arrays; one, or a tree of them.

    Attributes:
        framework: the framework of f.
        f, params: see `jacgram.Jacobian`.
        x: the examples.
        argument: their name in messages.
    """

    framework: str
    f: Any
    params: Any
    x: Any
    argument: str

    def __post_init__(self) -> None:
        counts = {tuple(leaf.shape)[:1] for leaf in _leaves(self.x, self.argument)}
        if len(counts) != 1 or counts == {()}:
            raise StructureError(
                f"{self.argument} must hold examples on axis 0 of every leaf, as many in each; "
                f"got shapes {[tuple(leaf.shape) for leaf in _leaves(self.x, self.argument)]}."
            )

    @property
    def n(self) -> int:
        return int(next(_leaves(self.x, self.argument)).shape[0])

    def sample(self) -> Side:
        return self.side(0, min(self.n, _CHECKED))

    def side(self, start: int, size: int, filled: int = 0) -> Side:
        # Repeated, not read: an example that cannot be read costs the tiles that it is in, and no others.
        repeated = np.maximum(np.arange(-filled, size), 0)

        def read(leaf: Any) -> Any:
            block = _read(leaf, start, size)
            return block[repeated] if filled else block

        block = _mapped(self.x, read, self.argument)
        return load(self.framework).side(self.f, block, self.params, argument=self.argument)

    def data_digest(self) -> str:
        xp = adapter(self.framework)
        leaves = list(_leaves(self.x, self.argument))
        native = [type(leaf).__module__.partition(".")[0] in ("jax", "jaxlib", "torch") for leaf in leaves]
        read = [
            _native_rows(xp, leaf) if own else _foreign_rows(leaf) for leaf, own in zip(leaves, native, strict=True)
        ]
        return _digest(list(zip(read, leaves, strict=True)))

    def __reduce__(self) -> Any:
        # A memory map would be pickled with all it holds; its path is enough.
        x = _mapped(self.x, _portable, self.argument)
        return _unpickled, (self.framework, self.f, self.params, x, self.argument)


def example_arrays(side: Side) -> list[Any]:
    """The arrays of a side that hold its examples: those that a block of examples replaces."""
    if not side.n:
        return []
    block = side.examples(0, 1).arrays()
    return [mine for mine, cut in zip(side.arrays(), block, strict=True) if mine is not cut]


def parameters_digest(side: Side) -> str:
    """Digest of the content of the variable's leaves."""
    xp = adapter(side.framework)
    return _digest([(_native_rows(xp, leaf), leaf) for leaf in side.arrays()[: len(side.variable)]])


# Digests ------------------------------------------------------------------------------------------------------------

Rows = Callable[[int, int], NDArray[Any]]
"""(first, count) along axis 0 -> host array."""


def _digest(leaves: list[tuple[Rows, Any]]) -> str:
    found = hashlib.sha256()
    for rows, leaf in leaves:
        shape, dtype = tuple(leaf.shape), str(leaf.dtype).removeprefix("torch.")
        found.update(f"{dtype} {shape};".encode())
        count = shape[0] if shape else 1
        row_bytes = max(1, int(np.prod(shape[1:], dtype=np.int64)) * 8)
        step = max(1, _READ_BYTES // row_bytes)
        for start in range(0, count, step):
            found.update(np.ascontiguousarray(rows(start, min(step, count - start))).tobytes())
    return found.hexdigest()


def _native_rows(xp: Any, array: Any) -> Rows:
    def rows(start: int, count: int) -> NDArray[Any]:
        block = array[start : start + count] if len(array.shape) else array
        half = str(block.dtype).endswith("bfloat16")  # NumPy has no such type; float32 holds its values
        return np.asarray(xp.to_numpy(xp.astype(block, "float32") if half else block))

    return rows


def _foreign_rows(leaf: Any) -> Rows:
    return lambda start, count: np.asarray(leaf[start : start + count])


# Trees of what can be sliced ----------------------------------------------------------------------------------------


def _read(leaf: Any, start: int, size: int) -> Any:
    block = leaf[start : start + size]
    native = type(leaf).__module__.partition(".")[0] in ("jax", "jaxlib", "torch")
    return block if native else np.asarray(block)


def _leaves(tree: Any, argument: str) -> Iterator[Any]:
    found: list[Any] = []
    _mapped(tree, found.append, argument)
    return iter(found)


def _mapped(tree: Any, function: Callable[[Any], Any], argument: str) -> Any:
    """The tree with a function applied to each leaf, in the order in which frontends list leaves."""
    if isinstance(tree, _CONSTANTS):
        return tree
    if isinstance(tree, dict):
        entries = cast(dict[Any, Any], tree)
        built = {key: _mapped(entries[key], function, argument) for key in sorted(entries, key=str)}
        return {key: built[key] for key in entries}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return cast(Any, type(tree))(*(_mapped(item, function, argument) for item in cast(Any, tree)))
    if isinstance(tree, list | tuple):
        return cast(Any, type(tree))(_mapped(item, function, argument) for item in cast(Any, tree))
    if all(hasattr(tree, name) for name in ("shape", "dtype", "__getitem__")):
        return function(tree)
    if isinstance(tree, _MappedFile):
        return function(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        parts = {field.name: _mapped(getattr(tree, field.name), function, argument) for field in fields(tree)}
        return replace(tree, **parts)
    raise StructureError(
        f"{argument} holds a {type(tree).__name__}, expected arrays, or anything with shape and dtype that can be "
        "sliced (a numpy.memmap, a Zarr array), in dicts, lists, tuples or data classes."
    )


# Memory maps that travel by their path --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _MappedFile:
    """A memory map without its content."""

    path: str
    dtype: str
    offset: int
    shape: tuple[int, ...]


def _portable(leaf: Any) -> Any:
    if not isinstance(leaf, np.memmap) or leaf.filename is None or not leaf.flags.c_contiguous:
        return leaf
    root = leaf
    while isinstance(root.base, np.memmap):
        root = root.base
    if not isinstance(root.base, mmap.mmap):
        return leaf
    shift = leaf.__array_interface__["data"][0] - root.__array_interface__["data"][0]
    return _MappedFile(str(Path(leaf.filename).absolute()), leaf.dtype.str, root.offset + shift, leaf.shape)


def _unpickled(framework: str, f: Any, params: Any, x: Any, argument: str) -> ReadExamples:
    def opened(leaf: Any) -> Any:
        if not isinstance(leaf, _MappedFile):
            return leaf
        return np.memmap(leaf.path, np.dtype(leaf.dtype), "r", leaf.offset, leaf.shape)

    return ReadExamples(framework, f, params, _mapped(x, opened, argument), argument)

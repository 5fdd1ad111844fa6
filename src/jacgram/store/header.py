"""What a stored kernel's attributes say: how it was made, and what it would take to go on with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from jacgram.errors import StoreError
from jacgram.store.grid import TileGrid

KEY = "jacgram"
"""The attribute under which everything stands."""
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Header:
    """A stored kernel without its numbers.

    Attributes:
        kernel_id: made anew with each kernel, so that a manifest is never taken for that of another one.
        pattern: the pattern as written; None for everything.
        left, right, out: names of y's axes on both sides, and of the array's axes.
        shape: sizes of the array's axes.
        dtype: the array's dtype.
        examples: number of examples of side 1 and of side 2.
        tile: examples of each side in one tile, which is one chunk.
        mirror: the axis of a tile that each axis of its mirror image is; None where the kernel is not symmetric.
        conjugate: whether side 2 enters conjugated, so that mirror images are.
        plan: the plan of one tile, as `Plan.to_json` writes it.
        fingerprint: digests of everything that determines the numbers, by what they are digests of.
        versions: of the packages that began the kernel.
    """

    kernel_id: str
    pattern: str | None
    left: tuple[str, ...]
    right: tuple[str, ...]
    out: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    examples: tuple[int, int]
    tile: tuple[int, int]
    mirror: tuple[int, ...] | None
    conjugate: bool
    plan: str
    fingerprint: dict[str, str]
    versions: dict[str, str]

    @property
    def paired(self) -> bool:
        """Whether the array has one axis of examples for both sides."""
        return self.left[0] == self.right[0]

    @property
    def grid(self) -> TileGrid:
        """The kernel's tiles."""
        return TileGrid(self.examples, self.tile, self.mirror is not None, self.paired)

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of one chunk: a tile's examples, and the other axes whole."""
        blocks = {self.right[0]: self.tile[1], self.left[0]: self.tile[0]}
        return tuple(max(1, blocks.get(name, size)) for name, size in zip(self.out, self.shape, strict=True))

    def place(self, starts: tuple[int, int], sizes: tuple[int, int]) -> tuple[slice, ...]:
        """Where a block of examples of each side stands in the array."""
        cuts = {
            name: slice(start, start + size)
            for name, start, size in zip((self.right[0], self.left[0]), starts[::-1], sizes[::-1], strict=True)
        }
        return tuple(cuts.get(name, slice(None)) for name in self.out)

    def attributes(self) -> dict[str, Any]:
        """The array's attributes."""
        return {KEY: {"format": FORMAT} | asdict(self)}

    @staticmethod
    def of(attributes: Mapping[str, Any], where: str) -> Header:
        """The header that an array's attributes hold.

        Raises:
            StoreError: the array is not one of ours, or of another version.
        """
        found = attributes.get(KEY)
        if not isinstance(found, Mapping):
            raise StoreError(f"{where} holds a Zarr array that is no kernel of jacgram. Fix: choose another path.")
        if found.get("format") != FORMAT:
            raise StoreError(
                f"{where} holds a kernel in format {found.get('format')!r}, and this version reads format {FORMAT}. "
                "Fix: read it with the version that wrote it, or write it anew with overwrite=True."
            )
        names = {field.name for field in fields(Header)}
        if missing := names - found.keys():
            raise StoreError(f"{where} holds a kernel without {sorted(missing)}: its zarr.json was changed or damaged.")
        values = {name: _frozen(found[name]) for name in names}
        damaged = sorted(name for name, is_right in _CHECKS.items() if not is_right(values[name]))
        if damaged or len(values["shape"]) != len(values["out"]):
            raise StoreError(
                f"{where} holds a kernel whose {', '.join(damaged or ['shape', 'out'])} cannot be what was written: "
                "its zarr.json was changed or damaged. Fix: write it anew with overwrite=True, or restore the file."
            )
        return Header(**values)


def _are(kind: type, value: Any, count: int | None = None) -> bool:
    """Whether a value is a tuple of one type, of so many entries or of at least one."""
    return (
        isinstance(value, tuple)
        and all(type(item) is kind for item in cast(tuple[Any, ...], value))
        and (len(cast(tuple[Any, ...], value)) == count if count else bool(value))
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, cast(dict[Any, Any], value).values()))


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("kernel_id", "dtype", "plan"), _is_text),
    **dict.fromkeys(("left", "right", "out"), lambda value: _are(str, value)),
    **dict.fromkeys(("examples", "tile"), lambda value: _are(int, value, 2)),
    **dict.fromkeys(("fingerprint", "versions"), _are_texts),
    "pattern": lambda value: value is None or _is_text(value),
    "shape": lambda value: _are(int, value),
    "mirror": lambda value: value is None or _are(int, value),
    "conjugate": lambda value: isinstance(value, bool),
}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""The manifest: one small file per finished tile, written after its chunk is durable.

A chunk that is there says nothing: it may be left from a killed run, and NaN may be a result. A tile is done when its
manifest entry is there, names this kernel, and tells the checksum of the tile's numbers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from jacgram.errors import StoreError
from jacgram.store.grid import Tile

if TYPE_CHECKING:
    from jacgram.store.files import Files  # needs zarr, which reading the rest of this module does not

FOLDER = "manifest"


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished tile.

    Attributes:
        tile: its block of side 1 and of side 2.
        kernel_id: the kernel it belongs to.
        checksum: CRC-32 of the tile's numbers, row-major.
        seconds: time to compute it and to write it.
        write_seconds: of which to write it.
        n_bytes: bytes written, mirror image included.
        peak_bytes: highest memory use of the process that made it, so far.
        worker: that process.
    """

    tile: Tile
    kernel_id: str
    checksum: int
    seconds: float
    write_seconds: float
    n_bytes: int
    peak_bytes: int
    worker: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of one kernel.

    Attributes:
        files: the store's small files.
        kernel_id: the kernel; entries of other kernels do not count.
        where: the store, for messages.
    """

    files: Files
    kernel_id: str
    where: str

    def record(self, entry: Entry) -> None:
        """Writes an entry durably. The tile's chunks must be durable already."""
        self.files.write(_key(entry.tile), json.dumps(asdict(entry)).encode())

    def entry(self, tile: Tile) -> Entry | None:
        """The entry of a tile; None where it is not done.

        Raises:
            StoreError: the entry is damaged.
        """
        data = self.files.read(_key(tile))
        if data is None:
            return None
        try:
            fields = json.loads(data)
            entry = Entry(**fields | {"tile": tuple(fields["tile"])})
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(
                f"manifest entry {_key(tile)} of {self.where} is damaged ({error!r}). Fix: write the kernel again with "
                "verify=True, which recomputes that tile."
            ) from error
        if entry.kernel_id != self.kernel_id:
            return None
        if entry.tile != tile:
            raise StoreError(
                f"manifest entry {_key(tile)} of {self.where} is that of tile {entry.tile}. Fix: write the kernel "
                "again with verify=True, which recomputes the tile."
            )
        return entry

    def tiles(self) -> list[Tile]:
        """Tiles that have an entry, read or not."""
        return [tile for name in self.files.names(FOLDER) if (tile := _tile(name)) is not None]

    def forget(self, tile: Tile) -> None:
        """Removes an entry, so that the tile counts as not done."""
        self.files.delete(_key(tile))

    def clear(self) -> None:
        """Removes every entry, and what killed runs left of some."""
        for name in self.files.names(FOLDER):
            self.files.delete(f"{FOLDER}/{name}")


def _key(tile: Tile) -> str:
    return f"{FOLDER}/{tile[0]}.{tile[1]}.json"


def _tile(name: str) -> Tile | None:
    parts = name.split(".")
    if len(parts) != 3 or parts[2] != "json" or not (parts[0].isdigit() and parts[1].isdigit()):
        return None
    return int(parts[0]), int(parts[1])

"""The manifest: one small file per finished tile, written after its chunk.

A chunk that is there says nothing: it may be left from a killed run, and NaN may be a result. A tile is done when its
manifest entry is there, names this kernel, and says that it was recorded after the chunk was durable. On a local disk
a first entry is written before that, since waiting for the disk may take as long as computing does: after a kill, such
a tile is done if its numbers have the entry's checksum, and is otherwise computed again.
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
        durable: whether the chunks were known to be on the disk when this was written.
    """

    tile: Tile
    kernel_id: str
    checksum: int
    seconds: float
    write_seconds: float
    n_bytes: int
    peak_bytes: int
    worker: str
    durable: bool = False


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
        """Writes an entry: durably, if it says that its chunks are."""
        self.files.write(_key(entry.tile), json.dumps(asdict(entry)).encode(), durable=entry.durable)

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

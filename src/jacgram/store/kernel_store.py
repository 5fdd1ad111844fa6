"""A kernel in a Zarr store: the array at its root, its header in the attributes, its manifest beside it.

Order is what makes it safe: a tile's chunk is written, then that of its mirror image, then a manifest entry with its
checksum; and once the chunks have been flushed to the disk, an entry that says so. Whatever stops in between leaves a
tile that is recognised by its checksum, or is computed again.
"""

from __future__ import annotations

import errno
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import Crc32cCodec

from jacgram.errors import StoreError
from jacgram.store.files import Files
from jacgram.store.grid import Tile, opposite
from jacgram.store.header import Header
from jacgram.store.locate import is_shared, locate
from jacgram.store.manifest import FOLDER, Entry, Manifest

# A tile of NaN is a result, so chunks equal to the fill value are written too.
_CONFIG: Any = {"write_empty_chunks": True}
_METADATA = "zarr.json"


@dataclass(frozen=True)
class KernelStore:
    """One stored kernel, complete or not.

    Attributes:
        store: the Zarr store.
        where: its name in messages.
        header: how the kernel is made.
        array: the Zarr array.
    """

    store: Store
    where: str
    header: Header
    array: Any

    # Opening --------------------------------------------------------------------------------------------------------

    @staticmethod
    def find(store: Any, *, read_only: bool) -> KernelStore | None:
        """The kernel at a place; None where nothing is.

        Raises:
            StoreError: something else is there, or the array's metadata are damaged.
        """
        found, where = locate(store, read_only=read_only)
        with _failing(f"cannot open {where}"):
            files = Files(found)
            if files.read(_METADATA) is None:
                _require_empty(files, where)
                return None
        try:
            array = zarr.open_array(found, mode="r" if read_only else "r+", config=_CONFIG)
        except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
            raise StoreError(
                f"{where} holds no kernel that can be read: its zarr.json is damaged, or that of something else "
                f"({error!r}). Fix: choose another path."
            ) from error
        header = Header.of(dict(array.attrs), where)
        if (tuple(array.shape), str(array.dtype), tuple(array.chunks)) != (header.shape, header.dtype, header.chunk):
            raise StoreError(f"{where}: zarr.json and its jacgram attributes disagree: it was changed or damaged.")
        return KernelStore(found, where, header, array)

    @staticmethod
    def create(store: Any, header: Header) -> KernelStore:
        """A new kernel with no tile done.

        Raises:
            StoreError: the place cannot be written.
        """
        found, where = locate(store, read_only=False)
        with _failing(f"cannot write to {where}"):
            array = zarr.create_array(
                found,
                shape=header.shape,
                chunks=header.chunk,
                dtype=header.dtype,
                fill_value=np.dtype(header.dtype).type(np.nan),
                dimension_names=header.out,
                attributes=header.attributes(),
                # Numbers of a kernel hardly compress; a checksum lets every reader tell a damaged chunk.
                compressors=[Crc32cCodec()],
                filters=None,
                chunk_key_encoding={"name": "default", "separator": "."},
                config=_CONFIG,
            )
            Files(found).flush(_METADATA)
        return KernelStore(found, where, header, array)

    def clear(self) -> None:
        """Removes this kernel, and nothing else that may be in the store; the array's metadata go last."""
        with _failing(f"cannot clear {self.where}"):
            self.manifest.clear()
            for name in self._chunk_files():
                self.files.delete(name)
            self.files.delete(_METADATA)

    @property
    def files(self) -> Files:
        """Small files beside the array."""
        return Files(self.store)

    @cached_property
    def manifest(self) -> Manifest:
        """Which tiles are done."""
        return Manifest(self.files, self.header.kernel_id, self.where)

    @property
    def is_shared(self) -> bool:
        """Whether other processes can reach it."""
        return is_shared(self.store)

    # Tiles ----------------------------------------------------------------------------------------------------------

    def write(self, tile: Tile, block: NDArray[Any]) -> int:
        """Writes a tile, and its mirror image where there is one; the bytes written.

        Raises:
            StoreError: the disk is full, or cannot be written.
        """
        with _failing(f"cannot write tile {tile} to {self.where}"):
            self.array[self.place(tile)] = block
            if not self.header.grid.is_mirrored(tile):
                return block.nbytes
            self.array[self.place(opposite(tile))] = self.mirrored(block)
            return 2 * block.nbytes

    def record(self, entry: Entry) -> None:
        """Records a tile that was written. On a local disk it is `settle` that makes it durable.

        Raises:
            StoreError: the disk is full, or cannot be written.
        """
        with _failing(f"cannot record tile {entry.tile} in {self.where}"):
            self.manifest.record(replace(entry, durable=self.files.root is None))

    def settle(self, entry: Entry) -> None:
        """Waits until a tile's chunks are on the disk, and records that.

        Raises:
            StoreError: the disk is full, or cannot be written.
        """
        if self.files.root is None:
            return
        with _failing(f"cannot record tile {entry.tile} in {self.where}"):
            for tile in self._places(entry.tile):
                self.files.flush(self.chunk_name(tile))
            self.manifest.record(replace(entry, durable=True))

    def settle_all(self) -> None:
        """Settles what a run that was stopped has left, where its numbers are right, and forgets it where not."""
        if self.files.root is None:
            return
        files = set(self._chunk_files())
        for tile in self.manifest.tiles():
            entry = self.manifest.entry(tile) if tile in self.header.grid else None
            if entry is None or entry.durable:
                continue
            if self._is_right(entry, files):
                self.settle(entry)
            else:
                self.manifest.forget(tile)

    def read(self, tile: Tile) -> NDArray[Any]:
        """A tile's numbers, or those of a mirror image.

        Raises:
            StoreError: the chunk is damaged or cannot be read.
        """
        try:
            return np.asarray(self.array[self.place(tile)])
        except (ValueError, OSError) as error:
            raise self._damaged(tile, str(error)) from error

    @staticmethod
    def checksum(block: NDArray[Any]) -> int:
        """CRC-32 of the numbers of a block, row-major."""
        return zlib.crc32(np.ascontiguousarray(block).view(np.uint8).data)

    def mirrored(self, block: NDArray[Any]) -> NDArray[Any]:
        """The mirror image of a tile, a view where it can be: Zarr lays it out as it encodes. Twice, the tile again."""
        assert self.header.mirror is not None
        turned = block.transpose(self.header.mirror)
        return turned.conj() if self.header.conjugate and np.iscomplexobj(turned) else turned

    def place(self, tile: Tile) -> tuple[slice, ...]:
        """Where a tile stands in the array."""
        (start1, size1), (start2, size2) = (self.header.grid.block(side, tile[side - 1]) for side in (1, 2))
        return self.header.place((start1, start2), (size1, size2))

    def chunk_name(self, tile: Tile) -> str:
        """The file of a tile's chunk."""
        blocks = {self.header.right[0]: tile[1], self.header.left[0]: tile[0]}
        return ".".join(["c", *(str(blocks.get(name, 0)) for name in self.header.out)])

    # What is done ---------------------------------------------------------------------------------------------------

    def done(self) -> list[Tile]:
        """Tiles that are done: those with a durable entry, and those that were not settled and whose numbers are right.

        Raises:
            StoreError: an entry is damaged, or a chunk is missing; the message names it.
        """
        files = set(self._chunk_files())
        found: list[Tile] = []
        for tile in self.manifest.tiles():
            entry = self.manifest.entry(tile) if tile in self.header.grid else None
            if entry is None:
                continue
            if entry.durable:
                self._require_chunks(tile, files)
            if entry.durable or self._is_right(entry, files):
                found.append(tile)
        return sorted(found)

    def damaged(self) -> dict[Tile, str]:
        """Tiles with an entry of the manifest that are not what it says, and why. Reads everything."""
        files = set(self._chunk_files())
        found: dict[Tile, str] = {}
        for tile in sorted(self.manifest.tiles()):
            if tile in self.header.grid:
                try:
                    entry = self.manifest.entry(tile)
                    if entry is not None and entry.durable:
                        self._verify(entry, files)
                except StoreError as error:
                    found[tile] = str(error)
        return found

    def _is_right(self, entry: Entry, files: set[str]) -> bool:
        try:
            self._verify(entry, files)
        except StoreError:
            return False
        return True

    def _verify(self, entry: Entry, files: set[str]) -> None:
        tile = entry.tile
        self._require_chunks(tile, files)
        if self.checksum(self.read(tile)) != entry.checksum:
            raise self._damaged(tile, "its numbers are not those that were written")
        if (
            self.header.grid.is_mirrored(tile)
            and self.checksum(self.mirrored(self.read(opposite(tile)))) != entry.checksum
        ):
            raise self._damaged(opposite(tile), "its numbers are not the mirror image of what was written")

    def _require_chunks(self, tile: Tile, files: set[str]) -> None:
        for place in self._places(tile):
            if self.chunk_name(place) not in files:
                raise self._damaged(place, "the file is missing")

    def _places(self, tile: Tile) -> tuple[Tile, ...]:
        """The chunks of a tile."""
        return (tile, opposite(tile)) if self.header.grid.is_mirrored(tile) else (tile,)

    def _damaged(self, tile: Tile, reason: str) -> StoreError:
        return StoreError(
            f"chunk {self.chunk_name(tile)} of {self.where} (tile {tile}) is damaged: {reason}. Fix: write the kernel "
            "again with verify=True, which recomputes what is damaged."
        )

    def _chunk_files(self) -> list[str]:
        return [name for name in self.files.names() if name.startswith("c.")]


def _require_empty(files: Files, where: str) -> None:
    if files.root is not None and files.root.exists() and not files.root.is_dir():
        raise StoreError(f"{where} is a file, not a Zarr store. Fix: choose another path.")
    others = [name for name in files.names() if name != FOLDER]
    if others:
        raise StoreError(
            f"{where} is not empty and holds no kernel of jacgram (it has {', '.join(sorted(others)[:3])}…). "
            "Fix: choose another path; nothing was touched."
        )


@contextmanager
def _failing(what: str) -> Generator[None]:
    """Errors of the file system and of remote stores as ours, with what was being done."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        full = error.errno == errno.ENOSPC
        fix = "free some space" if full else "see that the place exists and can be written"
        raise StoreError(
            f"{what}: {'the disk is full' if full else error}. What was finished is kept. Fix: {fix}, and run the same "
            "call again: it resumes."
        ) from error

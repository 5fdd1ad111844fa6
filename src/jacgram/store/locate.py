"""From what the caller calls a store to a Zarr store and a name for messages."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from jacgram.core.optional import require
from jacgram.errors import StoreError, StructureError


def locate(store: Any, *, read_only: bool) -> tuple[Store, str]:
    """The Zarr store of a path, a URL or a Zarr store, and how to call it.

    Raises:
        StructureError: it is none of these.
        StoreError: it is read-only and is to be written.
    """
    if isinstance(store, Store):
        if store.read_only and not read_only:
            raise StoreError(f"{store} was opened read-only. Fix: open it for writing, or pass its path.")
        return store, str(getattr(store, "root", store))
    if isinstance(store, str) and "://" in store and not store.startswith("file://"):
        require("store", "fsspec")
        return FsspecStore.from_url(store, read_only=read_only), store
    if isinstance(store, str | os.PathLike):
        path = Path(os.fspath(store).removeprefix("file://"))
        return LocalStore(path.absolute(), read_only=read_only), str(path)
    raise StructureError(
        f"store is {type(store).__name__} {store!r}, expected a path, a URL such as 's3://bucket/kernel.zarr', or a "
        "Zarr store."
    )


def is_shared(store: Store) -> bool:
    """Whether other processes can reach a store: one in memory cannot be."""
    return not isinstance(store, MemoryStore) and "memory" not in _protocols(store)


def _protocols(store: Store) -> tuple[str, ...]:
    filesystem = store.fs if isinstance(store, FsspecStore) else None
    found: Any = getattr(getattr(filesystem, "sync_fs", filesystem), "protocol", ())
    return (found,) if isinstance(found, str) else tuple(found)

"""The one place for names that Zarr does not promise: running its asynchronous stores from ordinary code.

A remote store's connections belong to the event loop on which Zarr opened them, so our small files have to go through
Zarr's own loop.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync

T = TypeVar("T")


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine of a store, run on Zarr's loop."""
    return sync(coroutine)


def to_buffer(data: bytes) -> Any:
    """Bytes as the buffer that stores take."""
    return default_buffer_prototype().buffer.from_bytes(data)


async def get_bytes(store: Any, key: str) -> bytes | None:
    """What a store holds under a key; None for nothing."""
    found = await store.get(key, default_buffer_prototype())
    return None if found is None else found.to_bytes()


async def names(store: Any, prefix: str) -> list[str]:
    """Names directly under a prefix."""
    return [name async for name in store.list_dir(prefix)]

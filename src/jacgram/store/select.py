"""Loads what needs Zarr when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jacgram.core.optional import require

if TYPE_CHECKING:
    from jacgram.store.kernel_store import KernelStore


def kernel_store() -> type[KernelStore]:
    """The class of stored kernels.

    Raises:
        MissingDependencyError: Zarr is not installed.
    """
    require("store", "zarr")
    from jacgram.store.kernel_store import KernelStore

    return KernelStore

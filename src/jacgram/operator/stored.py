"""Stored kernels, read: as an array, with names, or as an operator that streams over the chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from jacgram.core.sizes import format_bytes
from jacgram.errors import ArgumentError, IncompleteKernelError, StoreError
from jacgram.operator.exports import data_array, scipy_blocks
from jacgram.operator.streaming import matrix_shape, product
from jacgram.plan.plan import Plan
from jacgram.store.grid import opposite
from jacgram.store.header import Header
from jacgram.store.select import kernel_store

if TYPE_CHECKING:
    from jacgram.store.kernel_store import KernelStore


def open_kernel(store: Any, *, allow_incomplete: bool = False) -> StoredKernel:
    """A stored kernel, for reading. Nothing that it holds is ever executed.

    Args:
        store: a path, a URL or a Zarr store.
        allow_incomplete: accept a kernel that is not finished; its unfinished entries are NaN, see `StoredKernel.mask`.

    Raises:
        IncompleteKernelError: tiles are missing, and ``allow_incomplete`` is false.
        StoreError: there is no kernel there, or it is damaged.

    Cost:
        Reads the manifest, none of the numbers.

    Example:
        >>> import jacgram, jax.numpy as jnp, tempfile
        >>> store = tempfile.mkdtemp() + "/kernel.zarr"
        >>> x, w = jnp.arange(8.0).reshape(4, 2), jnp.ones((2, 3))
        >>> _ = jacgram.write_ntk(store, lambda w, x: x @ w, x, params=w, pattern="n i, m i -> n m")
        >>> jacgram.open_kernel(store).to_numpy()[0]
        array([ 3.,  9., 15., 21.], dtype=float32)
    """
    stored = kernel_store().find(store, read_only=True)
    if stored is None:
        raise StoreError(f"there is no kernel at {store}. Fix: check the path, or write one with K.write(...).")
    kernel = StoredKernel(stored)
    if not kernel.complete and not allow_incomplete:
        done, total = kernel.progress
        raise IncompleteKernelError(
            f"{stored.where} is not finished: {done} of {total} tiles are done. Fix: run the call that writes it "
            "again, which goes on with it, or pass allow_incomplete=True to read what is there."
        )
    return kernel


def plan_of(stored: KernelStore) -> Plan:
    """The plan by which each tile of a stored kernel is computed.

    Raises:
        StoreError: its text was changed or damaged, or is of another version.
    """
    try:
        return Plan.from_json(stored.header.plan)
    except ArgumentError as error:
        raise StoreError(
            f"{stored.where}: the plan in zarr.json was changed or damaged. Fix: write the kernel anew with "
            "overwrite=True, also where another version wrote it, or restore the file. Its numbers can be read as they "
            "are."
        ) from error


@final
class StoredKernel:
    """A kernel in a Zarr store; made by `open_kernel`.

    Example:
        >>> import jacgram, jax.numpy as jnp, tempfile
        >>> store = tempfile.mkdtemp() + "/kernel.zarr"
        >>> x, w = jnp.arange(8.0).reshape(4, 2), jnp.ones((2, 3))
        >>> _ = jacgram.write_ntk(store, lambda w, x: x @ w, x, params=w, pattern="n i, m i -> n m")
        >>> jacgram.open_kernel(store).complete
        True
    """

    def __init__(self, stored: KernelStore) -> None:
        self._stored = stored
        self._done = stored.done()

    # What it is -----------------------------------------------------------------------------------------------------

    @property
    def array(self) -> Any:
        """The `zarr.Array`, opened for reading."""
        return self._stored.array

    @property
    def header(self) -> Header:
        """How it is made: pattern, dimensions, tiles, plan, fingerprint, versions."""
        return self._stored.header

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the array's axes."""
        return self.header.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        return np.dtype(self.header.dtype)

    @property
    def plan(self) -> Plan:
        """The plan by which each tile is computed."""
        return plan_of(self._stored)

    @property
    def progress(self) -> tuple[int, int]:
        """Tiles done, and tiles of the whole."""
        return len(self._done), len(self.header.grid)

    @property
    def complete(self) -> bool:
        """Whether every tile is done."""
        return len(self._done) == len(self.header.grid)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Which chunks hold numbers: ``(blocks of side 1, blocks of side 2)``; mirror images count."""
        found = np.zeros(self.header.grid.counts, bool)
        for tile in self._done:
            found[tile] = True
            if self.header.grid.is_mirrored(tile):
                found[opposite(tile)] = True
        return found

    def verify(self) -> dict[tuple[int, int], str]:
        """Reads everything, and compares it with the manifest's checksums: damaged tiles, and what is wrong with them.

        ``K.write(..., verify=True)`` recomputes them.
        """
        return self._stored.damaged()

    # Numbers --------------------------------------------------------------------------------------------------------

    def to_numpy(self) -> NDArray[Any]:
        """All of it in memory; entries of unfinished tiles are NaN."""
        found = np.full(self.shape, np.nan, self.dtype)
        for tile in self._chunks():
            found[self._stored.place(tile)] = self._stored.read(tile)
        return found

    def tile(self, tile: tuple[int, int]) -> NDArray[Any]:
        """The numbers of one chunk, by its block of side 1 and of side 2."""
        return self._stored.read(tile)

    def to_xarray(self) -> Any:
        """An `xarray.DataArray` with dimensions, coordinates and attributes; lazy, by chunks, where Dask is installed.

        Raises:
            MissingDependencyError: xarray is not installed.
        """
        header = self.header
        attributes = {"pattern": header.pattern or "everything", **header.versions}
        return data_array(self.array, header.out, attributes)

    def operator(self) -> Any:
        """The kernel as a matrix, a `scipy.sparse.linalg.LinearOperator` that reads one chunk at a time.

        Rows are (example, outputs) of side 1, columns those of side 2, as far as the pattern keeps them; an output axis
        that the pattern keeps once for both sides makes the matrix block-diagonal in it. ``eigsh``, ``cg`` and the like
        run on kernels that do not fit in memory; of a symmetric kernel one triangle is read.

        Raises:
            IncompleteKernelError: tiles are missing.
            MissingDependencyError: SciPy is not installed.
        """
        if not self.complete:
            raise IncompleteKernelError(f"{self._stored.where} is not finished, so it is no matrix. Fix: finish it.")
        apply = lambda vectors, adjoint: product(self._stored, vectors, adjoint=adjoint)  # noqa: E731
        return scipy_blocks(matrix_shape(self.header), self.header.dtype, apply)

    def _chunks(self) -> list[tuple[int, int]]:
        mirrored = [opposite(tile) for tile in self._done if self.header.grid.is_mirrored(tile)]
        return sorted([*self._done, *mirrored])

    def __repr__(self) -> str:
        done, total = self.progress
        dimensions = ", ".join(f"{name}: {size}" for name, size in zip(self.header.out, self.shape, strict=True))
        size = format_bytes(int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize)
        return f"StoredKernel({self._stored.where}, {dimensions}; {self.dtype}, {size}, {done} of {total} tiles)"

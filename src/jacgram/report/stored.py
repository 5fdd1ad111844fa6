"""What a store holds, how complete it is and how it was made, as text and as plain values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from jacgram.core.sizes import format_bytes

if TYPE_CHECKING:
    from jacgram.operator.stored import StoredKernel
    from jacgram.operator.tiling import Tiling
    from jacgram.store.header import Header


def facts(kernel: StoredKernel) -> dict[str, Any]:
    """Everything worth knowing of a stored kernel, as values that JSON can hold."""
    header, (done, total) = kernel.header, kernel.progress
    return {
        "dimensions": dict(zip(header.out, header.shape, strict=True)),
        "dtype": header.dtype,
        "bytes": _n_bytes(header),
        "pattern": header.pattern,
        "examples": list(header.examples),
        "tile": list(header.tile),
        "symmetric": header.mirror is not None,
        "tiles": total,
        "done": done,
        "complete": kernel.complete,
        "method": kernel.plan.method,
        "precision": header.fingerprint.get("precision", ""),
        "versions": header.versions,
        "fingerprint": header.fingerprint,
    }


def describe_kernel(kernel: StoredKernel) -> str:
    """A stored kernel as text: what it holds, how complete it is, how it was made."""
    header, (done, total) = kernel.header, kernel.progress
    share = f"{100 * done / total:.1f}%" if total else "nothing to do"
    versions = ", ".join(f"{name} {version}" for name, version in sorted(header.versions.items()))
    made = ", ".join(f"{name} {digest[:12]}" for name, digest in header.fingerprint.items() if len(digest) == 64)
    rows = [
        ("kernel", " × ".join(f"{name}: {size}" for name, size in zip(header.out, header.shape, strict=True))),
        ("numbers", f"{header.dtype}, {format_bytes(_n_bytes(header))}"),
        ("pattern", header.pattern or "everything"),
        ("complete", f"{'yes' if kernel.complete else 'no'}, {done} of {total} tiles ({share})"),
        ("tiles", _tiles(header)),
        ("precision", header.fingerprint.get("precision", "")),
        ("made with", versions),
        ("fingerprint", made),
    ]
    return "\n".join(f"{name:<12} {text}" for name, text in rows) + f"\n\nplan of one tile\n{kernel.plan}"


def describe_tiling(tiling: Tiling, shape: tuple[int, ...], n_bytes: int) -> str:
    """What writing a kernel would do, as text."""
    grid = tiling.grid
    half = ", the others mirrored" if grid.symmetric else ""
    seconds = tiling.plan.seconds * len(grid)
    sizes = " × ".join(map(str, shape))
    return (
        f"kernel       {sizes}, {format_bytes(n_bytes)} on disk\n"
        f"tiles        {grid.counts[0]} × {grid.counts[1]} of {grid.tile[0]} × {grid.tile[1]} examples, "
        f"{len(grid)} computed{half}\n"
        f"predicted    {seconds:.3g} s in one process, {format_bytes(tiling.needed_bytes)} of memory\n\n"
        f"plan of one tile\n{tiling.plan}"
    )


def _n_bytes(header: Header) -> int:
    sizes = {"float32": 4, "float64": 8, "complex64": 8, "complex128": 16}
    return math.prod(header.shape) * sizes[header.dtype]


def _tiles(header: Header) -> str:
    rows, columns = header.grid.counts
    half = ", one triangle computed and mirrored" if header.mirror is not None else ""
    return f"{rows} × {columns} of {header.tile[0]} × {header.tile[1]} examples{half}"

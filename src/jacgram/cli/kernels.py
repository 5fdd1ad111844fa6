"""Commands on stored kernels: ntk, plan, info, spectrum.

Exit codes: 0 done; 1 an error, told in one line; 2 wrong usage; 3 a kernel that is not finished; 130 interrupted.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from jacgram import write_ntk
from jacgram.api import tile_plan
from jacgram.cli.interrupts import Interrupts
from jacgram.cli.loading import load_array, load_factory
from jacgram.core.optional import require
from jacgram.core.sizes import parse_bytes
from jacgram.errors import IncompleteKernelError
from jacgram.execute import Dask, JsonLog, Listener, ProgressBar, Serial
from jacgram.execute.work import Executor
from jacgram.operator import open_kernel
from jacgram.report.spectrum import draw_spectrum_png, spectrum
from jacgram.report.stored import describe_kernel, describe_tiling, facts
from jacgram.report.summary import Summary

INCOMPLETE = 3
INTERRUPTED = 130

Factory = Annotated[str, typer.Argument(metavar="MODULE:FACTORY", help="A function that returns (f, params).")]
X1 = Annotated[Path, typer.Option("--x1", help="Examples of side 1: a .npy file or a Zarr array.")]
X2 = Annotated[Path | None, typer.Option("--x2", help="Examples of side 2; without it, those of side 1.")]
Pattern = Annotated[str | None, typer.Option("--pattern", help='What of the kernel, as in "n i, m i -> n m".')]
Memory = Annotated[str | None, typer.Option("--memory", help='What each process may allocate, as in "2GiB".')]
TileSize = Annotated[int | None, typer.Option("--tile", help="Examples per side in one tile.")]
Store = Annotated[str, typer.Argument(metavar="KERNEL", help="A path or URL of a stored kernel.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command(name="ntk")(ntk)
    app.command(name="plan")(plan)
    app.command(name="info")(info)
    app.command(name="spectrum")(show_spectrum)


def ntk(
    factory: Factory,
    x1: X1,
    out: Annotated[str, typer.Option("--out", help="Where the kernel goes: a path or URL.")],
    x2: X2 = None,
    pattern: Pattern = None,
    memory: Memory = None,
    tile: TileSize = None,
    dask: Annotated[str | None, typer.Option("--dask", help="Address of a Dask scheduler, as tcp://host:8786.")] = None,
    resources: Annotated[str | None, typer.Option(help='What a tile needs of a Dask worker, as in "GPU=1".')] = None,
    log: Annotated[Path | None, typer.Option(help="A file to which events are appended as lines of JSON.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a kernel that is there.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Recompute tiles that are damaged.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar, no summary.")] = False,
) -> None:
    """Write the neural tangent kernel of f to a Zarr array; run again to go on with an unfinished one."""
    f, params = load_factory(factory)
    summary = Summary()
    listeners: list[Listener] = [summary]
    listeners += [] if quiet else [ProgressBar()]
    listeners += [] if log is None else [JsonLog(log)]
    try:
        with _executor(dask, resources) as executor, Interrupts() as interrupts:
            write_ntk(
                out,
                f,
                load_array(x1, "--x1"),
                load_array(x2, "--x2"),
                params=params,
                pattern=pattern,
                tile=tile,
                memory=memory,
                executor=executor,
                overwrite=overwrite,
                verify=verify,
                progress=[*listeners, interrupts],
            )
    except KeyboardInterrupt:
        typer.echo(f"\njacgram: interrupted. {out} can be gone on with: run the same command again.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except IncompleteKernelError as error:
        typer.echo(f"jacgram: {error}", err=True)
        raise typer.Exit(INCOMPLETE) from None
    if not quiet:
        typer.echo(str(summary))


def plan(
    factory: Factory, x1: X1, x2: X2 = None, pattern: Pattern = None, memory: Memory = None, tile: TileSize = None
) -> None:
    """Print how a kernel would be written, and what that would cost. Nothing is computed."""
    f, params = load_factory(factory)
    tiling, shape, n_bytes = tile_plan(
        f, load_array(x1, "--x1"), load_array(x2, "--x2"), params=params, pattern=pattern, tile=tile, memory=memory
    )
    typer.echo(describe_tiling(tiling, shape, n_bytes))


def info(
    kernel: Store,
    verify: Annotated[bool, typer.Option("--verify", help="Read all numbers, and compare their checksums.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say what a stored kernel holds, how complete it is and how it was made."""
    stored = open_kernel(kernel, allow_incomplete=True)
    typer.echo(json.dumps(facts(stored), indent=1) if as_json else describe_kernel(stored))
    damaged = stored.verify() if verify else {}
    for message in damaged.values():
        typer.echo(f"jacgram: {message}", err=True)
    if damaged:
        raise typer.Exit(1)
    if not stored.complete:
        raise typer.Exit(INCOMPLETE)


def show_spectrum(
    kernel: Store,
    png: Annotated[Path, typer.Option("--png", help="Where the picture goes.")],
    top: Annotated[int | None, typer.Option("--top", help="How many eigenvalues; all where the matrix fits.")] = None,
    memory: Annotated[str, typer.Option("--memory", help="What may be allocated.")] = "1GiB",
) -> None:
    """Print the largest eigenvalues of a stored kernel, and draw its spectrum."""
    require("plot", "matplotlib", "scipy")
    values = spectrum(open_kernel(kernel), top, parse_bytes(memory))
    draw_spectrum_png(values, f"Eigenvalues of {Path(kernel).name}", png)
    for value in values[:10]:
        typer.echo(f"{value:.6g}")
    typer.echo(f"{len(values)} eigenvalues drawn to {png}", err=True)


def _executor(address: str | None, resources: str | None) -> AbstractContextManager[Executor]:
    if address is None:
        return nullcontext(Serial())
    return _Connected(address, _parsed(resources))


def _parsed(resources: str | None) -> dict[str, float] | None:
    if resources is None:
        return None
    try:
        return {name: float(amount) for name, amount in (part.split("=") for part in resources.split(","))}
    except ValueError:
        raise typer.BadParameter(f"{resources!r} is not like GPU=1 or GPU=1,MEM=2.") from None


class _Connected(AbstractContextManager[Executor]):
    """An executor on a cluster, connected for the length of a command."""

    def __init__(self, address: str, resources: dict[str, float] | None) -> None:
        self._address, self._resources = address, resources
        self._client: Any = None

    def __enter__(self) -> Executor:
        require("dask", "dask", "distributed")
        from distributed import Client

        try:
            self._client = Client(self._address, timeout="20s")
        except OSError as error:
            raise typer.BadParameter(f"no Dask scheduler answers at {self._address}: {error}") from None
        return Dask(self._client, self._resources)

    def __exit__(self, *_: object) -> None:
        self._client.close()

"""The commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import jacgram
from jacgram.cli import kernels
from jacgram.core.optional import require

app = typer.Typer(
    help="J(x1) @ J(x2).T, exactly and without holding a Jacobian.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
kernels.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jacgram {jacgram.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """J(x1) @ J(x2).T, exactly and without holding a Jacobian."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the picture and the kernel.")] = Path("jacgram-demo"),
    seed: Annotated[int, typer.Option(help="Seed of everything random: same seed, same figures.")] = 0,
    memory: Annotated[str, typer.Option(help="What each kernel may allocate.")] = "512MiB",
) -> None:
    """A product with known figures by every method, then the kernel of a network trained on real images."""
    require("demo", "jax", "optax", "psutil", "sklearn", "matplotlib", "zarr")
    from rich.console import Console

    from jacgram.demo.show import Scale, show_digits, show_seed

    console = Console()
    results = show_seed(console)
    show_digits(console, output, seed, memory, Scale())
    if not all(result.right for result in results):
        raise typer.Exit(code=1)

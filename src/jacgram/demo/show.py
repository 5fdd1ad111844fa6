"""The demonstration as a person sees it: progress while it works, tables of figures, one picture, one stored kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

import jacgram
from jacgram.core.optional import installed
from jacgram.core.sizes import format_bytes
from jacgram.demo import digits, seed
from jacgram.demo.picture import draw
from jacgram.demo.regression import kernel_scores, spectrum
from jacgram.errors import StoreError

TRACED = "n i, m i -> n m"
RANDOM, TRAINED = "random weights", "trained"
_TILE = 250  # images per side in one tile of the stored kernel


@dataclass(frozen=True, slots=True)
class Scale:
    """How much the digits part computes."""

    train: int = 1000
    held_out: int = 500
    epochs: int = 15


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of the digits part; the same for the same seed.

    Attributes:
        accuracies: held-out accuracy of each predictor.
        kernels: kernel of the training images at each checkpoint.
        spectra: its eigenvalues, largest first.
    """

    accuracies: dict[str, float]
    kernels: dict[str, NDArray[Any]]
    spectra: dict[str, NDArray[Any]]


def show_seed(console: Console) -> list[seed.Result]:
    """The 5 by 5 product by every method in every framework that is installed, each in a process of its own."""
    console.rule("J(x1) @ J(x2).T of f(x) = sqrt(F x / N), from 10000 inputs to 5 outputs")
    frameworks = [name for name in ("jax", "torch") if installed(name)]
    jobs = [(framework, method) for framework in frameworks for method in seed.METHODS[framework]]
    results: list[seed.Result] = []
    with _progress(console) as progress:
        task = progress.add_task("measuring", total=len(jobs))
        for framework, method in jobs:
            progress.update(task, description=f"{framework}: {method}")
            results.append(seed.run_apart(framework, method))
            progress.advance(task)
    console.print(_seed_table(results))
    console.print(
        "dense: both Jacobians are formed. known answer: jvp after vjp, vmapped over the identity (both compiled, in "
        "JAX). The others are jacgram's. peak: growth of a fresh process's memory during the first call, compilation "
        f"included (both Jacobians are {format_bytes(2 * 4 * seed.M * seed.N)}). error: largest difference from the "
        "printed figures, relative to the largest of them.\n",
        style="dim",
    )
    return results


def show_digits(console: Console, folder: Path, number: int, memory: str, scale: Scale) -> Outcome:
    """Train on digits, compute kernels before and after, predict with them, draw and store them.

    Args:
        console: where to print.
        folder: where the picture and the kernel go; made if it is not there.
        number: seed of everything random.
        memory: budget of each kernel.
        scale: how much to compute.
    """
    console.rule("The tangent kernel of a network trained on handwritten digits")
    data = digits.load(number, train=scale.train, held_out=scale.held_out)
    start = digits.initialise(number)
    trained = _train(console, start, data, number, scale.epochs)
    folder.mkdir(parents=True, exist_ok=True)
    outcome = _kernels(console, {RANDOM: start, TRAINED: trained}, data, memory, folder / "kernel.zarr")
    logits = digits.network(trained, jnp.asarray(data.held_out_images))
    accuracies = {"the trained network": digits.accuracy(logits, data.held_out_labels), **outcome.accuracies}
    outcome = Outcome(accuracies, outcome.kernels, outcome.spectra)
    console.print(_digits_table(outcome, len(data.held_out_labels)))
    _store(console, folder, outcome, data)
    return outcome


def _train(console: Console, params: Any, data: digits.Digits, number: int, epochs: int) -> Any:
    with _progress(console) as progress:
        task = progress.add_task("training", total=epochs)

        def advance(loss: float) -> None:
            progress.update(task, advance=1, description=f"training, loss {loss:.4f}")

        return digits.train(params, data, number, epochs, advance)


def _kernels(console: Console, checkpoints: dict[str, Any], data: digits.Digits, memory: str, store: Path) -> Outcome:
    """Kernels, spectra and kernel regression of each checkpoint; the trained one's kernel goes by way of the disk."""
    accuracies: dict[str, float] = {}
    kernels: dict[str, NDArray[Any]] = {}
    images, held_out = jnp.asarray(data.images), jnp.asarray(data.held_out_images)
    plan = jacgram.plan(digits.network, images, params=checkpoints[RANDOM], pattern=TRACED, memory=memory)
    console.print(
        f'Kernel "{TRACED}" of {len(images)} images with {memory}: {plan.method}, tiles of '
        f"{plan.tile[0]} by {plan.tile[1]} images, predicted peak {format_bytes(plan.peak_bytes)}."
    )
    with _progress(console) as progress:
        task = progress.add_task("kernels", total=2 * len(checkpoints))
        for name, params in checkpoints.items():
            progress.update(task, description=f"kernel, {name}")
            begin = time.perf_counter()
            if name == TRAINED:
                kernel = _stored(progress.console, store, images, params, memory)
            else:
                kernel = np.asarray(_ntk(images, None, params, memory))
            took_s = time.perf_counter() - begin
            progress.update(task, advance=1, description=f"held-out kernel, {name}")
            cross = np.asarray(_ntk(held_out, images, params, memory))
            progress.advance(task)
            progress.console.print(f"{len(images)} by {len(images)} kernel, {name}: {took_s:.1f} s", style="dim")
            scores = kernel_scores(kernel, cross, data.labels)
            accuracies[f"kernel regression, {name}"] = digits.accuracy(scores, data.held_out_labels)
            kernels[name] = kernel
    return Outcome(accuracies, kernels, {name: spectrum(kernel) for name, kernel in kernels.items()})


def _stored(console: Console, store: Path, images: Any, params: Any, memory: str) -> NDArray[Any]:
    """The kernel, written tile by tile; a second run goes on with what the first has left, or finds it complete."""
    summary = jacgram.Summary()

    def write(*, overwrite: bool) -> Any:
        return jacgram.write_ntk(
            store,
            digits.network,
            images,
            params=params,
            pattern=TRACED,
            memory=memory,
            tile=_TILE,
            progress=summary,
            overwrite=overwrite,
        )

    try:
        array = write(overwrite=False)
    except StoreError:  # that of another seed or scale is there
        array = write(overwrite=True)
    console.print(str(summary), style="dim", highlight=False)
    return array[...]


def _ntk(x1: Any, x2: Any, params: Any, memory: str) -> Any:
    return jacgram.ntk(digits.network, x1, x2, params=params, pattern=TRACED, memory=memory)


def _store(console: Console, folder: Path, outcome: Outcome, data: digits.Digits) -> None:
    picture, labels = folder / "kernel.png", folder / "labels.npy"
    draw(picture, outcome.kernels, data.labels, outcome.spectra)
    np.save(labels, data.labels)
    console.print(f"Picture: {picture}\nKernel:  {folder / 'kernel.zarr'}\nLabels:  {labels}")


def _seed_table(results: list[seed.Result]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    for name in ("", "method"):
        table.add_column(name, no_wrap=True)
    for name in ("first call", "again", "peak", "error", ""):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for result in results:
        if last and result.framework != last:
            table.add_section()
        table.add_row(
            result.framework if result.framework != last else "",
            result.method,
            f"{result.first_s * 1e3:.0f} ms",
            f"{result.again_s * 1e3:.2f} ms",
            format_bytes(result.peak_bytes),
            f"{result.error:.1e}",
            "[green]right[/]" if result.right else "[red]wrong[/]",
        )
        last = result.framework
    return table


def _digits_table(outcome: Outcome, held_out: int) -> Table:
    table = Table("predictor", title=f"Accuracy on {held_out} held-out images", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("accuracy", justify="right")
    for name, value in outcome.accuracies.items():
        table.add_row(name, f"{value:.1%}")
    return table


def _progress(console: Console) -> Progress:
    return Progress(*Progress.get_default_columns(), TextColumn("{task.completed}/{task.total}"), console=console)

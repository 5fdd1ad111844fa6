"""The digits part, small: it learns, it repeats, and it leaves a picture and a kernel."""

import io

import numpy as np
import pytest

for package in ("jax", "optax", "psutil", "sklearn", "matplotlib", "rich", "zarr"):
    pytest.importorskip(package)

from rich.console import Console

import jacgram
from jacgram.demo import digits
from jacgram.demo.show import RANDOM, TRAINED, Scale, show_digits

SMALL = Scale(train=128, held_out=64, epochs=8)


def run(folder):
    console = Console(file=io.StringIO(), width=100)
    return show_digits(console, folder, 0, "64MiB", SMALL), console.file.getvalue()


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return (*run(folder), folder)


def test_it_predicts_images_it_has_not_seen(outcome):
    found, printed, _ = outcome
    assert list(found.accuracies) == [
        "the trained network",
        f"kernel regression, {RANDOM}",
        f"kernel regression, {TRAINED}",
    ]
    assert min(found.accuracies.values()) > 0.7  # by chance: 0.1
    for name, value in found.accuracies.items():
        assert name in printed
        assert f"{value:.1%}" in printed


def test_the_kernel_is_that_of_the_printed_formula(outcome):
    import jax

    found, _, _ = outcome
    data = digits.load(0, train=SMALL.train, held_out=SMALL.held_out)
    J = jax.jacrev(digits.network)(digits.initialise(0), data.images[:4])
    rows = [np.asarray(leaf).reshape(4, 10, -1) for leaf in jax.tree.leaves(J)]
    expected = sum(np.einsum("nip,mip->nm", r, r) for r in rows)
    np.testing.assert_allclose(found.kernels[RANDOM][:4, :4], expected, rtol=1e-4)


def test_kernels_are_symmetric_and_spectra_theirs(outcome):
    found, _, _ = outcome
    for name, kernel in found.kernels.items():
        assert np.array_equal(kernel, kernel.T)
        assert np.all(np.diff(found.spectra[name]) <= 0)
        np.testing.assert_allclose(found.spectra[name].sum(), np.trace(kernel), rtol=1e-5)


def test_picture_and_kernel_are_stored(outcome):
    found, _, folder = outcome
    assert (folder / "kernel.png").read_bytes().startswith(b"\x89PNG")
    assert np.array_equal(jacgram.open_kernel(folder / "kernel.zarr").to_numpy(), found.kernels[TRAINED])
    assert np.load(folder / "labels.npy").shape == (SMALL.train,)


def test_same_seed_same_figures(outcome, tmp_path):
    first, _, _ = outcome
    again, _ = run(tmp_path / "new" / "folder")
    assert again.accuracies == first.accuracies
    for name, kernel in first.kernels.items():
        assert np.array_equal(again.kernels[name], kernel)


def test_a_second_run_finds_the_kernel_complete(outcome):
    first, printed, folder = outcome
    assert "1 of 1 tiles, 0 before this run, 1 in it" in printed
    again, printed = run(folder)
    assert "1 of 1 tiles, 1 before this run, 0 in it" in printed
    assert np.array_equal(again.kernels[TRAINED], first.kernels[TRAINED])


def test_the_kernel_of_another_scale_is_replaced(outcome, tmp_path):
    (tmp_path / "kernel.zarr").mkdir()
    console = Console(file=io.StringIO(), width=100)
    show_digits(console, tmp_path, 0, "64MiB", Scale(train=64, held_out=8, epochs=1))
    show_digits(console, tmp_path, 0, "64MiB", Scale(train=72, held_out=8, epochs=1))
    assert jacgram.open_kernel(tmp_path / "kernel.zarr").shape == (72, 72)


def test_no_image_is_both_trained_on_and_held_out():
    data = digits.load(0, train=1297, held_out=500)
    assert data.images.shape == (1297, 8, 8, 1)
    both = np.concatenate([data.images, data.held_out_images]).reshape(1797, -1)
    assert np.array_equal(np.sort(both.sum(1)), np.sort(digits.load(1, train=1797, held_out=0).images.sum((1, 2, 3))))

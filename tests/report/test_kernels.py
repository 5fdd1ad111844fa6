"""Pictures of kernels: what is drawn is what was given."""

import numpy as np
import pytest

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from jacgram.report.kernels import correlation, draw_by_class, draw_spectrum


def test_correlation_is_that_of_the_centred_features():
    features = np.random.default_rng(0).standard_normal((6, 9))
    np.testing.assert_allclose(correlation(features @ features.T)[0, 1:].shape, (5,))
    centred = features - features.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(correlation(features @ features.T), unit @ unit.T, atol=1e-12)


def test_an_example_of_norm_zero_is_like_none():
    assert not correlation(np.zeros((3, 3))).any()


def test_examples_are_sorted_by_class():
    kernel = np.diag([4.0, 1.0, 4.0, 1.0])
    kernel[0, 2] = kernel[2, 0] = 3.0
    axes = Figure().subplots()
    image = draw_by_class(axes, kernel, [1, 0, 1, 0])
    order = [1, 3, 0, 2]
    np.testing.assert_allclose(image.get_array(), correlation(kernel)[np.ix_(order, order)])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1"]
    np.testing.assert_allclose(axes.get_xticks(), [0.5, 2.5])


def test_spectrum_leaves_out_what_a_logarithm_cannot_show():
    axes = Figure().subplots()
    draw_spectrum(axes, [4.0, 1.0, -1e-9], "kernel", "black")
    [line] = axes.get_lines()
    np.testing.assert_allclose(line.get_xydata(), [[1, 4], [2, 1]])

"""Patches against NumPy, where strides leave nothing out, and where they leave out most."""

import numpy as np
import pytest

from jacgram.arrays import adapter
from jacgram.arrays.windows import patches
from jacgram.core.uses import Conv
from kit.native import array


@pytest.mark.parametrize("window", [(3, 2), (1, 1), (2, 2)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 5), (4, 3)])
@pytest.mark.parametrize("low", [0, 1])
def test_patches(window, strides, low, framework):
    xp, (height, width) = adapter(framework), (9, 8)
    x = np.random.default_rng(0).standard_normal((2, height, width, 3))
    out = tuple((n + 2 * low - w) // s + 1 for n, w, s in zip((height, width), window, strides, strict=True))
    conv = Conv(window, strides, ((low, low), (low, low)), (1, 1), (1, 1), 1)
    found = xp.to_numpy(patches(xp, conv, array(framework, x), out))
    padded = np.pad(x, ((0, 0), (low, low), (low, low), (0, 0)))
    rows, columns = (s * np.arange(o)[:, None] + np.arange(w) for s, o, w in zip(strides, out, window, strict=True))
    expected = padded[:, rows[:, None, :, None], columns[:, None, :]]
    np.testing.assert_array_equal(found.reshape(expected.shape), expected)

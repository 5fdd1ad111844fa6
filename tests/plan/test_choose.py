"""Choices where prices alone do not say it all, by shapes alone."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jacgram.plan.choose import choose
from jacgram.plan.device import TYPICAL
from kit.layers import bias, layer

GIB = 1 << 30
COMPILED = replace(TYPICAL, views=False, compiled=True, reused_bytes=2.0**25)


def choices(made):
    """Without and with slices that are cut and laid out in one go."""
    return [choose(*made, device, 4, GIB) for device in (replace(COMPILED, compiled=False), COMPILED)]


@pytest.mark.parametrize(("i", "k"), [(4, 160), (20, 40), (47, 89)])
def test_rows_are_cut_where_cotangents_are_laid_out_anyway(i, k):
    whole, cut = choices(layer(n=24, t=40, i=i, k=k, s=5))
    assert (whole.order, whole.slice_label) == ("rows", None)
    assert (cut.order, cut.slice_label) == ("rows", "w1"), "the axis of the cotangents, not of the activations"


@pytest.mark.parametrize("made", [layer(n=24, t=40, i=20, k=22, s=5), layer(n=24, t=1, i=47, k=89), bias()])
def test_thin_slices_and_what_is_laid_out_already_are_left_whole(made):
    whole, left = choices(made)
    assert left == whole
    assert left.slice_label is None


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 32), st.integers(1, 64), st.integers(4, 256), st.integers(4, 256), st.integers(1, 16))
def test_a_cut_is_nearly_as_fast_and_takes_less_memory(n, t, i, k, s):
    whole, cut = choices(layer(n, t, i, k, s))
    if cut.order == whole.order == "rows" and whole.slice_label is None:
        assert cut.seconds <= 1.04 * whole.seconds
        assert cut.peak_bytes <= whole.peak_bytes

"""Choices where prices alone do not say it all, by shapes alone."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jacgram.plan.choose import choose
from jacgram.plan.device import TYPICAL
from kit.layers import bias, conv_layer, layer

GIB, MIB = 1 << 30, 1 << 20
COMPILED = replace(TYPICAL, views=False, compiled=True, reused_bytes=2.0**25)
ENDLESS = replace(COMPILED, reused_bytes=math.inf)
ON_CORES = replace(COMPILED, abreast=4)


def choices(made, device=COMPILED):
    """Without and with slices that are cut and laid out in one go."""
    return [choose(*made, given, 4, GIB) for given in (replace(device, compiled=False), device)]


@pytest.mark.parametrize("device", [COMPILED, ON_CORES])
@pytest.mark.parametrize(("i", "k"), [(4, 160), (8, 120), (47, 89)])
def test_rows_are_cut_where_cotangents_are_laid_out_anyway(i, k, device):
    whole, cut = choices(layer(n=20, t=40, i=i, k=k, s=5), device)
    assert (whole.order, whole.slice_label) == ("rows", None)
    assert (cut.order, cut.slice_label) == ("rows", "w1"), "the axis of the cotangents, not of the activations"


@pytest.mark.parametrize(("k", "cut"), [(22, None), (24, "w1")])
def test_slices_have_twelve_entries(k, cut):
    flat = replace(COMPILED, products=((1, 1e11),), copies=((1, 1e12),))  # where thin slices are no slower
    assert choose(*layer(n=20, t=40, i=60, k=k, s=5), flat, 4, GIB).slice_label == cut


@pytest.mark.parametrize("made", [layer(n=20, t=1, i=47, k=89), bias(), layer(n=4, t=40, i=20, k=64, s=5)])
def test_what_is_laid_out_already_or_small_is_left_whole(made):
    whole, left = choices(made)
    assert left == whole
    assert left.slice_label is None


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 32),
    st.integers(1, 64),
    st.integers(4, 256),
    st.integers(4, 256),
    st.integers(1, 16),
    st.sampled_from([COMPILED, ON_CORES]),
)
def test_a_cut_is_priced_as_what_it_stands_for_and_takes_less_memory(n, t, i, k, s, device):
    whole, cut = choices(layer(n, t, i, k, s), device)
    if whole.order == "rows" and whole.slice_label is None and cut != whole:
        if device.comes_fresh(whole.peak_bytes):
            return
        assert cut.seconds <= whole.seconds
        assert cut.order != "rows" or cut.slice_label is None or cut.peak_bytes <= whole.peak_bytes


def test_rows_larger_than_what_is_reused_are_cut():
    made = layer(16, 32, 128, 512)
    endless, some = (choose(*made, device, 4, GIB) for device in (ENDLESS, COMPILED))
    assert (endless.order, some.order) == ("rows", "rows")
    assert some.peak_bytes <= 20 * MIB < endless.peak_bytes


def test_patches_are_in_the_same_piece():
    made = conv_layer(window=(3, 3), c_in=64, c_out=16, n=16)
    endless, some = (choose(*made, device, 4, GIB) for device in (ENDLESS, COMPILED))
    assert endless.peak_bytes == some.peak_bytes > 20 * MIB
    assert some.seconds == pytest.approx(endless.seconds + some.peak_bytes / COMPILED.copies[-1][1])


@pytest.mark.parametrize("sizes", [(22, 53, 582, 177, 8), (25, 45, 249, 224, 3)])
def test_parts_do_not_make_a_piece_larger_than_what_is_reused(sizes):
    chosen = choose(*layer(*sizes), ON_CORES, 4, GIB)
    assert chosen.parted is not None
    assert chosen.peak_bytes <= 20 * MIB < choose(*layer(*sizes), replace(ENDLESS, abreast=4), 4, GIB).peak_bytes

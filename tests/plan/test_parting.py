"""Which axis of a slice of rows is taken in parts, by shapes alone."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jacgram.plan.assembly import assemble
from jacgram.plan.choose import candidates, choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import Network
from jacgram.plan.parting import parted_label
from jacgram.plan.triangle import Triangle
from kit.layers import bias, conv_layer, layer

GIB, MIB = 1 << 30, 1 << 20
FOUR = replace(TYPICAL, abreast=4)


def label(made, sliced, parts=4):
    assembly = assemble(*made, loop_windows=False)
    return parted_label(assembly.network, dict(assembly.sizes), sliced, parts)


def test_the_cut_goes_through_what_is_not_sliced():
    assert label(layer(), "w1") == "w0"
    assert label(layer(), "w0") == "w1"


def test_parts_have_columns_enough():
    assert label(layer(i=128), "w1") == "w0"
    assert label(layer(i=127), "w1") is None
    assert label(layer(i=127), "w1", parts=3) == "w0"


def test_the_cut_goes_through_the_smaller_operands():
    assert label(layer(i=128, k=512), None) == "w0"
    assert label(layer(i=512, k=128, s=2), None) == "w1"
    assert label(layer(pattern="n i, m i -> n m"), "y:i") == "w0", "a summed output"


def test_patches_are_cut_by_channels_rather_than_by_their_window():
    made = conv_layer(window=(3, 3), c_in=16, c_out=32)
    assert label(made, "w4") == "w2", "144 columns, of 16 channels"


def test_rows_that_are_given_have_no_axis_to_cut():
    assert label(bias(), None) is None
    assert (
        parted_label(Network(("g1", "g2"), (("n", "w0"), ("m", "w0")), ("n", "m")), {"n": 4, "w0": 64}, None, 4) is None
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 32), st.sampled_from([8, 32, 64]), st.sampled_from([(16, 512), (128, 256), (256, 512)]))
def test_slices_in_parts_are_as_large_as_is_good_for_them(n, t, weight):
    made = layer(n, t, *weight)
    plain, parted = (choose(*made, device, 4, GIB) for device in (TYPICAL, FOUR))
    assert parted.seconds <= plain.seconds
    if parted.parts == 1 or plain.by_example:
        assert parted == plain or plain.by_example
        return
    assert parted.order == plain.order == "rows"
    assert parted.parts == 4
    alone = {(c.order, c.slice_label, c.slice_size, c.by_example): c for c in candidates(*made, TYPICAL, 4)}
    same = alone["rows", parted.slice_label, parted.slice_size, False]
    assert 4 * MIB <= same.peak_bytes <= 20 * MIB
    assert parted.peak_bytes > same.peak_bytes, "a part has its own result"
    if plain.slice_label == parted.slice_label is not None:
        twice = alone.get(("rows", parted.slice_label, 2 * parted.slice_size, False))
        assert twice is None or twice.peak_bytes > 20 * MIB or twice.seconds > 1.04 * plain.seconds


@pytest.mark.parametrize(("panels", "parts"), [(1, 4), (2, 2), (4, 1)])
def test_pairs_of_blocks_are_parts_already(panels, parts):
    component, want = layer(32)
    triangle = Triangle.of(want, panels, one=True, blocks=True)
    assert choose(component, want, FOUR, 4, GIB, triangle).parts == parts
    views = Triangle.of(want, panels, one=True)
    assert choose(component, want, FOUR, 4, GIB, views).parts == 4


def test_what_is_fastest_whole_is_cut_where_it_is_too_large_for_parts():
    made = layer(16, 64, 512, 32)
    plain, parted = (choose(*made, device, 4, GIB) for device in (TYPICAL, FOUR))
    assert plain.order == "rows"
    assert plain.slice_label is None
    assert plain.peak_bytes > 20 * MIB
    assert (parted.slice_label, parted.parts) == ("w1", 4)
    assert parted.seconds <= 1.05 * plain.seconds


@pytest.mark.parametrize("allowed", [2 * MIB, 8 * MIB, 16 * MIB])
def test_parts_keep_to_what_is_allowed(allowed):
    assert choose(*layer(32), FOUR, 4, allowed).peak_bytes <= allowed


def test_small_layers_are_left_as_they_are():
    assert choose(*layer(4, 8, 48, 48), FOUR, 4, GIB) == choose(*layer(4, 8, 48, 48), TYPICAL, 4, GIB)

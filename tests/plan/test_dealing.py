"""Which axis is dealt out to the cores, by shapes alone."""

from dataclasses import replace

import pytest

from jacgram.plan.assembly import assemble
from jacgram.plan.choose import candidates, choose
from jacgram.plan.dealing import dealt_label
from jacgram.plan.device import TYPICAL, Device
from kit.layers import layer

ROWS, GRAMS = ((0, 1), (2, 3)), ((0, 2), (1, 3))


def label(tree=ROWS, shares=2, chunk=None, **sizes):
    component, want = layer(**sizes)
    assembly = assemble(component, want, loop_windows=False)
    whole = dict(assembly.sizes)
    (features,) = [x for x in assembly.network.operands[1] if x.startswith("w")]
    cut = whole if chunk is None else whole | {features: chunk}
    found = dealt_label(assembly.network, tree, whole, cut, shares)
    assert found in (None, features)
    return found is not None


def test_features_of_the_cotangents_are_dealt_out():
    assert label()
    assert label(chunk=64)
    assert label(shares=4)


@pytest.mark.parametrize(
    "case",
    [
        {"shares": 1},
        {"tree": GRAMS},
        {"k": 511},
        {"chunk": 63},
        {"k": 513, "chunk": 256},
        {"i": 32, "k": 32},
        {"t": 1024, "s": 1},
        {"pattern": "n i, n j -> n i j"},
        {"pattern": "n i, m i -> n m", "k": 513},
        {"t": 1},
    ],
    ids=lambda case: ", ".join(f"{key} {value}" for key, value in case.items()),
)
def test_not_where_it_cannot_be_or_does_not_pay(case):
    """One core, another order, uneven shares, few columns, large activations, batches, seeds alone, a single position."""
    assert not label(**case)


@pytest.mark.parametrize("cut", [None, "w0", "w1"])
def test_repeated_activations_are_working_memory(cut):
    """They are made once, whole, also where slices cut them."""
    component, want = layer()

    def rows(device):
        every = [
            c
            for c in candidates(component, want, device, 4)
            if c.order == "rows" and c.slice_label == cut and not c.by_example
        ]
        return {c.slice_size: c for c in every}

    alone, shared = rows(TYPICAL), rows(replace(TYPICAL, shares=2))
    dealt = [size for size, choice in shared.items() if choice.dealt is not None]
    assert dealt
    assert all(choice.dealt is None for choice in alone.values())
    repeated, blocks = 2 * 2 * 16 * 32 * 128, 2 * 160 * 160
    for size in dealt:
        assert shared[size].peak_bytes - alone[size].peak_bytes == 4 * (repeated + blocks)


def test_only_within_the_budget():
    component, want = layer()
    device = replace(TYPICAL, shares=2)
    least = min(c.peak_bytes for c in candidates(component, want, device, 4))
    for allowed in (least, 2 * least, 1 << 24, 1 << 30):
        assert choose(component, want, device, 4, allowed).peak_bytes <= allowed


def test_a_device_keeps_its_shares():
    device = replace(TYPICAL, shares=3)
    assert Device.from_json(device.to_json()) == device

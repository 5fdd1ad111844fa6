"""Prices of one problem's orders: found once, and what a choice by any budget is made from."""

from dataclasses import replace

import pytest

from jacgram.plan import pricing as module
from jacgram.plan.choose import choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import Product, trees
from jacgram.plan.pricing import Pricing, pricing
from jacgram.plan.problem import problems
from jacgram.plan.triangle import Triangle
from kit.layers import conv_layer, layer

MIB = 1 << 20
ABREAST = replace(TYPICAL, views=False, abreast=4)


def priced(made, device=TYPICAL, panels=1, *, blocks=False, by_example=False):
    component, wanted = made
    every = problems(component, wanted, 4, Triangle.of(wanted, panels, one=panels > 1, blocks=blocks))
    return pricing(next(p for p in every if bool(p.examples) == by_example), device, 4)


def test_each_price_is_found_once(monkeypatch):
    prices = Pricing(priced(layer()).problem, TYPICAL, 4)
    tree = trees(4)[0]
    first = [prices.of(tree), *prices.sliced(tree)]
    monkeypatch.setattr(module, "product", None)  # without which nothing can be priced
    assert [prices.of(tree), *prices.sliced(tree)] == first
    with pytest.raises(TypeError):
        prices.of(trees(4)[1])


def test_equal_problems_share_their_prices():
    assert priced(layer()) is priced(layer())
    assert priced(layer()) is not priced(layer(i=7))


def test_other_budgets_choose_among_the_same_prices():
    made = layer(i=128, k=512)
    large, small = (choose(*made, TYPICAL, 4, allowed) for allowed in (256 * MIB, MIB))
    assert large.peak_bytes > MIB >= small.peak_bytes
    prices = priced(made)
    for choice in (large, small):
        assert choice == prices.of(choice.tree, choice.slice_label, choice.slice_size)


def test_slices_go_from_halves_to_single_entries():
    prices = priced(layer(i=6))
    rows = next(tree for tree in trees(4) if prices.of(tree).order == "rows")
    assert [c.slice_size for c in prices.sliced(rows) if c.slice_label == "w0"] == [3, 2, 1]


def test_labels_of_what_an_order_lays_out_anew():
    prices = priced(layer())
    rows = next(tree for tree in trees(4) if prices.of(tree).order == "rows")
    assert prices.turned_labels(rows) == {"w1"}, "both sides' cotangents have it, and positions are each side's own"
    alone = priced(layer(t=1))
    assert prices.turned_labels(rows) and not alone.turned_labels(rows)


@pytest.mark.parametrize(("device", "panels"), [(TYPICAL, 1), (ABREAST, 2), (ABREAST, 4)])
def test_no_slice_takes_less_time_than_the_arithmetic(device, panels):
    prices = priced(layer(i=64, k=64), device, panels, blocks=panels > 1)
    for tree in trees(4):
        assert all(c.seconds >= prices.arithmetic_s(tree) for c in (prices.of(tree), *prices.sliced(tree)))


@pytest.mark.parametrize(("panels", "beside"), [(1, 1), (2, 3), (4, 4)])
def test_pairs_of_blocks_run_side_by_side_as_far_as_the_device_has_them(panels, beside):
    prices = priced(layer(), ABREAST, panels, blocks=True)
    pairs = panels * (panels + 1) // 2
    assert prices._beside(pairs) == beside
    assert priced(layer(), TYPICAL, panels, blocks=True)._beside(pairs) == 1
    assert priced(layer(), ABREAST, panels)._beside(pairs) == 1, "panels are no pairs of blocks"


def test_loops_over_examples_do_not_run_side_by_side():
    prices = priced(layer(), ABREAST, 4, blocks=True, by_example=True)
    assert prices._beside(4) == 1


def test_what_runs_side_by_side_is_priced_by_its_shorter_side():
    """The same for a product and its transpose, and never above the price of the product that it would be."""
    thin, flat = Product(1, 80, 640, 512, (0, 0, 0)), Product(1, 640, 80, 512, (0, 0, 0))
    seconds = [[TYPICAL.product_s(p, 4, 0.0, 0.0, beside) for beside in (1, 2, 4)] for p in (thin, flat)]
    assert seconds[0] == seconds[1] == sorted(seconds[0], reverse=True)
    assert seconds[0][0] > seconds[0][2] > 0


def test_what_is_formed_before_any_product_is_counted():
    prices = priced(conv_layer(window=(3, 3), c_in=16, c_out=32))
    rows = next(tree for tree in trees(4) if prices.of(tree).order == "rows")
    whole = prices.of(rows)
    assert 0 < prices.problem.formed_bytes == prices.given_bytes(whole) < whole.peak_bytes
    assert all(prices.given_bytes(sliced) >= prices.given_bytes(whole) for sliced in prices.sliced(rows))

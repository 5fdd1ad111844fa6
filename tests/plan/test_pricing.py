"""Prices of one problem's orders: found once, and what a choice by any budget is made from."""

import pytest

from jacgram.plan import pricing as module
from jacgram.plan.choose import choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import trees
from jacgram.plan.pricing import Pricing, pricing
from jacgram.plan.problem import problems
from jacgram.plan.triangle import Triangle
from kit.layers import conv_layer, layer

MIB = 1 << 20


def priced(made, device=TYPICAL):
    component, wanted = made
    (problem, *_) = problems(component, wanted, 4, Triangle.of(wanted, 1, one=False))
    return pricing(problem, device, 4)


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


def test_no_slice_takes_less_time_than_the_arithmetic():
    prices = priced(layer(i=64, k=64))
    for tree in trees(4):
        assert all(c.seconds >= prices.arithmetic_s(tree) for c in (prices.of(tree), *prices.sliced(tree)))


def test_what_is_formed_before_any_product_is_counted():
    prices = priced(conv_layer(window=(3, 3), c_in=16, c_out=32))
    rows = next(tree for tree in trees(4) if prices.of(tree).order == "rows")
    whole = prices.of(rows)
    assert 0 < prices.problem.formed_bytes == prices.given_bytes(whole) < whole.peak_bytes
    assert all(prices.given_bytes(sliced) >= prices.given_bytes(whole) for sliced in prices.sliced(rows))

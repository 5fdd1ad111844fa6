"""Orders taken one example of side 2 at a time, by shapes alone."""

from dataclasses import replace

import pytest

from jacgram.plan.assembly import assemble
from jacgram.plan.by_example import arranged, fills_lines, is_worth_a_loop, one_example
from jacgram.plan.choose import candidates, choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import Network, product, steps, trees
from jacgram.plan.problem import problems
from jacgram.plan.triangle import Triangle
from kit.layers import bias, conv_layer, layer, paired_layer

GIB = 1 << 30
COMPILED = replace(TYPICAL, compiled=True)
THROUGH_GRAMS = (((0, 2), 1), 3)


def network(made):
    component, want = made
    assembly = assemble(component, want, loop_windows=False)
    return one_example(assembly.network, want.example2), dict(assembly.sizes), want


def test_one_example_is_the_network_without_their_axis():
    whole = Network(("a", "b"), (("n", "w"), ("m", "w")), ("n", "m"))
    assert one_example(whole, "m") == Network(("a", "b"), (("n", "w"), ("w",)), ("n",))


@pytest.mark.parametrize("tree", trees(4))
def test_nothing_given_has_to_be_laid_out_in_the_loop(tree):
    one, sizes, _ = network(layer())
    found = arranged(one, tree)
    assert [sorted(x) for x in found.operands] == [sorted(x) for x in one.operands]
    for step in steps(found, tree):
        turned = product(step, sizes).turned
        assert not any(turned[at] for at, operand in enumerate((step.left, step.right)) if operand < 4)


def test_the_product_of_activations_meets_cotangents_without_a_copy():
    one, sizes, want = network(layer())
    assert any(any(product(step, sizes).turned) for step in steps(one, THROUGH_GRAMS))
    found = arranged(one, THROUGH_GRAMS)
    assert not any(any(product(step, sizes).turned) for step in steps(found, THROUGH_GRAMS))
    assert found.operands[1] == (want.example1, want.seeds1[0], "w1", "p0'1")


def test_what_lies_well_is_left():
    one, _, _ = network(layer())
    assert arranged(one, THROUGH_GRAMS).operands[::2] == one.operands[::2]


def test_layers_that_narrow_are_taken_by_example_and_need_a_share_of_the_memory():
    made = layer(32, 32, 512, 128)
    chosen = choose(*made, TYPICAL, 4, GIB)
    assert (chosen.by_example, chosen.tree) == (True, THROUGH_GRAMS)
    (whole,) = [
        c
        for c in candidates(*made, TYPICAL, 4)
        if c.tree == THROUGH_GRAMS and c.slice_label is None and not c.by_example
    ]
    assert chosen.flops == whole.flops, "neither operand is made again for each example"
    assert 8 * chosen.peak_bytes < whole.peak_bytes


@pytest.mark.parametrize(("t", "worth"), [(16, False), (23, False), (24, True), (31, True), (32, True)])
def test_an_example_has_to_have_columns_enough(t, worth):
    one, sizes, _ = network(layer(t=t))
    assert is_worth_a_loop(arranged(one, THROUGH_GRAMS), THROUGH_GRAMS, sizes) == worth
    assert choose(*layer(32, t, 512, 128), COMPILED, 4, GIB).by_example == worth
    assert choose(*layer(32, t, 512, 128), TYPICAL, 4, GIB).by_example == (t == 32), "whole lines, if not compiled"


@pytest.mark.parametrize(("t", "i", "chosen"), [(48, 700, True), (50, 700, False), (40, 700, True)])
def test_an_example_that_fills_no_whole_lines_has_to_be_faster_by_a_tenth(t, i, chosen):
    made = layer(32, t, i, 128)
    one, sizes, _ = network(made)
    assert fills_lines(one, sizes) == (t == 48)
    every = list(candidates(*made, COMPILED, 4))
    looped, others = (min(c.seconds for c in every if c.by_example is by_example) for by_example in (True, False))
    assert looped < others
    assert (1.1 * looped < others) == (t == 40)
    assert choose(*made, COMPILED, 4, GIB).by_example == chosen


def test_what_is_made_of_one_example_alone_is_not_worth_a_loop():
    one, sizes, _ = network(layer())
    worth = [tree for tree in trees(4) if is_worth_a_loop(arranged(one, tree), tree, sizes)]
    assert THROUGH_GRAMS in worth
    assert ((0, 1), (2, 3)) not in worth, "rows of side 2"
    assert (((0, 2), 3), 1) not in worth, "cotangents of side 1 meet what lies in another order"


def test_examples_are_taken_one_by_one_where_nothing_else_fits():
    made = layer(32, 32, 1024, 1024, 1)
    every = list(candidates(*made, TYPICAL, 4))
    others = min(c.peak_bytes for c in every if not c.by_example)
    looped = min(c.peak_bytes for c in every if c.by_example)
    assert looped < others
    found = choose(*made, TYPICAL, 4, others - 1)
    assert found.by_example
    assert found.peak_bytes < others
    assert not choose(*made, TYPICAL, 4, looped - 1).peak_bytes < looped, "the smallest, where nothing fits"


def test_what_side_1_has_alone_is_made_once_and_held():
    made = layer(4, 16, 32, 32)
    by_tree = {(c.tree, c.by_example): c for c in candidates(*made, TYPICAL, 4) if c.slice_label is None}
    one_sided = (((0, 1), 2), 3)
    assert by_tree[one_sided, True].flops == by_tree[one_sided, False].flops
    rows = 4 * 10 * 32 * 32 * 4
    assert by_tree[one_sided, True].peak_bytes > rows


def test_a_triangle_has_its_share_of_rounds():
    """With four panels five eighths of the products remain, each in one of them.

    What side 1 has of its own is made once; what side 2 has, of each example in every panel that has it.
    """
    component, want = layer(32)
    (problem,) = (p for p in problems(component, want, 4, Triangle.of(want, 4, one=True)) if p.examples)
    rounds = {step.sides: problem.rounds(step) for step in steps(problem.network, ((0, 1), (2, 3)))}
    assert rounds == {frozenset("1"): 1, frozenset("2"): 32 + 24 + 16 + 8, frozenset("12"): 20}
    _, sizes = problem.triangle.panel(steps(problem.network, THROUGH_GRAMS)[0], dict(problem.sizes))
    assert sizes[want.example1] == 8


@pytest.mark.parametrize(
    "made",
    [bias(), layer(1), paired_layer(), layer(pattern="n i, m j -> i j"), layer(pattern="n i, m j -> n i j")],
    ids=["no activation", "one example", "paired", "summed", "summed on side 2"],
)
def test_not_where_examples_are_no_axis_of_side_2(made):
    assert not any(c.by_example for c in candidates(*made, TYPICAL, 4))


def test_convolutions_and_plain_layers_alike():
    for made in (layer(4), conv_layer(window=(3, 3), c_in=4, c_out=8)):
        found = [c for c in candidates(*made, replace(TYPICAL, shares=2), 4) if c.by_example]
        assert len(found) == 15
        assert all(c.slice_label is None and c.dealt is None and not c.loop_windows for c in found)

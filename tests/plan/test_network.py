import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jacgram.plan.network import Network, order_name, product, steps, trees

DENSE = Network(
    ("a1", "g1", "a2", "g2"),
    (("n", "t", "i"), ("n", "o", "t", "k"), ("m", "u", "i"), ("m", "p", "u", "k")),
    ("n", "o", "m", "p"),
)
SIZES = {"n": 3, "t": 2, "i": 4, "o": 5, "k": 6, "m": 2, "u": 3, "p": 2}


def test_number_of_orders():
    assert [len(trees(k)) for k in (1, 2, 3, 4)] == [1, 1, 3, 15]
    assert len(set(trees(4))) == 15


def test_names():
    names = {order_name(DENSE, tree) for tree in trees(4)}
    assert {"rows", "Gram-Gram", "one-sided"} <= names


def test_steps_of_rows_need_no_transposed_copy():
    rows = next(tree for tree in trees(4) if order_name(DENSE, tree) == "rows")
    first, second, last = steps(DENSE, rows)
    assert first.out == ("n", "o", "k", "i")
    assert second.out == ("m", "p", "k", "i")
    assert last.out == DENSE.out


@pytest.mark.parametrize(
    ("order", "again"), [("rows", [False, True, False]), ("Gram-Gram", [False] * 3), ("one-sided", [False] * 3)]
)
def test_what_is_made_again_for_the_second_side(order, again):
    """Rows of side 2 are those of side 1 where both sides are one; an order with rows of one side makes none again."""
    found = [tree for tree in trees(4) if order_name(DENSE, tree) == order]
    assert found
    for tree in found:
        assert [step.again for step in steps(DENSE, tree)] == again


@given(st.sampled_from(trees(4)))
def test_every_order_gives_the_einsum(tree):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([SIZES[x] for x in labels]) for labels in DENSE.operands]
    expected = np.einsum("nti,notk,mui,mpuk->nomp", *arrays)
    labels = list(DENSE.operands)
    for step in steps(DENSE, tree):
        assert labels[step.left] == step.left_labels
        assert labels[step.right] == step.right_labels
        spec = f"{''.join(step.left_labels)},{''.join(step.right_labels)}->{''.join(step.out)}"
        arrays.append(np.einsum(spec, arrays[step.left], arrays[step.right]))
        labels.append(step.out)
        sizes = product(step, SIZES)
        assert sizes.entries == tuple(array.size for array in (arrays[step.left], arrays[step.right], arrays[-1]))
        every = {*step.left_labels, *step.right_labels}
        lone = math.prod(
            SIZES[x] for x in every if x not in step.out and (x in step.left_labels) != (x in step.right_labels)
        )
        assert sizes.flops * lone == 2 * math.prod(SIZES[x] for x in every)
    np.testing.assert_allclose(arrays[-1], expected, atol=1e-9)


def test_what_does_not_lie_as_matrices_is_turned():
    def turned(left, right, out):
        network = Network(("x1", "x2"), (tuple(left), tuple(right)), tuple(out))
        (step,) = steps(network, trees(2)[0])
        return product(step, SIZES).turned

    assert turned("nopk", "mpk", "nom") == (False, False, False)
    assert turned("pkno", "mpk", "nom") == (False, False, False), "a transposed matrix is one"
    assert turned("npok", "mpk", "nom") == (True, False, False), "what is summed does not lie together"
    assert turned("nopk", "mkp", "nom") == (False, True, False), "the smaller operand takes the larger one's order"
    assert turned("nok", "npk", "nop") == (False, False, False), "a batch of them"
    assert turned("nok", "mk", "nmo") == (False, False, True)
    assert turned("notk", "mouk", "nm") == (False, False, False), "what one operand has alone is summed before"


def test_what_one_operand_has_alone_is_counted_as_it_is_summed():
    network = Network(("x1", "x2"), (tuple("notk"), tuple("mouk")), tuple("nm"))
    (step,) = steps(network, trees(2)[0])
    sizes = dict(zip("notkmu", (3, 5, 2, 6, 4, 7), strict=True))
    assert product(step, sizes).reduced == 3 * 5 * 6 + 4 * 5 * 6
    assert product(step, sizes | {"t": 1, "u": 1}).reduced == 0


def test_steps_know_their_sides():
    rows = next(tree for tree in trees(4) if order_name(DENSE, tree) == "rows")
    assert [sorted(step.sides) for step in steps(DENSE, rows)] == [["1"], ["2"], ["1", "2"]]

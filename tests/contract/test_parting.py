"""Operands in parts: how each part lies for its product. That parts add up is tested with components."""

import jax.numpy as jnp
import pytest

from jacgram.arrays import adapter
from jacgram.arrays.labelled import Labelled, Shared
from jacgram.contract.parting import _facing, in_parts
from jacgram.plan.assembly import assemble
from jacgram.plan.choose import choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import order_name, steps, trees
from kit.layers import FULL, layer


def rows(pattern):
    """The network of a layer's kernel, and its rows."""
    network = assemble(*layer(pattern=pattern), loop_windows=False).network
    return network, steps(network, next(tree for tree in trees(4) if order_name(network, tree) == "rows"))


def test_parts_face_what_they_are_multiplied_with():
    """Summed last where the other operand is summed first, but for an axis of which a slice has one entry."""
    network, todo = rows("n i, m i -> n m")
    (n, p, w0), (_, i, _, _) = network.operands[:2]
    assert _facing(0, todo, i) == (n, w0, p)


@pytest.mark.parametrize("pattern", [FULL, "n i, m i -> n m"])
def test_parts_lie_as_before_where_the_other_operand_is_to_be_turned_anyway(pattern):
    network, todo = rows(pattern)
    for operand, labels in enumerate(network.operands):
        if len(labels) == 3:
            assert _facing(operand, todo, None) == _facing(operand, todo, labels[-1]) == labels


def test_parts_of_one_side_with_itself_are_one_array_however_they_lie():
    xp, shared, array = adapter("jax"), Shared(), jnp.ones((2, 3, 4))
    left, right = (Labelled(labels, array) for labels in (("n", "t", "w"), ("m", "u", "w")))
    first, second = shared.arranged(xp, left, ("n", "w", "t")), shared.arranged(xp, right, ("m", "w", "u"))
    assert first.array is second.array and first.array.shape == (2, 4, 3)
    assert (first.labels, second.labels) == (("n", "w", "t"), ("m", "w", "u"))
    assert shared.arranged(xp, left, left.labels) is left


@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_what_is_not_cut_is_left_whole(framework):
    xp, assembly = adapter(framework), assemble(*layer(), loop_windows=False)
    choice = choose(*layer(), TYPICAL, 4, 1 << 30)
    assert choice.parted is None and choice.tree is not None
    every = [Labelled(labels, jnp.ones([1] * len(labels))) for labels in assembly.network.operands]
    assert [*in_parts(xp, choice, every, assembly, choice.tree)] == [every]

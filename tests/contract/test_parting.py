"""Operands in parts: how each part lies for its product. That parts add up is tested with components."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from jacgram.arrays import adapter
from jacgram.arrays.labelled import Labelled, Shared
from jacgram.contract.parting import _facing, in_parts
from jacgram.plan.assembly import assemble
from jacgram.plan.choose import candidates, choose
from jacgram.plan.device import TYPICAL
from jacgram.plan.network import order_name, steps, trees
from kit.layers import FULL, layer

TRACE = "n i, m i -> n m"


def rows(made):
    """A layer's assembly, the order of its rows and its steps."""
    assembly = assemble(*made, loop_windows=False)
    tree = next(tree for tree in trees(4) if order_name(assembly.network, tree) == "rows")
    return assembly, tree, steps(assembly.network, tree)


def test_parts_face_what_they_are_multiplied_with():
    """Summed last where the other operand is summed first, but for axes of which a slice has one entry."""
    assembly, _, todo = rows(layer(pattern=TRACE))
    (n, p, w0), (_, i, _, w1) = assembly.network.operands[:2]
    sizes = dict(assembly.sizes)
    assert _facing(0, todo, {**sizes, i: 1}) == (n, w0, p)
    assert _facing(0, todo, {**sizes, i: 2}) == (n, p, w0), "seeds lie between examples and positions"
    assert _facing(1, todo, {**sizes, i: 1}) == (n, i, w1, p)


@pytest.mark.parametrize("pattern", [FULL, TRACE])
def test_activations_lie_as_before_where_cotangents_are_to_be_turned_anyway(pattern):
    assembly, _, todo = rows(layer(pattern=pattern))
    for operand in (0, 2):
        assert _facing(operand, todo, dict(assembly.sizes)) == assembly.network.operands[operand]


def test_each_part_is_laid_out_once_for_all_slices(monkeypatch):
    monkeypatch.setattr("jacgram.arrays.jax.usable_cores", lambda: 2)
    made = layer(pattern=TRACE)
    assembly, tree, _ = rows(made)
    (n, p, w0), (_, i, _, _) = assembly.network.operands[:2]
    choice = next(c for c in candidates(*made, TYPICAL, 4) if (c.tree, c.slice_label, c.slice_size) == (tree, i, 1))
    arrays = [jnp.ones([dict(assembly.sizes)[x] for x in labels]) for labels in assembly.network.operands[:2]]
    every = [Labelled(x, a) for x, a in zip(assembly.network.operands, [*arrays, *arrays], strict=True)]
    parts = in_parts(adapter("jax"), replace(choice, parted=w0, parts=4), every, assembly, tree)
    assert [part[0].labels for part in parts] == [(n, w0, p)] * 4
    assert [part[0].array.shape[1] for part in parts] == [32] * 4
    assert all(part[0].array is part[2].array for part in parts), "what stands for both sides still does"
    assert all(part[1] is every[1] for part in parts), "what has not the axis is not touched"


@pytest.mark.parametrize(("framework", "cores"), [("jax", 1), ("torch", 2)])
def test_nothing_is_cut_where_nothing_runs_side_by_side(framework, cores, monkeypatch):
    monkeypatch.setattr("jacgram.arrays.jax.usable_cores", lambda: cores)
    assembly, tree, _ = rows(layer())
    choice = replace(choose(*layer(), TYPICAL, 4, 1 << 30), parted="w0", parts=4)
    every = [Labelled(labels, np.ones([1] * len(labels))) for labels in assembly.network.operands]
    assert [*in_parts(adapter(framework), choice, every, assembly, tree)] == [every]


def test_parts_of_one_side_with_itself_are_one_array_however_they_lie():
    xp, shared, array = adapter("jax"), Shared(), jnp.ones((2, 3, 4))
    left, right = (Labelled(labels, array) for labels in (("n", "t", "w"), ("m", "u", "w")))
    first, second = shared.arranged(xp, left, ("n", "w", "t")), shared.arranged(xp, right, ("m", "w", "u"))
    assert first.array is second.array and first.array.shape == (2, 4, 3)
    assert (first.labels, second.labels) == (("n", "w", "t"), ("m", "w", "u"))
    assert shared.arranged(xp, left, left.labels) is left

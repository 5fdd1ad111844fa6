"""Examples recorded one by one, laid side by side."""

import numpy as np
import torch

from jacgram.core.uses import Einsum, Gather, Use
from jacgram.core.views import View
from jacgram.frontends.torch.merging import Layout, merged
from kit.rows import jacobian_of_uses

DENSE = Einsum(("t", "i"), ("t", "k"), ("i", "k"))
BIAS = Einsum(None, ("t", "k"), ("k",))


def dense(t, leaf=0):
    return Use(leaf, View.of((3, 2)), DENSE, torch.randn(1, t, 3), torch.randn(1, 4, t, 2))


def lay(examples):
    layout = Layout()
    for uses in examples:
        layout.include(uses)
    return merged(layout, examples, "cpu", 4)


def test_rows_stay_those_of_each_example():
    shared = torch.randn(1, 4, 3, 2)
    with_bias = [
        Use(0, View.of((3, 2)), DENSE, torch.randn(1, 3, 3), shared),
        Use(1, View.of((2,)), BIAS, None, shared),
    ]
    table = Use(2, View.of((5, 2)), Gather(1), torch.tensor([[4, 0]]), torch.randn(1, 4, 2, 2))
    examples = [[dense(2)], [dense(1), dense(3)], with_bias, [table, dense(1)]]
    shapes = [(3, 2), (2,), (5, 2)]
    found = jacobian_of_uses(lay(examples), shapes, 4, 4)
    for k, uses in enumerate(examples):
        alone = jacobian_of_uses(uses, shapes, 1, 4)
        for a, b in zip(found, alone, strict=True):
            np.testing.assert_allclose(a[k], b[0], atol=1e-6)


def test_cotangents_shared_in_every_example_are_shared():
    examples = []
    for t in (1, 3):
        shared = torch.randn(1, 4, t, 2)
        examples.append(
            [Use(0, View.of((3, 2)), DENSE, torch.randn(1, t, 3), shared), Use(1, View.of((2,)), BIAS, None, shared)]
        )
    first, second = lay(examples)
    assert first.cotangent is second.cotangent
    assert first.cotangent.shape == (2, 4, 3, 2)


def test_a_layout_holds_for_examples_that_lack_a_use():
    layout = Layout()
    layout.include([dense(2), dense(3)])
    (first, second) = merged(layout, [[dense(1)]], "cpu", 4)
    assert (first.activation.shape, second.activation.shape) == ((1, 2, 3), (1, 3, 3))
    assert not second.cotangent.any()

"""The triangle of one side with itself, in panels and in blocks."""

import pytest

from jacgram.plan.network import steps
from jacgram.plan.problem import problems
from jacgram.plan.triangle import Triangle
from kit.layers import layer

ROWS = ((0, 1), (2, 3))


@pytest.mark.parametrize("panels", [2, 3, 4])
@pytest.mark.parametrize("n", [24, 48])
def test_panels_and_blocks_have_the_same_products(n, panels):
    """Counted by pairs of examples, for panels and blocks that come out even."""
    component, want = layer(n)
    problem, *_ = problems(component, want, 4, Triangle.of(want, 1, one=True))
    sizes, (*_, last) = dict(problem.sizes), steps(problem.network, ROWS)
    pairs = []
    for blocks in (False, True):
        times, here = Triangle.of(want, panels, one=True, blocks=blocks).panel(last, sizes)
        pairs.append(times * here[want.example1] * here[want.example2])
    assert pairs == [n * n * (panels + 1) // (2 * panels)] * 2


def test_a_single_panel_is_no_pair_of_blocks():
    _, want = layer(4)
    assert not Triangle.of(want, 1, one=True, blocks=True).blocks
    assert Triangle.of(want, 0, one=False, blocks=True) == Triangle.of(want, 1, one=False)


def test_what_a_side_has_of_its_own_is_not_cut():
    component, want = layer(8)
    problem, *_ = problems(component, want, 4, Triangle.of(want, 1, one=True))
    own, *_ = steps(problem.network, ROWS)
    sizes = dict(problem.sizes)
    assert Triangle.of(want, 4, one=True, blocks=True).panel(own, sizes) == (1, sizes)

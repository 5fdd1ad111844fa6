"""Which tile next: every tile once, and lanes that stay on their rows."""

from hypothesis import given
from hypothesis import strategies as st

from jacgram.execute.rows import RowQueue

tiles = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), unique=True)


@given(tiles, st.lists(st.integers(0, 3), min_size=1))
def test_every_tile_is_handed_out_once(tiles, lanes):
    queue = RowQueue(tiles)
    found = []
    turn = 0
    while queue:
        found.append(queue.take(lanes[turn % len(lanes)]))
        turn += 1
    assert sorted(found) == sorted(tiles)
    assert queue.take(lanes[0]) is None


def test_lanes_stay_on_their_rows():
    queue = RowQueue([(row, column) for row in range(2) for column in range(3)])
    taken = {"a": [], "b": []}
    for lane in "ababab":
        taken[lane].append(queue.take(lane))
    assert taken == {"a": [(0, 0), (0, 1), (0, 2)], "b": [(1, 0), (1, 1), (1, 2)]}


def test_the_last_row_is_shared():
    queue = RowQueue([(0, column) for column in range(4)])
    assert [queue.take(lane) for lane in "abab"] == [(0, 0), (0, 3), (0, 1), (0, 2)]


def test_a_tile_put_back_comes_again():
    queue = RowQueue([(0, 0)])
    queue.put_back(queue.take("a"))
    assert len(queue) == 1 and queue.take("b") == (0, 0)


def test_the_row_of_a_lost_lane_is_claimed_by_another():
    queue = RowQueue([(row, column) for row in range(3) for column in range(2)])
    queue.take("a"), queue.take("b")
    queue.release("a")
    queue.release("a")
    assert [queue.take("c"), queue.take("b")] == [(0, 1), (1, 1)]

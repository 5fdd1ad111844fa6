"""Which tiles there are: every pair of examples in exactly one tile or mirror image."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jacgram.store.grid import TileGrid, opposite

sizes = st.integers(0, 12)


@given(sizes, sizes, st.integers(1, 5), st.integers(1, 5))
def test_tiles_cover_every_pair_once(n1, n2, t1, t2):
    check(TileGrid((n1, n2), (t1, t2), symmetric=False, paired=False), np.ones((n1, n2)))


@given(sizes, st.integers(1, 5))
def test_a_triangle_and_its_mirror_cover_every_pair_once(n, t):
    check(TileGrid((n, n), (t, t), symmetric=True, paired=False), np.ones((n, n)))


@given(sizes, st.integers(1, 5))
def test_paired_tiles_cover_the_diagonal(n, t):
    grid = TileGrid((n, n), (t, t), symmetric=False, paired=True)
    assert all(row == column for row, column in grid.tiles())
    assert sum(grid.block(1, row)[1] for row, _ in grid.tiles()) == n


def check(grid, expected):
    found = np.zeros(expected.shape)
    tiles = grid.tiles()
    assert len(tiles) == len(grid) == len(set(tiles))
    for tile in tiles:
        assert tile in grid
        for place in (tile, opposite(tile)) if grid.is_mirrored(tile) else (tile,):
            (start1, size1), (start2, size2) = grid.block(1, place[0]), grid.block(2, place[1])
            found[start1 : start1 + size1, start2 : start2 + size2] += 1
    assert (found == expected).all()


def test_rows_go_back_and_forth():
    grid = TileGrid((4, 6), (2, 2), symmetric=False, paired=False)
    assert grid.tiles() == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]


def test_what_is_no_tile():
    grid = TileGrid((4, 4), (2, 2), symmetric=True, paired=False)
    assert (1, 0) not in grid and (2, 2) not in grid and "a" not in grid and (-1, 0) not in grid

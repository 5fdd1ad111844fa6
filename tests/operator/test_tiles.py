"""Tiles: factors computed once along a block row, kept within a budget, and no recompilation."""

from dataclasses import replace

import numpy as np
import pytest

import jacgram
from jacgram.core.patterns import full_labels
from jacgram.operator.blocks import HeldExamples
from jacgram.operator.tiles import LazyKernel, TileKernel
from jacgram.operator.tiling import choose_tiling, tile_bytes
from kit.native import array
from kit.writing import data, network

TILE = 6


def kernel_of(framework, n=26, method=None):
    f, params = network(framework)
    J = jacgram.Jacobian(f, array(framework, data(n)), params=params)
    held = HeldExamples(J.stack.sides[0])
    labels = full_labels(2, 2, examples=True)
    return J, LazyKernel(framework, held, held, labels, True, False, None, method or jacgram.Auto())


def run_all(kernel, cache_bytes, monkeypatch):
    """Every tile, and the blocks whose factors were computed."""
    tiling = choose_tiling(kernel, TILE, 64 << 20)
    tiles = TileKernel(kernel, tiling.plan, cache_bytes)
    computed = []
    compute = TileKernel._computed

    def counted(self, position, block):
        computed.append((position, block))
        return compute(self, position, block)

    monkeypatch.setattr(TileKernel, "_computed", counted)
    grid = tiling.grid
    found = {tile: tiles.block(grid.block(1, tile[0]), grid.block(2, tile[1])) for tile in grid.tiles()}
    return found, computed, tiles, grid


def test_factors_are_computed_once_where_they_fit(framework, monkeypatch):
    _, kernel = kernel_of(framework)
    _, computed, _, grid = run_all(kernel, 1 << 30, monkeypatch)
    assert len(computed) == len(set(computed)) == grid.counts[0] == 5


def test_those_of_a_row_are_computed_once_where_nothing_else_fits(framework, monkeypatch):
    _J, kernel = kernel_of(framework)
    found, computed, tiles, grid = run_all(kernel, 0, monkeypatch)
    assert len(computed) == len(grid), "one block of a row, and the others of its columns, but for the turn"
    assert len(tiles._cached) <= 2
    again, *_ = run_all(kernel, 1 << 30, monkeypatch)
    assert all((found[tile] == again[tile]).all() for tile in found), "the budget changes no bit"


def test_between_the_two_the_least_used_go_first(framework, monkeypatch):
    _, kernel = kernel_of(framework)
    one = run_all(kernel, 1 << 30, monkeypatch)[2]._cached
    n_bytes = next(iter(one.values())).n_bytes
    _, computed, tiles, grid = run_all(kernel, 2 * n_bytes, monkeypatch)
    assert grid.counts[0] < len(computed) < len(grid)
    assert len(tiles._cached) <= 4


def test_a_program_for_each_shape(monkeypatch):
    pytest.importorskip("jax")
    _, kernel = kernel_of("jax")
    _, _, tiles, _ = run_all(kernel, 1 << 30, monkeypatch)
    assert sorted(tiles._programs) == [
        ("factors", 0, 2),
        ("factors", 0, 6),
        ("tile", 2, 2, True),
        ("tile", 6, 2, False),
        ("tile", 6, 6, False),
        ("tile", 6, 6, True),
    ]


def test_an_edge_that_is_nearly_whole_needs_no_program(framework, monkeypatch):
    J, kernel = kernel_of(framework, n=29)
    found, computed, tiles, grid = run_all(kernel, 1 << 30, monkeypatch)
    K = np.asarray((J @ J.T).dense())
    for tile, block in found.items():
        (start1, size1), (start2, size2) = grid.block(1, tile[0]), grid.block(2, tile[1])
        expected = K[start1 : start1 + size1, start2 : start2 + size2]
        np.testing.assert_allclose(block, expected, rtol=1e-5, atol=1e-5 * np.abs(K).max())
    assert found[4, 4].shape[0] == 5
    np.testing.assert_array_equal(found[4, 4], found[4, 4].transpose(1, 0, 3, 2))
    if framework == "jax":
        assert sorted(tiles._programs) == [("factors", 0, 6), ("tile", 6, 6, False), ("tile", 6, 6, True)]
    else:
        assert (0, (24, 5, 0)) in computed, "nothing is compiled, so nothing is gained by more examples"


def test_all_edges_of_a_rectangle_are_cut_to_what_was_asked(framework, monkeypatch):
    J, kernel = kernel_of(framework, n=11)
    other, right = kernel_of(framework, n=17)
    found, _, _, grid = run_all(replace(kernel, right=right.left), 1 << 30, monkeypatch)
    K = np.asarray((J @ other.T).dense())
    for tile, block in found.items():
        (start1, size1), (start2, size2) = grid.block(1, tile[0]), grid.block(2, tile[1])
        expected = K[start1 : start1 + size1, start2 : start2 + size2]
        np.testing.assert_allclose(block, expected, rtol=1e-5, atol=1e-5 * np.abs(K).max())


def test_blocks_need_not_be_aligned(framework):
    J, kernel = kernel_of(framework)
    tiles = TileKernel(kernel, choose_tiling(kernel, TILE, 64 << 20).plan, 0)
    K = np.asarray((J @ J.T).dense())
    np.testing.assert_allclose(tiles.block((3, 5), (10, 6)), K[3:8, 10:16], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tiles.block((3, 5), (4, 5)), K[3:8, 4:9], rtol=1e-5, atol=1e-5)


def test_tilings_fit_their_budget(framework):
    _, kernel = kernel_of(framework, 200)
    last = 0
    for kib in (30, 60, 200, 1000, 100_000):
        tiling = choose_tiling(kernel, None, kib << 10)
        assert tiling.needed_bytes <= kib << 10
        assert tiling.tile[0] == tiling.tile[1] >= last and tiling.symmetric
        last = tiling.tile[0]
    assert last == 200


def test_tiles_are_never_large(framework):
    _, kernel = kernel_of(framework, 4000)
    tiling = choose_tiling(kernel, None, 1 << 40)
    assert tile_bytes(tiling.task, tiling.tile) <= 32 << 20
    assert tiling.tile[0] * tiling.grid.counts[0] - 4000 < tiling.grid.counts[0], "even cuts"


def test_a_rectangular_kernel_is_cut_on_its_larger_side(framework):
    _, kernel = kernel_of(framework, 4000)
    _, other = kernel_of(framework, 3)
    tiling = choose_tiling(replace(kernel, right=other.left), None, 1 << 40)
    assert tiling.tile[1] == 3 and not tiling.symmetric

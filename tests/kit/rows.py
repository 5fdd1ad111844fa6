"""Jacobian rows of a use, in NumPy loops: what each kind means, said once more and independently."""

from __future__ import annotations

import itertools
import math

import numpy as np

from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use


def jacobian_of_uses(uses, shapes, n, n_seeds):
    """Per leaf the dense rows ``(n, s, *leaf)``: the sum over its uses, placed where each view reads the leaf."""
    leaves = [np.zeros((n, n_seeds, math.prod(shape)), dtype=np.complex128) for shape in shapes]
    for use in uses:
        rows = view_rows(use)
        assert rows.shape == (n, n_seeds, *use.view.shape), (rows.shape, use.kind, use.view)
        index = use.view.indices().reshape(-1)
        assert np.unique(index).size == index.size, "a view repeats an entry of its leaf"
        leaves[use.leaf][:, :, index] += rows.reshape(n, n_seeds, -1)
    return [leaf.reshape(n, n_seeds, *shape) for leaf, shape in zip(leaves, shapes, strict=True)]


def view_rows(use: Use):
    """Rows in the view's own coordinates, ``(n, s, *view)``."""
    g = np.asarray(use.cotangent)
    g = g.astype(np.result_type(g.dtype, np.float64))
    a = None if use.activation is None else np.asarray(use.activation)
    match use.kind:
        case Identity():
            return g
        case Einsum():
            return _einsum_rows(use.kind, a, g)
        case Gather(positions):
            return _gather_rows(positions, a, g, use.view.shape)
        case Conv():
            return _conv_rows(use.kind, a, g, use.view.shape)


def _einsum_rows(kind, a, g):
    letters = {}
    names = [*(kind.activation or ()), *kind.cotangent]
    for name in names:
        letters.setdefault(name, chr(ord("a") + len(letters)))
    spell = lambda labels: "".join(letters[label] for label in labels)
    if a is None:
        return np.einsum(f"NS{spell(kind.cotangent)}->NS{spell(kind.weight)}", g)
    spec = f"N{spell(kind.activation)},NS{spell(kind.cotangent)}->NS{spell(kind.weight)}"
    return np.einsum(spec, a.astype(np.result_type(a.dtype, np.float64)), g)


def _gather_rows(positions, a, g, view):
    n, s = g.shape[:2]
    assert np.issubdtype(a.dtype, np.integer)
    assert a.size == 0 or (a.min() >= 0 and a.max() < view[0]), "an index is out of range"
    rows = np.zeros((n, s, *view), dtype=g.dtype)
    for where in itertools.product(*(range(size) for size in a.shape)):
        example, position = where[0], where[1:]
        rows[example, :, a[where]] += g[(example, slice(None), *position)]
    return rows


def _conv_rows(kind, a, g, view):
    """``rows[w, i, c] = Σ_p x[p·stride + w·dilation - low][group(c), i] · g[p, c]`` over a dilated, padded input."""
    n, s = g.shape[:2]
    *window, c_in, c_out = view
    assert tuple(window) == kind.window
    rows = np.zeros((n, s, *view), dtype=np.result_type(a.dtype, g.dtype, np.float64))
    space, out_space = a.shape[1:-1], g.shape[2:-1]
    for w in itertools.product(*(range(size) for size in window)):
        for p in itertools.product(*(range(size) for size in out_space)):
            source = []
            for d in range(len(window)):
                at = p[d] * kind.strides[d] + w[d] * kind.dilation[d] - kind.padding[d][0]
                inside = 0 <= at < (space[d] - 1) * kind.input_dilation[d] + 1
                source.append(at // kind.input_dilation[d] if inside and at % kind.input_dilation[d] == 0 else None)
            if None in source:
                continue
            for c in range(c_out):
                first = c // (c_out // kind.groups) * c_in
                x = a[(slice(None), *source, slice(first, first + c_in))]
                rows[(slice(None), slice(None), *w, slice(None), c)] += x[:, None] * g[(..., *p, c)][:, :, None]
    return rows

"""Every candidate of every form of component gives the same numbers as rows written out."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jacgram.arrays import adapter
from jacgram.contract.component import Factors, contract
from jacgram.core.patterns import Pattern
from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use
from jacgram.core.views import View
from jacgram.plan import dealing
from jacgram.plan.choose import candidates, choose
from jacgram.plan.components import Form, components
from jacgram.plan.device import TYPICAL
from jacgram.plan.triangle import Triangle, panel_size
from jacgram.plan.wanted import wanted
from kit.rows import jacobian_of_uses

N1, N2, S = 3, 2, 4
RNG = np.random.default_rng(0)


def _normal(*shape):
    return RNG.standard_normal(shape)


def dense(n, leaf=(5, 4), t=3, *, view=None, transposed=False):
    view = view or View.of(leaf)
    weight = ("k", "i") if transposed else ("i", "k")
    sizes = dict(zip(weight, view.shape, strict=True))
    return Use(0, view, Einsum(("t", "i"), ("t", "k"), weight), _normal(n, t, sizes["i"]), _normal(n, S, t, sizes["k"]))


def bias(n):
    return Use(0, View.of((4,)), Einsum(None, ("t", "k"), ("k",)), None, _normal(n, S, 3, 4))


def scale(n):
    return Use(0, View.of((4,)), Einsum(("t", "k"), ("t", "k"), ("k",)), _normal(n, 3, 4), _normal(n, S, 3, 4))


def stacked(n):
    kind = Einsum(("l", "t", "i"), ("t", "l", "k"), ("l", "i", "k"))
    return Use(0, View.of((2, 3, 4)), kind, _normal(n, 2, 5, 3), _normal(n, S, 5, 2, 4))


def lone_positions(n):
    kind = Einsum(("t", "u", "i"), ("t", "r", "k"), ("i", "k"))
    return Use(0, View.of((5, 4)), kind, _normal(n, 3, 2, 5), _normal(n, S, 3, 2, 4))


def table(n, t=3):
    index = RNG.integers(0, 6, (n, t, 2))
    return Use(0, View.of((6, 4)), Gather(2), index, _normal(n, S, t, 2, 4))


def table_by_column(n):
    view = View.of((4, 6)).transpose((1, 0))
    return Use(0, view, Gather(1), RNG.integers(0, 6, (n, 3)), _normal(n, S, 3, 4))


def conv(n, *, space=(6, 5), groups=1, torch_layout=False, **changes):
    plain = Conv((3, 2), (2, 1), ((1, 1), (0, 1)), input_dilation=(1, 1), dilation=(1, 2), groups=groups)
    kind = replace(plain, **changes)
    c_in, c_out = 2 * groups, 2 * groups
    out = tuple(
        ((s - 1) * e + 1 + sum(p) - (d * (w - 1) + 1)) // k + 1
        for s, e, p, d, w, k in zip(
            space, kind.input_dilation, kind.padding, kind.dilation, kind.window, kind.strides, strict=True
        )
    )
    view = View.of((*kind.window, 2, c_out))
    if torch_layout:
        view = View.of((c_out, 2, *kind.window)).transpose((2, 3, 1, 0))
    return Use(0, view, kind, _normal(n, *space, c_in), _normal(n, S, *out, c_out))


def identity(n, leaf=(5, 4)):
    return Use(0, View.of(leaf), Identity("test"), None, _normal(n, S, *leaf))


PART = View.of((5, 4)).slice((1, 0), (3, 4))
MODELS = {
    "dense": ((5, 4), [dense], [dense], Form.NETWORK),
    "dense of one position": ((5, 4), [lambda n: dense(n, t=1)], [lambda n: dense(n, t=1)], Form.NETWORK),
    "dense used twice": ((5, 4), [dense, lambda n: dense(n, t=2)], [dense], Form.NETWORK),
    "dense with lone positions": ((5, 4), [dense, lone_positions], [lone_positions], Form.NETWORK),
    "dense transposed on one side": ((5, 4), [dense], [lambda n: dense(n, transposed=True)], Form.NETWORK),
    "dense, and transposed": ((5, 4), [dense, lambda n: dense(n, transposed=True)], [dense], Form.ROWS),
    "bias": ((4,), [bias, bias], [bias], Form.NETWORK),
    "scale": ((4,), [scale], [scale, scale], Form.NETWORK),
    "scale against bias": ((4,), [scale], [bias], Form.NETWORK),
    "scale and bias": ((4,), [scale, bias], [bias], Form.ROWS),
    "stacked weight": ((2, 3, 4), [stacked], [stacked], Form.NETWORK),
    "table": ((6, 4), [table], [table, lambda n: table(n, 1)], Form.TABLE),
    "table by column": ((4, 6), [table_by_column], [table_by_column], Form.TABLE),
    "table and dense": ((6, 4), [table, lambda n: dense(n, (6, 4))], [table], Form.ROWS),
    "convolution": ((3, 2, 2, 2), [conv], [conv], Form.NETWORK),
    "convolution in groups": (
        (4, 2, 3, 2),
        [lambda n: conv(n, groups=2, torch_layout=True)],
        [lambda n: conv(n, groups=2, torch_layout=True, strides=(1, 1))],
        Form.NETWORK,
    ),
    "transposed convolution": (
        (3, 2, 2, 2),
        [lambda n: conv(n, input_dilation=(2, 3), padding=((-1, 2), (0, 0)))],
        [conv],
        Form.NETWORK,
    ),
    "convolution used twice": ((3, 2, 2, 2), [conv, lambda n: conv(n, space=(4, 7))], [conv], Form.NETWORK),
    "pointwise convolution": (
        (1, 1, 2, 2),
        [lambda n: conv(n, window=(1, 1), strides=(1, 1), padding=((0, 0), (0, 0)))],
        [lambda n: conv(n, window=(1, 1), strides=(1, 1), padding=((0, 0), (0, 0)))],
        Form.NETWORK,
    ),
    "patch embedding": (
        (3, 2, 2, 2),
        [lambda n: conv(n, space=(6, 4), strides=(3, 2), dilation=(1, 1), padding=((0, 0), (0, 0)))],
        [conv],
        Form.NETWORK,
    ),
    "convolution and rows": ((3, 2, 2, 2), [conv, lambda n: identity(n, (3, 2, 2, 2))], [conv], Form.ROWS),
    "rows": ((5, 4), [identity], [identity], Form.NETWORK),
    "rows and dense": ((5, 4), [identity, dense], [dense], Form.ROWS),
    "part and whole": ((5, 4), [lambda n: dense(n, view=PART)], [dense], Form.ROWS),
    "flipped": ((5, 4), [lambda n: dense(n, view=View.of((5, 4)).flip([0]))], [dense], Form.ROWS),
}
PATTERNS = ["n i, m j -> n m i j", "n i, m i -> n m", "n i, m i -> i m", "n i, n j -> n i j", "n i, m j -> j"]


def _uses(makers, n):
    return [make(n) for make in makers]


def _native(xp, uses):
    convert = lambda array: None if array is None else _array(xp.name, array)
    return [Use(u.leaf, u.view, u.kind, convert(u.activation), convert(u.cotangent)) for u in uses]


def _array(framework, value):
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(value)
    import torch

    return torch.from_numpy(value)


def _reference(uses1, uses2, shape, n1, n2, labels):
    J1, J2 = (jacobian_of_uses(u, [shape], n, S)[0].reshape(n, S, -1) for u, n in ((uses1, n1), (uses2, n2)))
    kernel = np.einsum("nip,mjp->nimj", J1, J2.conj())
    letters = {name: chr(97 + k) for k, name in enumerate(dict.fromkeys(labels.left + labels.right))}
    spell = lambda names: "".join(letters[name] for name in names)
    return np.einsum(f"{spell(labels.left + labels.right)}->{spell(labels.out)}", kernel)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", MODELS)
def test_every_candidate(name, pattern, framework):
    if framework == "jax" and pattern not in (PATTERNS[0], PATTERNS[3]) and (name, pattern) != ("dense", PATTERNS[1]):
        pytest.skip("compiling takes the time: in JAX two patterns, of one model a trace, in PyTorch all")
    shape, left, right, form = MODELS[name]
    xp = adapter(framework)
    paired = pattern.startswith("n i, n")
    n1, n2 = (N1, N1) if paired else (N1, N2)
    uses1, uses2 = _uses(left, n1), _uses(right, n2)
    labels = Pattern.parse(pattern).fit((n1, S), (n2, S), examples=True)
    want = wanted(labels, (n1, S), (n2, S), examples=True)
    # A pattern that sums side 1's outputs on their own has them summed in the seeds.
    factors = []
    for side, uses in ((1, uses1), (2, uses2)):
        basis = want.basis(side)
        summed = [_summed(u, basis) for u in uses]
        factors.append(Factors(_native(xp, summed), (0, basis.shape[0]), [int(np.prod(shape))]))
    (component,) = components(factors[0].uses, factors[1].uses)
    assert component.form is form
    expected = _reference(uses1, uses2, shape, n1, n2, labels)
    every = list(candidates(component, want, TYPICAL, 8))
    if framework == "jax":  # compiled one by one: a few will do, among them slices of outputs where they are summed
        outputs = [c for c in every if (c.slice_label or "").startswith("y:")]
        every = every[:: max(1, len(every) // 3)] + outputs[:: max(1, len(outputs) // 3)]
    order = [want.block.index(label) for label in want.out]
    for choice in every:
        block = contract(xp, component, choice, want, tuple(factors), "float64", conjugate=False)
        found = np.transpose(xp.to_numpy(block), order)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max(), err_msg=str(choice))


@pytest.mark.parametrize("panels", [2, 4])
@pytest.mark.parametrize("pattern", ["n i, m j -> n m i j", "n i, m i -> m n"])
@pytest.mark.parametrize("name", ["dense", "dense used twice", "convolution", "table", "rows", "rows and dense"])
def test_panels_hold_the_triangle(name, pattern, panels, framework):
    """One side with itself: all from the diagonal panel on is as without panels, and zero is below it."""
    n = 5
    shape, makers, _, _ = MODELS[name]
    xp = adapter(framework)
    uses = _native(xp, _uses(makers, n))
    labels = Pattern.parse(pattern).fit((n, S), (n, S), examples=True)
    want = wanted(labels, (n, S), (n, S), examples=True)
    side = Factors(uses, (0, S), [int(np.prod(shape))])
    (component,) = components(uses, uses)
    every = list(candidates(component, want, TYPICAL, 8))
    block = panel_size(n, panels)
    computed = np.arange(n)[:, None] // block <= np.arange(n)[None, :] // block
    above = np.arange(n)[None, :] >= block * (np.arange(n)[:, None] // block)
    assert (above == computed).all()
    at = [want.block.index(want.example1), want.block.index(want.example2)]
    for choice in every[:: max(1, len(every) // (2 if framework == "jax" else 12))]:
        made = [
            xp.to_numpy(contract(xp, component, choice, want, (side, side), "float64", conjugate=False, panels=b))
            for b in (1, panels)
        ]
        whole, half = (np.moveaxis(array, at, (0, 1)) for array in made)
        np.testing.assert_allclose(half[above], whole[above], rtol=1e-9, atol=1e-9 * np.abs(whole).max())
        assert (half[~above] == 0).all()


@pytest.mark.parametrize("pattern", [PATTERNS[0], PATTERNS[1]])
@pytest.mark.parametrize(
    "name", ["dense", "dense used twice", "dense with lone positions", "stacked weight", "convolution"]
)
def test_shares_dealt_out_to_cores(name, pattern, framework, monkeypatch):
    """Rows whose columns are dealt out are the same rows, whole or in slices, of two sides and of one with itself."""
    if framework == "jax" and pattern != PATTERNS[0]:
        pytest.skip("compiling takes the time: in JAX one pattern, in PyTorch all")
    monkeypatch.setattr(dealing, "_LEAST_SUMMED", 1)
    monkeypatch.setattr(dealing, "_REPEATED", 1e9)
    n, xp = 4, adapter(framework)
    shape, makers, _, _ = MODELS[name]
    labels = Pattern.parse(pattern).fit((n, S), (n, S), examples=True)
    want = wanted(labels, (n, S), (n, S), examples=True)
    made = [_uses(makers, n) for _ in (1, 2)]
    seeds = [(0, want.basis(side).shape[0]) for side in (1, 2)]
    native = [
        _native(xp, [_summed(u, want.basis(side)) for u in uses]) for side, uses in zip((1, 2), made, strict=True)
    ]
    two = tuple(Factors(uses, of, [int(np.prod(shape))]) for uses, of in zip(native, seeds, strict=True))
    (component,) = components(*native)
    dealt = [c for c in candidates(component, want, replace(TYPICAL, shares=2), 8) if c.dealt is not None]
    assert dealt
    for choice in dealt[:: max(1, len(dealt) // 3)] if framework == "jax" else dealt:
        plain = replace(choice, dealt=None, shares=1)
        for sides in (two, (two[0], replace(two[0])) if seeds[0] == seeds[1] else two):
            (same,) = components(*(side.uses for side in sides))
            for panels in (1, 2) if sides[0].uses is sides[1].uses else (1,):
                found, expected = (
                    xp.to_numpy(contract(xp, same, c, want, sides, "float64", conjugate=False, panels=panels))
                    for c in (choice, plain)
                )
                np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def _both_sides(name, pattern, n, framework):
    """Of a model: its component, what is wanted, and its factors for two sides and for one with itself."""
    xp = adapter(framework)
    shape, makers, _, _ = MODELS[name]
    labels = Pattern.parse(pattern).fit((n, S), (n, S), examples=True)
    want = wanted(labels, (n, S), (n, S), examples=True)
    sides = [Factors(_native(xp, _uses(makers, n)), (0, S), [int(np.prod(shape))]) for _ in (1, 2)]
    (component,) = components(sides[0].uses, sides[1].uses)
    return xp, component, want, (tuple(sides), (sides[0], sides[0]))


@pytest.mark.parametrize(("panels", "products"), [(1, 1 + 1), (2, 2 + 3), (4, 4 + 10)])
def test_blocks_of_a_triangle_are_made_once_each(panels, products):
    """In JAX, where part of an array is a copy: of four examples, the rows of each block and each pair of blocks."""
    jax = pytest.importorskip("jax")
    xp, component, want, (_, one) = _both_sides("dense", PATTERNS[0], 4, "jax")
    rows = next(c for c in candidates(component, want, TYPICAL, 8) if c.order == "rows" and c.slice_label is None)

    def kernel(activation, cotangent):
        own = [replace(one[0].uses[0], activation=activation, cotangent=cotangent)]
        side = replace(one[0], uses=own)
        return contract(xp, component, rows, want, (side, side), "float64", conjugate=False, panels=panels)

    traced = str(jax.make_jaxpr(kernel)(one[0].uses[0].activation, one[0].uses[0].cotangent))
    assert traced.count("dot_general[") == products


LOOPED = ["dense", "dense used twice", "dense with lone positions", "stacked weight", "convolution", "scale"]


@pytest.mark.parametrize("pattern", PATTERNS[:2])
@pytest.mark.parametrize("name", LOOPED)
def test_rows_in_parts(name, pattern, framework):
    """Even parts or not, of the whole and of slices, of two sides and of one with itself: the same block."""
    xp, component, want, pairs = _both_sides(name, pattern, 4, framework)
    every = [c for c in candidates(component, want, TYPICAL, 8) if c.order == "rows" and not c.loop_windows]
    whole = next(c for c in every if c.slice_label is None and not c.by_example)
    weights = sorted({x for f in component.left for x in (*(f.activation or ()), *f.cotangent) if x.startswith("w")})
    assert weights
    for sides in pairs:
        plain = xp.to_numpy(contract(xp, component, whole, want, sides, "float64", conjugate=False))
        for label in weights[:: 1 if framework == "torch" else 2]:
            thin = [c for c in every if c.slice_label not in (None, label) and c.slice_size == 1]
            outputs = [(c, 2) for c in thin if c.slice_label.startswith("y:")]
            for choice, parts in ((whole, 2), (thin[0], 2), (thin[0], 3), *outputs[:1]):
                parted = replace(choice, parted=label, parts=parts)
                for panels in (1, 2) if sides[0] is sides[1] else (1,):
                    block = contract(xp, component, parted, want, sides, "float64", conjugate=False, panels=panels)
                    _assert_triangle(xp.to_numpy(block), plain, want, panels)


@pytest.mark.parametrize("pattern", [*PATTERNS[:2], "n i, m j -> m j n"])
@pytest.mark.parametrize("name", LOOPED)
def test_one_example_at_a_time(name, pattern, framework):
    """Every order, of two sides, of one with itself and of its triangle: the same block."""
    n = 4
    shape, makers, _, _ = MODELS[name]
    xp = adapter(framework)
    labels = Pattern.parse(pattern).fit((n, S), (n, S), examples=True)
    want = wanted(labels, (n, S), (n, S), examples=True)
    made = [_uses(makers, n) for _ in (1, 2)]
    native = [[_native(xp, [_summed(u, want.basis(k)) for u in uses]) for k in (1, 2)] for uses in made]
    seeds = [(0, want.basis(k).shape[0]) for k in (1, 2)]
    leaf = [int(np.prod(shape))]
    two = Factors(native[0][0], seeds[0], leaf), Factors(native[1][1], seeds[1], leaf)
    one = Factors(native[0][0], seeds[0], leaf)
    (component,) = components(two[0].uses, two[1].uses)
    every = [c for c in candidates(component, want, TYPICAL, 8) if c.by_example]
    assert len(every) == 15
    for sides in (two, (one, one)) if seeds[0] == seeds[1] else (two,):
        plain = xp.to_numpy(
            contract(xp, component, replace(every[0], by_example=False), want, sides, "float64", conjugate=False)
        )
        for choice in every[:: 1 if framework == "torch" else 6]:
            for panels in (1, 2) if sides[0] is sides[1] else (1,):
                block = contract(xp, component, choice, want, sides, "float64", conjugate=False, panels=panels)
                _assert_triangle(xp.to_numpy(block), plain, want, panels)


def _assert_triangle(found, whole, want, panels):
    """As the whole from the diagonal panel on, and zero below."""
    at = [want.block.index(want.example1), want.block.index(want.example2)]
    found, whole = (np.moveaxis(array, at, (0, 1)) for array in (found, whole))
    n = found.shape[0]
    block = panel_size(n, panels)
    above = np.arange(n)[None, :] >= block * (np.arange(n)[:, None] // block)
    np.testing.assert_allclose(found[above], whole[above], rtol=1e-9, atol=1e-9 * np.abs(whole).max())
    assert (found[~above] == 0).all()


@pytest.mark.parametrize("shares", [1, 2])
def test_slices_differentiated_on_one_side(shares, monkeypatch):
    """Memory that is used again from slice to slice must not be what a derivative needs later."""
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(dealing, "_LEAST_SUMMED", 1)
    monkeypatch.setattr(dealing, "_REPEATED", 1e9)
    xp, n = adapter("torch"), 3
    labels = Pattern.parse(PATTERNS[0]).fit((n, S), (n, S), examples=True)
    want = wanted(labels, (n, S), (n, S), examples=True)
    plain, other = _native(xp, [dense(n)]), _native(xp, [dense(n)])
    followed = [replace(u, cotangent=u.cotangent.requires_grad_()) for u in plain]
    sides = Factors(followed, (0, S), [20]), Factors(other, (0, S), [20])
    (component,) = components(followed, other)
    choices = [c for c in candidates(component, want, replace(TYPICAL, shares=shares), 8) if c.order == "rows"]
    choices += [replace(c, parted="w0", parts=2) for c in choices if c.slice_label == "w1"]
    choices += [c for c in candidates(component, want, TYPICAL, 8) if c.by_example]
    assert any(c.slice_label is not None and (c.dealt is None) == (shares == 1) for c in choices)
    found = [
        torch.autograd.grad(
            contract(xp, component, c, want, sides, "float64", conjugate=False).square().sum(), followed[0].cotangent
        )[0]
        for c in choices
    ]
    for gradient in found[1:]:
        torch.testing.assert_close(gradient, found[0])


def test_panels_of_a_triangle_count_their_share():
    labels = Pattern.parse("n i, m j -> n m i j").fit((8, S), (8, S), examples=True)
    want = wanted(labels, (8, S), (8, S), examples=True)
    uses = [dense(8)]
    (component,) = components(uses, uses)
    whole = choose(component, want, TYPICAL, 4, 1 << 30)
    shared = choose(component, want, TYPICAL, 4, 1 << 30, Triangle.of(want, 1, one=True))
    half = choose(component, want, TYPICAL, 4, 1 << 30, Triangle.of(want, 4, one=True))
    assert half.flops < shared.flops <= whole.flops
    assert Triangle.of(want, 4, one=True).ranges(7) == [(0, 2), (2, 2), (4, 2), (6, 1)]


def _summed(use, basis):
    return Use(use.leaf, use.view, use.kind, use.activation, np.einsum("ns...,zs->nz...", use.cotangent, basis))


@pytest.mark.parametrize("conjugate", [False, True])
def test_complex(conjugate, framework):
    xp = adapter(framework)
    kind = Einsum(("t", "i"), ("t", "k"), ("i", "k"))
    make = lambda n: Use(0, View.of((5, 4)), kind, _complex(n, 3, 5), _complex(n, S, 3, 4))
    other = lambda n: Use(0, View.of((5, 4)), Identity("test"), None, _complex(n, S, 5, 4))
    for makers in ([make], [make, other]):
        uses1, uses2 = _uses(makers, N1), _uses(makers, N2)
        labels = Pattern.parse("n i, m j -> n i m j").fit((N1, S), (N2, S), examples=True)
        want = wanted(labels, (N1, S), (N2, S), examples=True)
        factors = tuple(Factors(_native(xp, u), (0, S), [20]) for u in (uses1, uses2))
        (component,) = components(uses1, uses2)
        J1, J2 = (jacobian_of_uses(u, [(5, 4)], n, S)[0].reshape(n, S, -1) for u, n in ((uses1, N1), (uses2, N2)))
        expected = np.einsum("nip,mjp->nimj", J1, J2.conj() if conjugate else J2)
        for choice in itertools.islice(candidates(component, want, TYPICAL, 16), 0, None, 7):
            block = contract(xp, component, choice, want, factors, "complex128", conjugate=conjugate)
            np.testing.assert_allclose(xp.to_numpy(block), expected, rtol=1e-10)


def _complex(*shape):
    return _normal(*shape) + 1j * _normal(*shape)


def test_disjoint_parts_do_not_meet():
    view = View.of((4, 12))
    parts = [view.slice((0, 4 * k), (4, 4)) for k in range(3)]
    kind = Einsum(("t", "i"), ("t", "k"), ("i", "k"))
    uses = [Use(0, part, kind, _normal(1, 2, 4), _normal(1, S, 2, 4)) for part in parts]
    found = components(uses, uses)
    assert [(c.left[0].use, c.right[0].use, c.form) for c in found] == [(k, k, Form.NETWORK) for k in range(3)]

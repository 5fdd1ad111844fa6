"""The naive, obviously right answer, in float64: one backward pass for every row, then NumPy.

Nothing here is shared with the package. A Jacobian is a list with one `Rows` for each output leaf. It is that of the
whole batch, so nothing is assumed about examples. Leaves are in the order of `leaves`: dicts by sorted key.

    J1 = oracle.jacobian(f, x1, params)
    J2 = oracle.jacobian(f, x2, params)
    oracle.check(jacgram.ntk(f, x1, x2, params=params), oracle.gram(J1, J2))
"""

import copy
from typing import NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Derivative of one output leaf: ``leaves[k]`` is ``(y.size, leaf.size)`` for parameter leaf k."""

    shape: tuple[int, ...]
    leaves: list[np.ndarray]


def jacobian(f, x, params=None):
    """Dense Jacobian of ``f(params, x)`` to params, of a module ``f(x)`` to its parameters, or of ``f(x)`` to x."""
    if getattr(f, "__module__", "") != "kit.zoo":
        return _jacobian(f, x, params)
    # Many tests ask for the same model at the same point. Functions of the zoo close over nothing that could change.
    key = (f, *((a.shape, str(a.dtype), a.tobytes()) for a in map(to_numpy, [*leaves(x), *leaves(params)])))
    if key not in _KNOWN:
        _KNOWN[key] = _jacobian(f, x, params)
        for array in (array for rows in _KNOWN[key] for array in rows.leaves):
            array.setflags(write=False)
    return _KNOWN[key]


_KNOWN = {}


def _jacobian(f, x, params):
    arrays = leaves(x) if params is None else leaves(params)
    is_torch = hasattr(f, "named_parameters") or any(type(a).__module__.startswith("torch") for a in arrays)
    return _jacobian_torch(f, x, params) if is_torch else _jacobian_jax(f, x, params)


def leaves(tree):
    """Leaves of nested dicts (by sorted key), lists and tuples; a torch module's are its parameters with grad."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key])]
    if isinstance(tree, list | tuple):
        return [leaf for part in tree for leaf in leaves(part)]
    if hasattr(tree, "named_parameters"):
        return [leaf for leaf in tree.parameters() if leaf.requires_grad]
    return [tree]


# ------------------------------------------------------------------------------------------------------- products


def gram(J1, J2=None, pattern=None, *, examples=True, leaf=None):
    """``J1 @ J2ᴴ`` for each pair of output leaves, row-major; ``leaf`` keeps one parameter leaf's share.

    With examples and no pattern the axes are (n1, n2, *o1, *o2); without, those of y1 and then those of y2.
    """
    J2 = J1 if J2 is None else J2
    return [_apply(_full(a, b, leaf), len(a.shape), pattern, examples) for a in J1 for b in J2]


def matrix(J1, J2=None):
    """The product as one matrix: every row of every output leaf of side 1 by every one of side 2."""
    stacked = [np.concatenate([np.hstack(rows.leaves) for rows in J]) for J in (J1, J1 if J2 is None else J2)]
    return stacked[0] @ stacked[1].conj().T


def push(J, u):
    """``J @ u`` for leaves u: one array for each output leaf."""
    flat = [np.asarray(leaf).reshape(-1) for leaf in leaves(u)]
    return [sum(d @ v for d, v in zip(rows.leaves, flat, strict=True)).reshape(rows.shape) for rows in J]


def pull(J, v):
    """``J.T @ v`` for output leaves v: one flat array for each parameter leaf."""
    flat = [np.asarray(leaf).reshape(-1) for leaf in leaves(v)]
    return [sum(w @ rows.leaves[k] for w, rows in zip(flat, J, strict=True)) for k in range(len(J[0].leaves))]


def check(found, expected, rtol=1e-10):
    """Every leaf of ``found`` has the shape of its expected array, and equals it to rtol of the largest entry."""
    found = [to_numpy(leaf) for leaf in leaves(found)]
    assert [f.shape for f in found] == [e.shape for e in expected]
    for f, e in zip(found, expected, strict=True):
        scale = np.max(np.abs(e), initial=0.0)
        np.testing.assert_allclose(f, e, rtol=0, atol=rtol * scale if scale else rtol)


def to_numpy(array):
    """A NumPy array of either framework's array; bfloat16 as float64."""
    if hasattr(array, "detach"):
        array = array.detach().cpu().resolve_conj()
        array = array.double() if array.dtype.is_floating_point else array
    return np.asarray(array)


def _full(a, b, leaf):
    pairs = list(zip(a.leaves, b.leaves, strict=True))
    pairs = pairs if leaf is None else pairs[leaf : leaf + 1]
    return sum(d1 @ d2.conj().T for d1, d2 in pairs).reshape(a.shape + b.shape)


def _apply(kernel, rank1, pattern, examples):
    """The pattern's einsum over the full kernel, whose axes are those of y1 followed by those of y2."""
    rank2 = kernel.ndim - rank1
    if pattern is None:
        return np.moveaxis(kernel, rank1, 1) if examples else kernel
    sides, result = pattern.split("->")
    first, second = (side.split() for side in sides.split(","))
    dots = [f"_{k}" for k in range(max(rank1 - len(first), rank2 - len(second)) + 1)]
    names = [*_expand(first, dots), *_expand(second, dots)]
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    return np.einsum(kernel, [number[n] for n in names], [number[n] for n in _expand(result.split(), dots)])


def _expand(names, dots):
    return [part for name in names for part in (dots if name == "..." else [name])]


# --------------------------------------------------------------------------------------------- one row at a time


def _jacobian_jax(f, x, params):
    import jax
    import jax.numpy as jnp

    assert jax.config.jax_enable_x64, "the oracle needs float64: set JAX_ENABLE_X64=1"
    f, x, params = (jax.tree.map(_double_jax, tree) for tree in (f, x, params))
    own = hasattr(f, "__dataclass_fields__") and params is None  # an Equinox module: J to its own arrays
    held, treedef = jax.tree.flatten(f if own else x if params is None else params)
    moving = [k for k, leaf in enumerate(held) if _inexact_jax(leaf)]

    def outputs(variable):
        moved = dict(zip(moving, variable, strict=True))
        tree = jax.tree.unflatten(treedef, [moved.get(k, leaf) for k, leaf in enumerate(held)])
        y = jax.vmap(tree)(x) if own else f(tree) if params is None else f(tree, x)
        return leaves(y)

    def flat(variable):
        return jnp.concatenate([part(y).reshape(-1) for y in outputs(variable) for part in (jnp.real, jnp.imag)])

    variable = [held[k] for k in moving]
    values, pullback = jax.vjp(flat, variable)
    row = jax.jit(pullback)
    rows = [row(seed)[0] for seed in jnp.eye(values.size)]
    # JAX gives ∂L/∂a - i ∂L/∂b for a real L of a + ib: conjugated, it is what torch gives.
    gradients = [np.stack([np.conj(row[k]).reshape(-1) for row in rows]) for k in range(len(variable))]
    return _assemble([np.asarray(y) for y in outputs(variable)], gradients)


def _double_jax(leaf):
    import jax.numpy as jnp

    return jnp.asarray(leaf, complex if jnp.iscomplexobj(leaf) else float) if _inexact_jax(leaf) else leaf


def _inexact_jax(leaf):
    import jax.numpy as jnp

    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _jacobian_torch(f, x, params):
    import torch

    f, x, params = (_double_torch(tree, torch) for tree in (f, x, params))
    if params is not None and hasattr(f, "named_parameters"):
        y, variable = torch.func.functional_call(f, params, (x,)), leaves(params)
    elif params is not None:
        y, variable = f(params, x), leaves(params)
    else:
        y, variable = f(x), leaves(f if hasattr(f, "named_parameters") else x)
    y = leaves(y)
    flat = torch.cat([part.reshape(-1) for leaf in y for part in (leaf.real, _imag(leaf, torch))])
    rows = [_row_torch(value, variable, torch) for value in flat]
    gradients = [np.stack([row[k].resolve_conj().numpy().reshape(-1) for row in rows]) for k in range(len(variable))]
    return _assemble([to_numpy(leaf) for leaf in y], gradients)


def _row_torch(value, variable, torch):
    if not value.requires_grad:
        return [torch.zeros_like(leaf.detach()) for leaf in variable]
    return torch.autograd.grad(value, variable, retain_graph=True, allow_unused=True, materialize_grads=True)


def _imag(leaf, torch):
    return leaf.imag if leaf.is_complex() else torch.zeros_like(leaf)


def _double_torch(tree, torch):
    """A copy in double precision whose inexact leaves require gradients (a module's: those that did)."""
    if isinstance(tree, dict):
        return {key: _double_torch(part, torch) for key, part in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_double_torch(part, torch) for part in tree)
    if hasattr(tree, "named_parameters"):
        return copy.deepcopy(tree).double()
    if not isinstance(tree, torch.Tensor) or not (tree.is_floating_point() or tree.is_complex()):
        return tree
    dtype = torch.complex128 if tree.is_complex() else torch.float64
    return tree.detach().cpu().to(dtype).clone().requires_grad_()


def _assemble(values, gradients):
    """Rows from the gradients ``∂/∂a + i ∂/∂b`` of Re y and Im y with respect to each leaf ``a + ib``.

    A complex y of real leaves is ∂Re + i ∂Im; one of complex leaves is holomorphic, so its derivative is that along a,
    the same formula. A real y of complex leaves is ∂/∂a - i ∂/∂b, twice the Wirtinger derivative.
    """
    result, start = [], 0
    for y in values:
        middle, end = start + y.size, start + 2 * y.size
        if np.iscomplexobj(y):
            blocks = [g[start:middle].real + 1j * g[middle:end].real for g in gradients]
        else:
            blocks = [g[start:middle].conj() for g in gradients]
        result.append(Rows(y.shape, blocks))
        start = end
    return result

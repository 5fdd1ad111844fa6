"""Rules of elementwise primitives."""

from __future__ import annotations

from jacgram.frontends.jax.linear.rules.layout import spread
from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Deferred, Term, Window


def same(term: Term, site: Site) -> Term | None:
    """The output has the term as the operand has it, repeated where the operand is: sums and casts."""
    return spread(term, site.shape, site.out_shape)


def same_if_bare(term: Term, site: Site) -> Term | None:
    """A rounding of values: followed on a leaf only."""
    return same(term, site) if term.bare else None


def scatter_add(term: Term, site: Site) -> Term | None:
    """What is scattered onto passes; what is scattered has no structure."""
    return same(term, site) if site.position == 0 else None


def neg(term: Term, site: Site) -> Term | None:
    """``-u̇``."""
    return same(term.scaled(Deferred((), lambda: -1)), site) if term.bare else None


def sub(term: Term, site: Site) -> Term | None:
    """``u̇ - v̇``."""
    return same(term, site) if site.position == 0 else neg(term, site)


def mul(term: Term, site: Site) -> Term | None:
    """``a u̇`` for a known ``a``, of the same shape or a scalar."""
    return _times(term, site, site.known(1 - site.position), 1 - site.position)


def div(term: Term, site: Site) -> Term | None:
    """``u̇ / a``."""
    divisor = site.known(1) if site.position == 0 else None
    return _times(term, site, None if divisor is None else divisor.map(lambda a: 1 / a), 1)


def select_n(term: Term, site: Site) -> Term | None:
    """``u̇`` where the known selector names this case, zero elsewhere."""
    selector, case, dtype = site.known(0), site.position - 1, site.outputs[0].dtype
    return _times(term, site, None if selector is None else selector.map(lambda s: (s == case).astype(dtype)), 0)


def _times(term: Term, site: Site, factor: Deferred | None, position: int) -> Term | None:
    """The term times a known operand, which is repeated where it has size one."""
    if factor is None or not term.bare:
        return None
    repeated = spread(term, site.shape, site.out_shape)
    shape = site.operands[position].shape
    if repeated is None or not shape:
        return None if repeated is None else repeated.scaled(factor)
    along = [axis for axis, size in enumerate(shape) if size == site.out_shape[axis]]
    cut = tuple(
        (repeated.windows[axis] or Window(0, shape[axis])).slice if axis in along else 0 for axis in range(len(shape))
    )
    labels = [repeated.value[axis] for axis in along]
    return repeated.times(factor.map(lambda a: a[cut]), labels, repeated.value, repeated.windows)

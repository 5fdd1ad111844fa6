"""The rule of dot_general: a leaf meets its activation."""

from __future__ import annotations

from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Term, fresh


def dot_general(term: Term, site: Site) -> Term | None:
    """``u̇ · a`` or ``a · u̇`` over any axes, with any batch axes.

    Where an axis that both have is only partly the term's, that part of the residual is taken.
    """
    mine, other = site.position, 1 - site.position
    residual = site.known(other)
    if residual is None or not term.bare:
        return None
    contract, batch = site.params["dimension_numbers"]
    shared = dict(zip((*contract[other], *batch[other]), (*contract[mine], *batch[mine]), strict=True))
    rank = len(site.operands[other].shape)
    labels = [term.value[shared[axis]] if axis in shared else fresh(1)[0] for axis in range(rank)]
    cut = [term.windows[shared[axis]] if axis in shared else None for axis in range(rank)]
    parts = tuple(slice(None) if window is None else window.slice for window in cut)
    if any(cut):
        residual = residual.map(lambda a: a[parts])
    free = [axis for axis in range(len(site.shape)) if axis not in contract[mine] and axis not in batch[mine]]
    free_value, free_windows = [term.value[a] for a in free], [term.windows[a] for a in free]
    free_other = [labels[axis] for axis in range(rank) if axis not in shared]
    nothing = [None] * len(free_other)
    value = [term.value[a] for a in batch[mine]]
    windows = [term.windows[a] for a in batch[mine]]
    if mine == 0:
        value, windows = [*value, *free_value, *free_other], [*windows, *free_windows, *nothing]
    else:
        value, windows = [*value, *free_other, *free_value], [*windows, *nothing, *free_windows]
    return term.times(residual, labels, value, windows)

"""Which weight axis of an order by rows is dealt out to the cores, each of which makes and multiplies its own columns.

A library that computes eagerly splits each product in its own way: what one core has written, another reads, from its
cache and not from its own. A batch it splits in equal shares, the first to the first core. So one weight axis of the
cotangents is cut into a share for each core, and the shares become the outermost batch axis of every step: no core
reads what another has made, until the blocks of all shares are added up. The activations, which do not have the axis,
are repeated for each share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jacgram.plan.network import Label, Network, Tree, order_name, product, steps

_LEAST_SUMMED = 2048  # columns from which on rows are worth it: fewer make calls that are too short
_REPEATED = 0.25  # of the rows' entries, that the repeated activations may have


def dealt_label(
    network: Network, tree: Tree, whole: Mapping[Label, int], sizes: Mapping[Label, int], shares: int
) -> Label | None:
    """The weight axis to deal out in so many shares; None where it does not pay, or no axis can be.

    The cotangents are copied for it, so they have to be those that are copied anyway.

    Args:
        whole: size of every label.
        sizes: the same in one slice.
    """
    if shares < 2 or len(network.operands) != 4 or order_name(network, tree) != "rows":
        return None
    *own, last = (product(step, sizes) for step in steps(network, tree))
    if last.batch > 1 or last.k < _LEAST_SUMMED or not all(rows.turned[1] and rows.k > 1 for rows in own):
        return None
    if repeated_entries(network, whole, shares) > _REPEATED * (last.entries[0] + last.entries[1]):
        return None
    a1, g1, a2, g2 = network.operands
    ours = [x for x in g1 if x in g2 and x.startswith("w") and x not in (*a1, *a2, *network.out)]
    even = [x for x in ours if whole[x] % shares == sizes[x] % shares == 0]
    return max(even, key=lambda x: sizes[x], default=None)


def repeated_entries(network: Network, whole: Mapping[Label, int], shares: int) -> int:
    """Entries of the activations of two sides, once for each share: they are made once, for all slices."""
    return shares * sum(math.prod(whole[x] for x in labels) for labels in network.operands[::2])

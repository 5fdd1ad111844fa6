"""Which axis of a slice of rows is taken in parts, that a compiled program may contract side by side.

Such a program starts at once what waits for nothing else, but the steps of a loop come in turn. In each, the rows of a
side are made in a batch, and multiplied in strips of columns that need not divide among the cores: cores wait. A slice
in parts has something else to do for them, and a part small enough to stay in one core's cache. The cut goes through an
axis that whatever is sliced has not, such as an activation's features where cotangents are sliced: it is made once, and
each slice of the cotangents is laid out once, for all parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from jacgram.plan.network import Label, Network

# Measured over layers by themselves: the working set of a slice has to be so large to be worth its parts, and not so
# large that these would leave the cache; parts of fewer columns were up to twice as slow.
_LEAST_BYTES = 1 << 22
_MOST_BYTES = 20 << 20
_LEAST_COLUMNS = 32


def in_parts_is_worth_it(slice_bytes: int) -> bool:
    """Whether a slice with this working set is large enough to be cut, and its parts small enough."""
    return _LEAST_BYTES <= slice_bytes <= _MOST_BYTES


def parted_label(network: Network, sizes: Mapping[Label, int], sliced: Label | None, parts: int) -> Label | None:
    """The weight axis to cut in so many parts: of those the sliced operands have not, that of the smallest ones."""
    if len(network.operands) != 4:
        return None
    loose = {x for labels in network.operands if sliced not in labels for x in labels}
    fixed = {x for labels in network.operands if sliced in labels for x in labels}
    able = [x for x in sizes if x.startswith("w") and x in loose - fixed - {*network.out} and sizes[x] >= parts]
    able = [x for x in able if _columns(network, sizes, x) >= _LEAST_COLUMNS * parts]
    return min(able, key=lambda x: (_entries(network, sizes, x), -sizes[x]), default=None)


def parts_entries(network: Network, sizes: Mapping[Label, int], label: Label, parts: int) -> int:
    """Entries that parts take beside their slice: the operands that are cut, and a result of each part."""
    return _entries(network, sizes, label) + parts * math.prod(sizes[x] for x in network.out)


def _columns(network: Network, sizes: Mapping[Label, int], label: Label) -> int:
    """Columns of rows that an operand with this axis makes: its weight axes, which are one in a product."""
    return min(math.prod(sizes[x] for x in own if x.startswith("w")) for own in network.operands if label in own)


def _entries(network: Network, sizes: Mapping[Label, int], label: Label) -> int:
    return sum(math.prod(sizes[x] for x in labels) for labels in network.operands if label in labels)

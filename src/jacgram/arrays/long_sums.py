"""A long contraction in single precision as a sum of short ones, where that is worth it.

Libraries add up 10⁴ products one by one, to an error of 1e-6 and more. Blocks of about a thousand, added up in turn,
are ten times as accurate and take the same time.
"""

from __future__ import annotations

import math
import string
from functools import lru_cache

Shape = tuple[int, ...]

_LONG = 4096  # products added up one after the other, from which on their rounding shows


@lru_cache(maxsize=4096)
def in_blocks(spec: str, shapes: tuple[Shape, Shape]) -> tuple[str, tuple[Shape, ...]] | None:
    """The einsum ``spec`` of two operands with its longest sum in blocks, to be added up along a new first axis.

    Returns:
        The spec and the shapes that operands are to be taken in; None where it is not worth it.
    """
    sources, out = spec.split("->")
    terms = sources.split(",")
    sizes = dict(zip("".join(terms), (size for shape in shapes for size in shape), strict=True))
    summed = [x for x in terms[0] if terms[0].count(x) == terms[1].count(x) == 1 and x not in out]
    longest = max(summed, key=sizes.__getitem__, default="")
    if not longest or sizes[longest] < _LONG:
        return None
    size = sizes[longest]
    blocks = next((b for b in range(size // 1024, 1, -1) if size % b == 0), 1)
    if blocks == 1 or 16 * blocks * math.prod(sizes[x] for x in out) > sum(map(math.prod, shapes)):
        return None
    extra = next(letter for letter in string.ascii_letters if letter not in spec)
    cut = tuple(
        (*shape[: term.index(longest)], blocks, size // blocks, *shape[term.index(longest) + 1 :])
        for term, shape in zip(terms, shapes, strict=True)
    )
    words = ",".join(term.replace(longest, extra + longest) for term in terms)
    return f"{words}->{extra}{out}", cut

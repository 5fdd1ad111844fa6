"""What a device can do, in a few measured figures, and the time a product or a copy takes on it by that account.

A roofline: a product takes the longer of its arithmetic and of reading its operands, at a rate that depends on whether
an array fits the caches; writing its result comes on top. Each thin side slows the arithmetic down by itself: what a
product by slivers of 16 takes longer than one by large matrices, it takes for each of its three sides that is a sliver.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from jacgram.errors import ArgumentError
from jacgram.plan.network import Product

Table = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Device:
    """Measured figures of one device, or figures of the caller's own.

    Attributes:
        name: what was measured.
        products: (side, rate in flop/s) of float32 matrix products with one kept side of this size, by growing side.
        copies: (size in bytes, rate in bytes/s) of reading and writing an array, by growing size.
        call_s: seconds of overhead of one array operation.
        turns_per_s: bytes/s of copying an array to another order of its axes.
        sums: (side, rate) where it is the summed side that has this size; empty for as ``products``.
        overhead: bytes that the process grows by for each byte that is held, for an allocator leaves holes.
        reused_bytes: working memory that is handed out again uncleared; what is beyond comes fresh from the system,
            or, where ``compiled``, all of it if it is larger; 0 there says that more is taken up anyway.
        batched_flops_per_s: rate of a batch of small products, which may be one core's each; 0 for that of large ones.
        pass_bytes: what a pass over a few examples may take, so that it is faster than one over all.
        shares: cores that a batch of products is dealt out to, in equal shares and always in the same order; 1 where it
            is not so dealt out.
        views: whether part of an array is taken without a copy.
        abreast: parts of a slice that are best contracted side by side, where products run so; 1 where they do not. Up
            to so many pairs of a triangle's blocks are priced as running so too.
        compiled: whether a kernel is one program compiled for cores. Its working memory is one piece, all of which
            comes fresh where it is larger than ``reused_bytes``; a slice is cut out and laid out anew in one go.

    Example:
        >>> import jacgram
        >>> slow = jacgram.Device("mine", products=((1, 1e9), (1024, 1e11)), copies=((1e6, 1e10),), call_s=1e-5)
        >>> method = jacgram.Auto(device=slow)
    """

    name: str
    products: Table
    copies: Table
    call_s: float
    overhead: float = 1.0
    turns_per_s: float = 4e9
    sums: Table = ()
    reused_bytes: float = 2.0**22
    batched_flops_per_s: float = 0.0
    pass_bytes: float = 6.0 * 2**20
    shares: int = 1
    views: bool = True
    abreast: int = 1
    compiled: bool = False

    def __post_init__(self) -> None:
        for name in ("products", "copies", "sums"):
            _check_table(name, getattr(self, name), may_be_empty=name == "sums")
        for name in ("views", "compiled"):
            _check_flag(name, getattr(self, name))
        for name in ("call_s", "reused_bytes", "batched_flops_per_s"):
            _check_number(name, getattr(self, name), 0.0, inclusive=True)
        for name in ("overhead", "turns_per_s", "pass_bytes", "shares", "abreast"):
            _check_number(name, getattr(self, name), 0.0, inclusive=False)

    @property
    def flops_per_s(self) -> float:
        """Rate of a large product."""
        return self.products[-1][1]

    def product_s(self, product: Product, itemsize: int, reads_s: float, writes_s: float, beside: int = 1) -> float:
        """Seconds of one batched product: the longer of its arithmetic and of its reads, and its writes on top.

        Reads run ahead of the arithmetic; a result that leaves the caches is waited for, and so is its fresh memory.

        Args:
            beside: like products that run at the same time, so that none of them is divided among all cores: each is
                as fast as one of which the shorter side is so many times as long.
        """
        fastest, sums = 1 / self.flops_per_s, self.sums or self.products
        short, long = sorted((product.m, product.n))
        sides = (self.products, short * beside), (self.products, long), (sums, product.k)
        per_flop_s = fastest + sum(max(1 / _interpolate(table, side) - fastest, 0.0) for table, side in sides)
        if product.batch > 1 and product.m * product.n <= _SMALL and self.batched_flops_per_s:
            per_flop_s += max(1 / self.batched_flops_per_s - fastest, 0.0)
        return max(product.flops * (itemsize / 4) * per_flop_s, reads_s) + writes_s + self.call_s

    def copy_s(self, n_bytes: float, lies_in: float) -> float:
        """Seconds to read or write so many bytes of an array of ``lies_in`` bytes."""
        return n_bytes / _interpolate(self.copies, lies_in)

    def with_held(self, held_bytes: float) -> Device:
        """The same device where so much working memory is held by other things: of one piece, less is left to reuse.

        What is left is rounded down to a few sizes, for each of which prices are found once.
        """
        if not self.compiled or held_bytes <= 0 or math.isinf(self.reused_bytes):
            return self
        left = max(self.reused_bytes - held_bytes, 0.0) // _GRAIN_BYTES * _GRAIN_BYTES
        return replace(self, reused_bytes=left)

    def fresh_s(self, n_bytes: float, formed_bytes: float = 0.0) -> float:
        """Seconds that the system takes to clear so much working memory, once, but for what is reused.

        One piece comes fresh as a whole where it is larger than what is reused. Where nothing is left to reuse, it
        comes fresh anyway, and what a contraction adds to it is cleared; a small one lies where others have been. Each
        contraction of a kernel is priced so, though it is the largest that makes the piece larger.

        Args:
            n_bytes: what a contraction takes.
            formed_bytes: operands formed for it, or cut out of others, in the same piece. Not counted where nothing is
                left to reuse: plans of whole networks were measured so.
        """
        if self.compiled and self.reused_bytes > 0:
            whole = n_bytes + formed_bytes
            cleared = whole if self.comes_fresh(whole) else 0.0
        else:
            cleared = max(n_bytes - (_SMALL_BYTES if self.compiled else self.reused_bytes), 0.0)
        return cleared / self.copies[-1][1]

    def comes_fresh(self, n_bytes: float) -> bool:
        """Whether so much is likely to make one piece of working memory larger than what is reused.

        From 20 of 32 MiB on: a program's memory is laid out by its compiler, and foretold to about a third.
        """
        return self.compiled and 0 < _LIKELY * self.reused_bytes < n_bytes

    def to_json(self) -> str:
        """The figures as JSON text."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Device:
        """The figures that `to_json` wrote; ValueError, KeyError, TypeError or ArgumentError where they are none."""
        fields = json.loads(text)
        tables = fields["products"], fields["copies"], fields.get("sums", ())
        products, copies, sums = (tuple((float(x), float(y)) for x, y in table) for table in tables)
        numbers = {key: float(fields[key]) for key in _NUMBERS if key in fields}
        others: dict[str, Any] = {key: int(fields[key]) for key in ("shares", "abreast") if key in fields}
        others |= {key: fields[key] for key in ("views", "compiled") if key in fields}
        return Device(str(fields["name"]), products, copies, sums=sums, **numbers, **others)


def _check_table(name: str, table: object, *, may_be_empty: bool) -> None:
    rows = table if isinstance(table, tuple) else None
    right = rows is not None and all(
        isinstance(row, tuple) and len(row) == 2 and all(_is_number(x) and 0 < x < math.inf for x in row)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        for row in rows
    )
    keys = [row[0] for row in rows or ()] if right else []  # pyright: ignore[reportUnknownVariableType]
    if not right or keys != sorted(keys) or not (keys or may_be_empty):
        raise ArgumentError(
            f"Device({name}=...) must be a tuple of pairs (size, rate) by growing size, all of them positive, got "
            f"{table!r}. Fix: pass for example ((1, 1e9), (1024, 1e11))."
        )


def _check_number(name: str, value: object, least: float, *, inclusive: bool) -> None:
    if not _is_number(value) or not (least < value or (inclusive and value == least)):  # pyright: ignore[reportOperatorIssue]
        raise ArgumentError(
            f"Device({name}=...) must be a number {'of at least' if inclusive else 'above'} {least:g}, got {value!r}."
        )


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ArgumentError(f"Device({name}=...) must be True or False, got {value!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_NUMBERS = ("call_s", "overhead", "turns_per_s", "reused_bytes", "batched_flops_per_s", "pass_bytes")
_GRAIN_BYTES = 1 << 22
_LIKELY = 0.625  # of what is reused: a piece foretold as larger may be larger than all of it
_SMALL_BYTES = 1 << 22  # of a contraction that hardly makes the working memory of a program any larger
_SMALL = 512 * 512  # entries of a product's result up to which it may be one core's work


@lru_cache(maxsize=1 << 16)
def _interpolate(table: Table, at: float) -> float:
    """Piecewise linear between logarithms, constant outside."""
    keys = [key for key, _ in table]
    position = bisect_left(keys, at)
    if position == 0:
        return table[0][1]
    if position == len(table):
        return table[-1][1]
    (x0, y0), (x1, y1) = table[position - 1], table[position]
    share = (math.log(at) - math.log(x0)) / (math.log(x1) - math.log(x0))
    return math.exp(math.log(y0) + share * (math.log(y1) - math.log(y0)))


TYPICAL = Device(
    "two typical CPU cores",
    products=((1, 3e9), (4, 1.5e10), (16, 6e10), (64, 1.4e11), (256, 2.2e11), (1024, 2.8e11)),
    copies=((2.5e5, 4e10), (4e6, 2e10), (6.4e7, 8e9)),
    call_s=3e-6,
)

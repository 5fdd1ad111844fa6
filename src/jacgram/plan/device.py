"""What a device can do, in four figures, and the time a matrix product or a copy takes on it by that account."""

from __future__ import annotations

from dataclasses import dataclass

from jacgram.plan.network import Product


@dataclass(frozen=True, slots=True)
class Device:
    """A roofline with a penalty for thin products.

    Attributes:
        name: what was measured.
        flops_per_s: rate of a large float32 matrix product.
        bytes_per_s: rate at which a large array is read and written by a copy.
        call_s: overhead of one array operation.
        half_size: smallest side of a product at which half the large-product rate is reached.
    """

    name: str
    flops_per_s: float
    bytes_per_s: float
    call_s: float
    half_size: float

    def product_s(self, product: Product, itemsize: int) -> float:
        """Seconds of one batched product: the slower of arithmetic, slowed by thin sides, and memory traffic."""
        slow = 1.0
        for side in (product.m, product.n, product.k):
            slow += self.half_size / max(side, 1)
        arithmetic = product.flops * slow * (itemsize / 4) / self.flops_per_s
        traffic = product.entries * itemsize / self.bytes_per_s
        return max(arithmetic, traffic) + self.call_s

    def copy_s(self, n_bytes: float) -> float:
        """Seconds to move so many bytes."""
        return n_bytes / self.bytes_per_s + self.call_s


TYPICAL = Device("two typical CPU cores", 2.0e11, 1.0e10, 2.0e-6, 8.0)

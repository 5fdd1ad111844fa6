"""The array primitives every adapter offers. Axis sizes are static; ``start`` arguments may be traced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


class Buffer:
    """Memory that is taken once, and reused: by what it is for, the array that was last taken for it."""

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Windows:
    """Windows on one axis: entry ``w`` of window ``p`` is the axis's at ``start + p stride + w dilation``."""

    count: int
    size: int
    start: int
    stride: int
    dilation: int

    @property
    def read(self) -> int:
        """Entries from the first that is read to the last."""
        return (self.count - 1) * self.stride + (self.size - 1) * self.dilation + 1 if self.count and self.size else 0


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a framework on a kind of device without measuring it; by default, on a CPU.

    Attributes:
        overhead: bytes that the process grows by for each byte held; 1 where a program's memory is laid out at once.
        reused_bytes: working memory that is handed out again from call to call, without the system clearing it first.
            glibc keeps pieces of up to 32 MiB when they are freed (mallopt(3), M_MMAP_THRESHOLD).
        pass_bytes: what a pass over a few examples may take, so that it is faster than one over all: a core's cache.
        patch_entries: entries of a convolution's patches that are best laid out at once, where its cotangents have as
            many; examples beyond take turns, and one alone that has more is read window by window.
        shares: cores that a batch of products is dealt out to, in equal shares; 1 where it is not so dealt out.
        views: whether part of an array is taken without a copy.
        abreast: parts of a slice that are best contracted side by side, where products run so; 1 where they do not.
        compiled: whether a kernel is one program compiled for cores. Its working memory is one piece, all of which
            comes fresh where it is larger than ``reused_bytes``; a slice is cut out and laid out anew in one go.
        measured_sides: sizes of a kept side of products that are measured.
        measured_sums: sizes of the summed side of products that are measured; none where they are as those.
        measured_flops: operations of a product that is measured: what takes longer than starting it does.
        measured_bytes: bytes, read and written, of the largest copy that is measured: beyond caches.
    """

    overhead: float = 1.0
    reused_bytes: float = 2.0**25
    pass_bytes: float = 6.0 * 2**20
    patch_entries: int = 1 << 20
    shares: int = 1
    views: bool = True
    abreast: int = 1
    compiled: bool = False
    measured_sides: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    measured_sums: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    measured_flops: int = 1 << 26
    measured_bytes: int = 1 << 26


ON_GPU = Traits(
    reused_bytes=2.0**40,  # more than any device has: nothing is cleared, and nothing kept to caches
    pass_bytes=2.0**40,
    patch_entries=1 << 40,
    measured_flops=1 << 34,
    measured_bytes=1 << 29,
)


class Arrays(ABC):
    """One framework's arrays on one device. Equal for equal devices, and hashable.

    Attributes:
        name: the framework, ``"jax"`` or ``"torch"``.
    """

    name: str

    @property
    @abstractmethod
    def traits(self) -> Traits:
        """What is known of the device."""

    @abstractmethod
    def at(self, arrays: Sequence[Any]) -> Arrays:
        """The same on the device where the first of these arrays lies that lies anywhere."""

    @abstractmethod
    def einsum(self, spec: str, *operands: Any, buffer: Buffer | None = None) -> Any:
        """One einsum over one or two operands, in full precision of their dtype.

        ``buffer`` may hold the result, which is then good until the next call with it.
        """

    def buffer(self, arrays: Sequence[Any]) -> Buffer | None:
        """Memory to be used again in each step of a loop over products of these arrays.

        None where programs lay out their memory themselves, or where what is done to an array is differentiated.
        """
        return None

    @abstractmethod
    def asarray(self, value: Any, like: Any) -> Any:
        """A NumPy array as a native array on the device of ``like``."""

    @abstractmethod
    def to_numpy(self, array: Any) -> Any:
        """A copy in host memory."""

    @abstractmethod
    def has(self, dtype: str) -> bool:
        """Whether arrays can be of the dtype of this name."""

    @abstractmethod
    def astype(self, array: Any, dtype: str) -> Any:
        """Cast to the dtype of this name."""

    @abstractmethod
    def zeros(self, shape: Sequence[int], dtype: str, like: Any) -> Any:
        """Zeros on the device of ``like``."""

    @abstractmethod
    def reshape(self, array: Any, shape: Sequence[int]) -> Any:
        """Same entries in row-major order, new shape."""

    @abstractmethod
    def transpose(self, array: Any, order: Sequence[int]) -> Any:
        """Axes in a new order."""

    def lay_out(self, array: Any, order: Sequence[int]) -> Any:
        """Axes in a new order, in memory too, unless programs lay out their memory themselves."""
        return self.transpose(array, order)

    @abstractmethod
    def concatenate(self, arrays: Sequence[Any], axis: int) -> Any:
        """Arrays laid one after the other along an axis."""

    @abstractmethod
    def sum(self, array: Any, axes: Sequence[int]) -> Any:
        """Sum over axes."""

    @abstractmethod
    def conj(self, array: Any) -> Any:
        """Complex conjugate; a real array unchanged."""

    @abstractmethod
    def real(self, array: Any) -> Any:
        """Real part; a real array unchanged."""

    @abstractmethod
    def slice(self, array: Any, axis: int, start: Any, size: int) -> Any:
        """``size`` entries along an axis from ``start``."""

    @abstractmethod
    def window(self, array: Any, starts: Sequence[int], sizes: Sequence[int], steps: Sequence[int]) -> Any:
        """A strided block, zero where it reaches outside of the array; starts may be negative."""

    @abstractmethod
    def patches(self, array: Any, axes: Sequence[Windows]) -> Any:
        """What windows on the axes between the first and the last see: ``(n, *counts, *sizes, c)``, zero outside."""

    @abstractmethod
    def spread(self, array: Any, axis: int, spacing: int) -> Any:
        """``spacing - 1`` zeros between neighbours along an axis."""

    @abstractmethod
    def place(self, rows: Any, index: Any, size: int) -> Any:
        """Zeros ``(*rows.shape[:-1], size)`` with ``rows`` at the static positions ``index`` of the last axis."""

    @abstractmethod
    def scatter_rows(self, index: Any, values: Any, size: int) -> Any:
        """Sums of ``values (n, s, t, k)`` by ``index (n, t)``: ``(n, s, size, k)``; indices outside are dropped."""

    @abstractmethod
    def equal(self, left: Any, right: Any, dtype: str) -> Any:
        """``left == right`` under broadcasting, as zeros and ones of a dtype."""

    @abstractmethod
    def fold(self, body: Callable[[Any, Any], Any], initial: Any, starts: Sequence[int]) -> Any:
        """``carry = body(start, carry)`` for each start in turn; the last carry."""

    @abstractmethod
    def collect(self, body: Callable[[Any], list[Any]], starts: Sequence[int]) -> list[Any]:
        """Arrays of ``body(start)`` for each start in turn, laid one after the other along their first axes."""

    @abstractmethod
    def vmap(self, function: Callable[[list[Any]], list[Any]], arguments: list[Any]) -> list[Any]:
        """A function of a list of arrays, at each position of their first axes; results stacked likewise."""

    @abstractmethod
    def when(self, condition: Any, body: Callable[[Any], Any], carry: Any) -> Any:
        """``body(carry)`` where the condition (which may be traced) holds, else ``carry``."""

    @abstractmethod
    def add(self, total: Any, part: Any) -> Any:
        """The sum of two arrays of one shape. The total given is no longer to be used."""

    @abstractmethod
    def add_block(self, buffer: Any, block: Any, starts: Sequence[Any]) -> Any:
        """The buffer with a block added at these starts. The buffer given is no longer to be used."""

    @abstractmethod
    def free_bytes(self) -> int:
        """Free memory of the device in bytes, for the default budget."""

    @abstractmethod
    def device_name(self) -> str:
        """What the device is, for figures kept from one process to the next."""

    @abstractmethod
    def seconds(self, function: Callable[..., Any], *arguments: Any) -> float:
        """Time of one call of a function of arrays, given as NumPy arrays: warm, compiled, the least of a few."""

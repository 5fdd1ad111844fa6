"""Uses: how a program reads one parameter leaf, and what its Jacobian rows are.

Linearised at (θ, x), a program uses a leaf in a few places, each ``u̇ = B(a, θ̇)``: bilinear in the leaf and in a
residual **activation** ``a``. With ``g`` the **cotangent** of ``u`` for each output seed, one row block of the
Jacobian is

    J_leaf[n, s, ·] = Σ_uses  rows(kind, a[n, …], g[n, s, …])

where ``n`` counts examples and ``s`` seeds (output directions). This record is all that planning and contraction know
of a model, whichever framework it was written in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jacgram.core.views import View


@dataclass(frozen=True, slots=True)
class Einsum:
    """Rows are one einsum: ``rows[n, s, *weight] = Σ_positions activation[n, …] · cotangent[n, s, …]``.

    Labels name the axes after ``n`` (activation) and after ``n, s`` (cotangent). A label of ``weight`` may be in the
    activation (an input feature), in the cotangent (an output feature) or in both (an elementwise scale, a stacked
    weight); every weight label is in at least one. Other labels are positions and are summed.

    Attributes:
        activation: labels of the activation's axes; None when there is no activation (a bias).
        cotangent: labels of the cotangent's axes.
        weight: labels of the view's axes, in the view's order.

    Example:
        >>> dense = Einsum(activation=("t", "i"), cotangent=("t", "k"), weight=("i", "k"))
        >>> bias = Einsum(activation=None, cotangent=("t", "k"), weight=("k",))
        >>> scale = Einsum(activation=("t", "k"), cotangent=("t", "k"), weight=("k",))
    """

    activation: tuple[str, ...] | None
    cotangent: tuple[str, ...]
    weight: tuple[str, ...]

    def __post_init__(self) -> None:
        known = {*(self.activation or ()), *self.cotangent}
        for labels in (self.activation or (), self.cotangent, self.weight):
            if len(set(labels)) != len(labels):
                raise ValueError(f"labels repeat in {labels!r} of {self!r}")
        if missing := set(self.weight) - known:
            raise ValueError(f"weight labels {sorted(missing)} are in neither operand of {self!r}")


@dataclass(frozen=True, slots=True)
class Conv:
    """Rows of a convolution kernel, channels last.

    The activation is ``(n, *space, c_in)``, the cotangent ``(n, s, *out_space, c_out)``, and the view has axes
    ``(*window, c_in / groups, c_out)``. Output channel ``c`` reads input channels of group ``c // (c_out / groups)``.
    ``out[p, c] = Σ_w x[p·stride + w·dilation - padding_low, …] · W[w, …, c]``, with ``input_dilation - 1`` zeros
    between neighbouring inputs.

    Attributes:
        window: kernel size along each spatial axis.
        strides: output stride along each spatial axis.
        padding: (low, high) zeros before and after each spatial axis; negative values crop.
        input_dilation: spacing of the inputs along each spatial axis (transposed convolution).
        dilation: spacing of the kernel's entries along each spatial axis.
        groups: number of channel groups.
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    input_dilation: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True, slots=True)
class Gather:
    """Rows of a table read by index: an embedding.

    The activation is an integer array ``(n, *positions)`` of indices into the view's first axis, all in range; the
    cotangent is ``(n, s, *positions, *features)``, and the view has axes ``(v, *features)``. A position whose index was
    out of range in the program has a zero cotangent. The one-hot activation this stands for is never formed.

    Attributes:
        positions: number of position axes.
    """

    positions: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Rows are the cotangent itself, ``(n, s, *view)``: always exact, never structured.

    Attributes:
        reason: why no structure was used, for the plan: the operation that had no rule, or the strategy that asked.
    """

    reason: str


Kind = Einsum | Conv | Gather | Identity


@dataclass(frozen=True, slots=True)
class Use:
    """One use of one leaf: where it reads, how, and with which activation and cotangent.

    Attributes:
        leaf: position of the leaf among the variable's leaves.
        view: which entries of the leaf are read, and in which axis order.
        kind: how rows follow from activation and cotangent.
        activation: array ``(n, …)``, or None where the kind has none. Anything with ``shape`` and ``dtype`` will do
            for planning.
        cotangent: array ``(n, s, …)``. Uses whose cotangents are the same object share it, and are contracted together.
    """

    leaf: int
    view: View
    kind: Kind
    activation: Any
    cotangent: Any

    def __post_init__(self) -> None:
        labels = _operand_ranks(self)
        for name, array, rank in labels:
            found = None if array is None else len(array.shape)
            if found != rank:
                raise ValueError(
                    f"{name} of a {type(self.kind).__name__} use has rank {found}, expected {rank}: {self.kind}"
                )

    @property
    def structured(self) -> bool:
        """Whether rows are left factorised."""
        return not isinstance(self.kind, Identity)


def _operand_ranks(use: Use) -> list[tuple[str, Any, int | None]]:
    rank = len(use.view.shape)
    match use.kind:
        case Einsum(activation, cotangent, weight):
            if len(weight) != rank:
                raise ValueError(f"{use.kind} names {len(weight)} axes of a view with {rank}: {use.view}")
            a_rank, g_rank = None if activation is None else 1 + len(activation), 2 + len(cotangent)
        case Conv(window):
            a_rank, g_rank = len(window) + 2, len(window) + 3
        case Gather(positions):
            a_rank, g_rank = 1 + positions, 2 + positions + rank - 1
        case Identity():
            a_rank, g_rank = None, 2 + rank
    return [("activation", use.activation, a_rank), ("cotangent", use.cotangent, g_rank)]

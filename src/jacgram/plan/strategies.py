"""Strategies: how the caller wants the kernel computed. Small frozen objects, given as ``method=``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from jacgram.errors import ArgumentError
from jacgram.plan.device import Device


class AbstractMethod:
    """Base of the strategies. Use one of `Auto`, `Structured`, `MatrixFree`, `Materialize`."""

    __slots__ = ()


@final
@dataclass(frozen=True, slots=True)
class Auto(AbstractMethod):
    """The cheapest plan that fits the memory budget.

    Attributes:
        device: figures to plan with, instead of those measured on this machine.

    Example:
        >>> import jacgram
        >>> jacgram.Auto()
        Auto(device=None)
    """

    device: Device | None = None

    def __post_init__(self) -> None:
        _check_device("Auto", self.device)


@final
@dataclass(frozen=True, slots=True)
class Structured(AbstractMethod):
    """Contract activations and cotangents of each parameter's uses; never hold a Jacobian.

    Attributes:
        strict: raise `UnsupportedError` where a use has no structure, instead of computing that leaf's rows per
            example (exact as well, and listed in the plan).
        device: figures to plan with, instead of those measured on this machine.

    Example:
        >>> import jacgram
        >>> jacgram.Structured(strict=True).strict
        True
    """

    strict: bool = False
    device: Device | None = None

    def __post_init__(self) -> None:
        _check_device("Structured", self.device)


@final
@dataclass(frozen=True, slots=True)
class MatrixFree(AbstractMethod):
    """J1 (J2ᵀ e) for blocks of rows e of side 2: backward passes through one f, forward passes through the other.

    Holds ``block`` vectors shaped as the variable, never a Jacobian. The known answer, ``vmap`` over the identity, is
    this with one block of all rows.

    Attributes:
        block: rows at a time; None lets the budget decide.
        device: figures to plan with, instead of those measured on this machine.

    Example:
        >>> import jacgram
        >>> jacgram.MatrixFree(block=4)
        MatrixFree(block=4, device=None)
    """

    block: int | None = None
    device: Device | None = None

    def __post_init__(self) -> None:
        _check_device("MatrixFree", self.device)
        is_count = isinstance(self.block, int) and not isinstance(self.block, bool) and self.block >= 1
        if self.block is not None and not is_count:
            raise ArgumentError(
                f"MatrixFree(block=…) must be None or a whole number of at least 1, got {self.block!r}."
            )


@final
@dataclass(frozen=True, slots=True)
class Materialize(AbstractMethod):
    """Form the rows of both Jacobians, a tile of examples at a time, and multiply them: the textbook way.

    Attributes:
        device: figures to plan with, instead of those measured on this machine.

    Example:
        >>> import jacgram
        >>> jacgram.Materialize()
        Materialize(device=None)
    """

    device: Device | None = None

    def __post_init__(self) -> None:
        _check_device("Materialize", self.device)


def _check_device(name: str, device: object) -> None:
    if device is not None and not isinstance(device, Device):
        raise ArgumentError(f"{name}(device=...) must be a jacgram.Device or None, got {device!r}.")


Method = Auto | Structured | MatrixFree | Materialize


def check_method(method: object) -> Method:
    """``method`` if it is a strategy, or an error that says which there are."""
    if isinstance(method, Auto | Structured | MatrixFree | Materialize):
        return method
    hint = " Call it: strategies are objects, as in Auto()." if isinstance(method, type) else ""
    raise ArgumentError(f"method must be Auto(), Structured(), MatrixFree() or Materialize(), got {method!r}.{hint}")

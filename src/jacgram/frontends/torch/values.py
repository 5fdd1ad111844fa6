"""The tensors the user passed, checked before any work, and their shapes as the rest of the package knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from jacgram.core.frontend import Struct
from jacgram.errors import StructureError


def struct_of(tensor: Any) -> Struct:
    """Shape and dtype of a tensor, or of what is a `Struct` already."""
    return Struct(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def dtype_of(struct: Struct) -> torch.dtype:
    """The dtype of a `Struct`."""
    return getattr(torch, struct.dtype)


def is_inexact(dtype: torch.dtype) -> bool:
    """Whether the dtype is real or complex floating point."""
    return dtype.is_floating_point or dtype.is_complex


def place(argument: str, path: str) -> str:
    """How messages name a leaf: the argument, and the path in it where there is one."""
    return f"{argument} leaf {path!r}" if path else argument


def checked_tensors(
    paths: Sequence[str], leaves: Sequence[Any], argument: str, device: torch.device | None = None
) -> list[torch.Tensor]:
    """The leaves as tensors; NumPy arrays are copied to ``device``.

    Raises:
        StructureError: there is no leaf, or one is no dense tensor and no NumPy array.
    """
    if not leaves:
        raise StructureError(f"{argument} holds no tensor; pass a tensor or a container with at least one.")
    return [_checked(leaf, place(argument, path), device) for path, leaf in zip(paths, leaves, strict=True)]


def _checked(leaf: Any, where: str, device: torch.device | None) -> torch.Tensor:
    if isinstance(leaf, torch.Tensor):
        if leaf.layout != torch.strided:
            raise StructureError(f"{where} has layout {leaf.layout}, expected a dense tensor; call .to_dense() on it.")
        if leaf.device.type == "meta":
            raise StructureError(f"{where} is on the meta device and holds no values; move it to a real device.")
        return leaf
    if isinstance(leaf, np.ndarray | np.generic):
        # A copy, for the caller may go on writing to the array.
        return torch.tensor(np.asarray(leaf), device=device)
    if type(leaf).__module__.partition(".")[0] in ("jax", "jaxlib"):
        raise StructureError(
            f"{where} is a JAX array among torch tensors; give f, x and params in one framework "
            "(torch.utils.dlpack.from_dlpack converts)."
        )
    shown = f" {leaf!r}" if isinstance(leaf, int | float | complex) else ""
    raise StructureError(f"{where} is {type(leaf).__name__}{shown}, expected a tensor.")


def require_inexact(paths: Sequence[str], tensors: Sequence[torch.Tensor], argument: str, why: str) -> None:
    """Raise `StructureError` where a tensor has no derivative: an integer or boolean dtype."""
    for path, tensor in zip(paths, tensors, strict=True):
        if not is_inexact(tensor.dtype):
            raise StructureError(
                f"{place(argument, path)} has dtype {tensor.dtype}, expected floating point or complex: {why}."
            )


def example_count(paths: Sequence[str], tensors: Sequence[torch.Tensor], argument: str) -> int:
    """Common size of axis 0.

    Raises:
        StructureError: a leaf has no axis, or axis 0 differs between leaves.
    """
    for path, tensor in zip(paths, tensors, strict=True):
        if not tensor.ndim:
            raise StructureError(
                f"{place(argument, path)} is a scalar, expected examples on axis 0; add that axis (x[None] for one)."
            )
    if len({tensor.shape[0] for tensor in tensors}) > 1:
        listed = ", ".join(f"{p or argument}: {tuple(t.shape)}" for p, t in zip(paths, tensors, strict=True))
        raise StructureError(f"{argument} has leaves whose example axes (axis 0) differ: {listed}.")
    return tensors[0].shape[0]


def checked_vector(
    leaves: Sequence[Any], structs: Sequence[Struct], paths: Sequence[str], argument: str, device: torch.device
) -> list[torch.Tensor]:
    """Leaves of a vector as tensors of the shapes wanted.

    Raises:
        StructureError: a leaf is no tensor, or has another shape.
    """
    tensors = checked_tensors(paths, leaves, argument, device)
    for path, tensor, struct in zip(paths, tensors, structs, strict=True):
        if tuple(tensor.shape) != struct.shape:
            raise StructureError(f"{place(argument, path)} has shape {tuple(tensor.shape)}, expected {struct.shape}.")
    return tensors

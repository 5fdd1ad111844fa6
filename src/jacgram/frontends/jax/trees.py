"""What the user passed, as flat lists of arrays, checked before any work.

A `Partition` remembers a tree whose leaves play three parts: **variable** (differentiated), **held** (arrays that stay
fixed: integer buffers of a module) and static (activation functions, strings).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jacgram.core.frontend import Struct
from jacgram.errors import StructureError


def is_array(leaf: Any) -> bool:
    """Whether JAX can compute with this leaf as it is."""
    return isinstance(leaf, jax.Array | np.ndarray | np.generic)


def is_equinox_module(value: Any) -> bool:
    """Whether the value is an `equinox.Module`; equinox is not imported for the question."""
    equinox = sys.modules.get("equinox")
    return equinox is not None and isinstance(value, equinox.Module)


def is_inexact(dtype: Any) -> bool:
    """Whether the dtype is real or complex floating point, bfloat16 and its kin included."""
    return bool(jnp.issubdtype(dtype, jnp.inexact))


def is_complex(dtype: Any) -> bool:
    """Whether the dtype is complex."""
    return bool(jnp.issubdtype(dtype, jnp.complexfloating))


def struct_of(array: Any) -> Struct:
    """Shape and dtype of an array, tracer or `jax.ShapeDtypeStruct`."""
    return Struct(tuple(array.shape), str(array.dtype))


def spec_of(struct: Struct) -> jax.ShapeDtypeStruct:
    """The inverse of `struct_of`."""
    return jax.ShapeDtypeStruct(struct.shape, jnp.dtype(struct.dtype))


def type_of(array: Any, shape: Sequence[int] | None = None) -> jax.ShapeDtypeStruct:
    """What to trace with in place of an array: its type, or that of one like it of another shape."""
    return jax.ShapeDtypeStruct(array.shape if shape is None else shape, array.dtype, weak_type=is_weak(array))


def block_sizes(structs: Sequence[Struct]) -> list[int]:
    """Number of entries of each array."""
    return [math.prod(struct.shape) for struct in structs]


@dataclass(frozen=True, slots=True)
class Partition:
    """A tree taken apart into variable leaves, held arrays and static leaves.

    Attributes:
        treedef: structure of the whole tree.
        roles: per leaf ``"variable"``, ``"held"`` or ``"static"``.
        statics: the static leaves.
    """

    treedef: Any
    roles: tuple[str, ...]
    statics: tuple[Any, ...]

    @staticmethod
    def of(tree: Any, roles: Sequence[str]) -> tuple[Partition, list[Any], list[Any]]:
        """The partition of a tree by roles, its variable leaves and its held arrays."""
        leaves, treedef = jax.tree.flatten(tree)
        picked: dict[str, list[Any]] = {"variable": [], "held": [], "static": []}
        for leaf, role in zip(leaves, roles, strict=True):
            picked[role].append(leaf)
        return Partition(treedef, tuple(roles), tuple(picked["static"])), picked["variable"], picked["held"]

    def combine(self, variable: Sequence[Any], held: Sequence[Any]) -> Any:
        """The tree around new variable leaves and held arrays."""
        sources = {"variable": iter(variable), "held": iter(held), "static": iter(self.statics)}
        return jax.tree.unflatten(self.treedef, [next(sources[role]) for role in self.roles])

    def around(self, variable: Sequence[Any]) -> Any:
        """The tree with these variable leaves and None in place of everything else."""
        source = iter(variable)
        leaves = [next(source) if role == "variable" else None for role in self.roles]
        return jax.tree.unflatten(self.treedef, leaves)

    def variable_leaves(self, tree: Any) -> list[Any] | None:
        """Variable leaves of a tree shaped as the whole or as `around` makes it; None for any other tree."""
        leaves, treedef = jax.tree.flatten(tree)
        if treedef == self.treedef:
            return [leaf for leaf, role in zip(leaves, self.roles, strict=True) if role == "variable"]
        around = jax.tree.structure(self.around([0] * self.roles.count("variable")))
        return leaves if treedef == around else None


def is_weak(array: Any) -> bool:
    """Whether its dtype gives way to that of what it is combined with."""
    return bool(getattr(array, "weak_type", False))


def as_jax(leaf: Any) -> Any:
    """A JAX array of the leaf.

    NumPy arrays are copied, for `jnp.asarray` may alias memory that the caller goes on writing to.
    """
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf)


def named_leaves(tree: Any, argument: str) -> tuple[list[str], list[Any], Any]:
    """Paths such as ``"layers.0.weight"``, leaves and structure of a tree.

    Raises:
        StructureError: a leaf belongs to another framework.
    """
    with_paths, treedef = jax.tree_util.tree_flatten_with_path(tree)
    paths = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in with_paths]
    leaves = [leaf for _, leaf in with_paths]
    for path, leaf in zip(paths, leaves, strict=True):
        if type(leaf).__module__.partition(".")[0] == "torch":
            raise StructureError(
                f"{place(argument, path)} is a torch {type(leaf).__name__} among JAX arrays; "
                f"give f, x and params in one framework (jax.numpy.asarray converts)."
            )
    return paths, leaves, treedef


def place(argument: str, path: str) -> str:
    """How messages name a leaf: the argument, and the path in it where there is one."""
    return f"{argument} leaf {path!r}" if path else argument


def checked_arrays(paths: Sequence[str], leaves: Sequence[Any], argument: str) -> list[Any]:
    """The leaves as JAX arrays.

    Raises:
        StructureError: there is no leaf, or one is neither array nor number.
    """
    if not leaves:
        raise StructureError(f"{argument} holds no array; pass an array or a pytree with at least one.")
    for path, leaf in zip(paths, leaves, strict=True):
        if not is_array(leaf) and not isinstance(leaf, int | float | complex):
            raise StructureError(f"{place(argument, path)} is {type(leaf).__name__} {leaf!r}, expected an array.")
    return [as_jax(leaf) for leaf in leaves]


def require_inexact(paths: Sequence[str], arrays: Sequence[Any], argument: str, why: str) -> None:
    """Raise `StructureError` where an array has no derivative: an integer, boolean or key dtype."""
    for path, array in zip(paths, arrays, strict=True):
        if not is_inexact(array.dtype):
            raise StructureError(
                f"{place(argument, path)} has dtype {array.dtype}, expected floating point or complex: {why}."
            )


def example_count(paths: Sequence[str], arrays: Sequence[Any], argument: str) -> int:
    """Common size of axis 0.

    Raises:
        StructureError: a leaf has no axis, or axis 0 differs between leaves.
    """
    shapes = {path: tuple(array.shape) for path, array in zip(paths, arrays, strict=True)}
    for path, shape in shapes.items():
        if not shape:
            raise StructureError(
                f"{place(argument, path)} is a scalar, expected examples on axis 0; add that axis (x[None] for one)."
            )
    if len({shape[0] for shape in shapes.values()}) > 1:
        listed = ", ".join(f"{path or argument}: {shape}" for path, shape in shapes.items())
        raise StructureError(f"{argument} has leaves whose example axes (axis 0) differ: {listed}.")
    return next(iter(shapes.values()))[0]


def checked_vector(leaves: Sequence[Any], structs: Sequence[Struct], paths: Sequence[str], argument: str) -> list[Any]:
    """Leaves of a vector as JAX arrays, of the shapes wanted.

    Raises:
        StructureError: a leaf is no array, or has another shape.
    """
    arrays = checked_arrays(paths, leaves, argument)
    for path, array, struct in zip(paths, arrays, structs, strict=True):
        if tuple(array.shape) != struct.shape:
            raise StructureError(f"{place(argument, path)} has shape {tuple(array.shape)}, expected {struct.shape}.")
    return arrays

"""f as a function of flat lists: ``(variable, held, x) -> y``, of a whole batch and of one example.

A batch-first f is only ever called on a batch: for one example, on a batch of one, whose axis is then dropped. So f
means the same to us as to its author, and ``vmap`` over examples makes of the batch of one the batch it would have had.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from jacgram.errors import StructureError
from jacgram.frontends.jax.compat import is_plain
from jacgram.frontends.jax.trees import Partition, is_array, named_leaves, place

Arrays = Sequence[Any]


class Program(Protocol):
    """f on flat lists of arrays.

    Attributes:
        f: what the user gave, for identity.
        partition: the tree that the variable is part of.
        has_examples: whether axis 0 of x and y counts examples.
    """

    @property
    def f(self) -> Any: ...
    @property
    def partition(self) -> Partition: ...
    @property
    def has_examples(self) -> bool: ...

    def batch(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        """y of the whole batch, as f returns it."""

    def one(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        """y of one example: x and y without the example axis."""


@dataclass(frozen=True, slots=True)
class OfParams:
    """``f(params, x) -> y``, batch-first, as a function of params."""

    f: Callable[[Any, Any], Any]
    partition: Partition
    x_treedef: Any
    has_examples: bool = True

    def batch(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        return self.f(self.partition.combine(variable, held), jax.tree.unflatten(self.x_treedef, x))

    def one(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        y = self.batch(variable, held, [jnp.expand_dims(leaf, 0) for leaf in x])
        return jax.tree.map(_drop_example_axis, y)


@dataclass(frozen=True, slots=True)
class OfModule:
    """A module that maps one example, as a function of its own arrays."""

    f: Any
    partition: Partition
    x_treedef: Any
    has_examples: bool = True

    def batch(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        return jax.vmap(lambda leaves: self.one(variable, held, leaves))(list(x))

    def one(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        return self.partition.combine(variable, held)(jax.tree.unflatten(self.x_treedef, x))


@dataclass(frozen=True, slots=True)
class OfInput:
    """``f(x) -> y`` as a function of x, with no notion of examples."""

    f: Callable[[Any], Any]
    partition: Partition
    has_examples: bool = False

    def batch(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        return self.f(self.partition.combine(variable, held))

    def one(self, variable: Arrays, held: Arrays, x: Arrays) -> Any:
        return self.batch(variable, held, x)


def same_program(first: Program, second: Program) -> bool:
    """Whether both are certainly one f that takes the same trees.

    Trees with nodes of the user's own are taken to differ: what such nodes hold beside arrays may decide what f does,
    and their equality is the user's as well.
    """
    if first is second:
        return True
    if not (isinstance(first, OfParams) and isinstance(second, OfParams) and first.f is second.f):
        return False
    mine, theirs = first.partition, second.partition
    if mine.roles != theirs.roles or mine.statics or theirs.statics:
        return False
    pairs = (mine.treedef, theirs.treedef), (first.x_treedef, second.x_treedef)
    return all(is_plain(one) and is_plain(other) and one == other for one, other in pairs)


def output_leaves(y: Any) -> tuple[list[str], list[Any], Any]:
    """Paths, leaves and structure of f's output.

    Raises:
        StructureError: there is no array in it, or something that is none.
    """
    paths, leaves, treedef = named_leaves(y, "the output of f")
    if not leaves:
        raise StructureError(f"f returned no array but {y!r}; it must return an array or a pytree of arrays.")
    for path, leaf in zip(paths, leaves, strict=True):
        if not is_array(leaf) and not isinstance(leaf, int | float | complex):
            where = place("the output of f", path)
            raise StructureError(f"{where} is {type(leaf).__name__} {leaf!r}, expected an array; return arrays only.")
    return paths, [jnp.asarray(leaf) for leaf in leaves], treedef


def _drop_example_axis(leaf: Any) -> Any:
    array = jnp.asarray(leaf)
    if array.ndim == 0 or array.shape[0] != 1:
        raise StructureError(
            f"f returned shape {array.shape} for a batch of one example, expected examples on axis 0 (size 1); "
            "f must be batch-first."
        )
    return jnp.squeeze(array, 0)

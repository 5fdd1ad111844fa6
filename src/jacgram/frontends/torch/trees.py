"""Containers taken apart and put together again: dicts, lists, tuples, named tuples and data classes.

PyTorch's own pytrees are not public, and what is needed of them is little. Leaves of a plain dict come in the order of
its sorted keys, as in JAX, so that two dicts filled in another order agree; ordered dicts and data classes keep theirs.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jacgram.errors import StructureError

_CONSTANTS = (type(None), bool, str)


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a leaf stands in a tree."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A part that is no array and stays as it is: None, a bool or a string."""

    value: Any


@dataclass(frozen=True, slots=True)
class Node:
    """A container.

    Attributes:
        container: its type.
        keys: keys, field names or positions of the children, in the order in which `build` wants them.
        order: positions among ``keys`` in the order in which leaves are listed.
        children: their trees, as ``keys``.
    """

    container: type
    keys: tuple[Any, ...]
    order: tuple[int, ...]
    children: tuple[Tree, ...]


Tree = Leaf | Constant | Node


def flatten(tree: Any) -> tuple[list[str], list[Any], Tree]:
    """Paths such as ``"layers.0.weight"``, leaves, and the tree without them."""
    parts = _parts(tree)
    if parts is None:
        return ([], [], Constant(tree)) if isinstance(tree, _CONSTANTS) else ([""], [tree], Leaf())
    keys, values, order = parts
    flat = [flatten(value) for value in values]
    paths = [f"{keys[k]}.{path}".rstrip(".") for k in order for path in flat[k][0]]
    leaves = [leaf for k in order for leaf in flat[k][1]]
    return paths, leaves, Node(type(tree), keys, order, tuple(part[2] for part in flat))


def flatten_like(spec: Tree, tree: Any, argument: str, path: str = "") -> list[Any]:
    """Leaves of a tree that has this structure.

    Raises:
        StructureError: it has another one.
    """
    match spec:
        case Leaf():
            return [tree]
        case Constant():
            return []
        case Node(container, keys, order, children):
            values = _children_like(container, keys, tree, argument, path)
            parts = [
                flatten_like(child, value, argument, f"{path}.{key}".lstrip("."))
                for key, value, child in zip(keys, values, children, strict=True)
            ]
            return [leaf for k in order for leaf in parts[k]]


def unflatten(spec: Tree, leaves: Sequence[Any], *, plain: bool = False) -> Any:
    """The tree around these leaves; ``plain`` makes dicts of data classes and of subclasses of dict.

    A result is plain where its leaves are no arrays of the tree's own kind, such as the blocks of a kernel.
    """
    return _unflatten(spec, iter(leaves), plain)


def _unflatten(spec: Tree, leaves: Any, plain: bool) -> Any:
    match spec:
        case Leaf():
            return next(leaves)
        case Constant(value):
            return value
        case Node(container, keys, order, children):
            built = {k: _unflatten(children[k], leaves, plain) for k in order}
            return _build(container, keys, [built[k] for k in range(len(keys))], plain)


def _parts(tree: Any) -> tuple[tuple[Any, ...], list[Any], tuple[int, ...]] | None:
    """Keys, children and order of listing of a container; None for anything else."""
    if isinstance(tree, dict):
        keys: list[Any] = list(tree)
        is_plain = type(tree) in (dict, defaultdict) and all(isinstance(key, str) for key in keys)
        order = sorted(range(len(keys)), key=keys.__getitem__) if is_plain else range(len(keys))
        return tuple(keys), [tree[key] for key in keys], tuple(order)
    if _is_namedtuple(type(tree)):
        return tuple(type(tree)._fields), list(tree), tuple(range(len(tree)))
    if isinstance(tree, list | tuple):
        return tuple(range(len(tree))), list(tree), tuple(range(len(tree)))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        names = tuple(field.name for field in dataclasses.fields(tree) if field.init)
        return names, [getattr(tree, name) for name in names], tuple(range(len(names)))
    return None


def _children_like(container: type, keys: Sequence[Any], tree: Any, argument: str, path: str) -> list[Any]:
    place = f"{argument} at {path!r}" if path else argument
    if issubclass(container, dict) or (dataclasses.is_dataclass(container) and isinstance(tree, Mapping)):
        if isinstance(tree, Mapping) and set(tree) == set(keys):
            return [tree[key] for key in keys]
        found = f"keys {sorted(map(str, tree))}" if isinstance(tree, Mapping) else type(tree).__name__
        raise StructureError(f"{place} has {found}, expected a dict with keys {sorted(map(str, keys))}.")
    parts = _parts(tree)
    if parts is None or not isinstance(tree, container) or parts[0] != tuple(keys):
        size = f" of {len(parts[0])}" if parts else ""
        raise StructureError(f"{place} is {type(tree).__name__}{size}, expected {container.__name__} of {len(keys)}.")
    return parts[1]


def _build(container: type, keys: Sequence[Any], values: list[Any], plain: bool) -> Any:
    if _is_namedtuple(container):
        return container(*values)
    if container in (list, tuple):
        return container(values)
    pairs = dict(zip(keys, values, strict=True))
    if plain or container in (dict, defaultdict):
        return pairs if issubclass(container, dict) or dataclasses.is_dataclass(container) else values
    return _special(container)(pairs) if issubclass(container, dict) else container(**pairs)


def _special(container: type) -> Callable[[dict[Any, Any]], Any]:
    """How a subclass of dict is made: from pairs, or from keywords where it is a data class too."""
    if dataclasses.is_dataclass(container):
        return lambda pairs: container(**pairs)
    return container if issubclass(container, OrderedDict) else lambda pairs: container(pairs.items())


def _is_namedtuple(container: type) -> bool:
    return issubclass(container, tuple) and hasattr(container, "_fields")

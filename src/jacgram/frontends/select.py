"""Which frontend serves the arrays at hand, found without importing a framework that is not already loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, cast

from jacgram.core.frontend import Frontend
from jacgram.errors import MissingDependencyError, StructureError

_INSTALL = {"jax": "pip install 'jacgram[jax]'", "torch": "pip install 'jacgram[torch]'"}


@lru_cache(maxsize=4)
def load(framework: str) -> Frontend:
    """The frontend of ``"jax"`` or ``"torch"``.

    Raises:
        MissingDependencyError: the framework is not installed.
    """
    if find_spec(framework) is None:
        raise MissingDependencyError(f"{framework} is not installed. Fix: {_INSTALL[framework]}.")
    if framework == "jax":
        from jacgram.frontends.jax import frontend
    else:
        from jacgram.frontends.torch import frontend
    return frontend()


def framework_of(**arguments: Any) -> str:
    """The framework of the arrays (or modules) among these arguments; NumPy arrays follow the others.

    Raises:
        StructureError: arguments of both frameworks, or of none where none or both are loaded.
    """
    found: dict[str, str] = {}
    for name, value in arguments.items():
        for framework in _frameworks(value):
            found.setdefault(framework, name)
    if len(found) > 1:
        (first, name1), (second, name2) = found.items()
        raise StructureError(
            f"{name1} holds {first} arrays and {name2} holds {second} arrays. Fix: convert one of them; f, x1, x2 and "
            "params belong to one framework (NumPy arrays go with either)."
        )
    if found:
        return next(iter(found))
    loaded = [framework for framework in _INSTALL if framework in sys.modules]
    if len(loaded) == 1:
        return loaded[0]
    names = ", ".join(arguments)
    raise StructureError(
        f"none of {names} holds a JAX array or a PyTorch tensor, so it is not known which framework f is written in. "
        "Fix: pass x1 as jax.numpy.asarray(x1) or torch.as_tensor(x1)."
    )


def _frameworks(value: Any) -> Iterator[str]:
    """Frameworks of the arrays and modules in a value, containers searched."""
    stack: list[Any] = [value]
    seen: set[int] = set()
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, str | bytes | int | float | complex):
            continue
        seen.add(id(item))
        if framework := _framework(item):
            yield framework
        elif isinstance(item, Mapping):
            stack.extend(cast(Mapping[Any, Any], item).values())
        elif isinstance(item, list | tuple | set):
            stack.extend(cast(list[Any], item))
        elif is_dataclass(item) and not isinstance(item, type):
            stack.extend(getattr(item, field.name, None) for field in fields(item))


def _framework(item: Any) -> str | None:
    torch, jax = sys.modules.get("torch"), sys.modules.get("jax")
    if torch is not None and isinstance(item, torch.Tensor | torch.nn.Module):
        return "torch"
    if jax is not None and isinstance(item, jax.Array):
        return "jax"
    return None

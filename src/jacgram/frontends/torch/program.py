"""f as a function of flat lists of tensors: the variable's leaves, and the leaves of x.

Three forms, each with ``f``, ``has_examples`` and a call: `OfInput` (J to x), `OfParams` (f(params, x)) and `OfModule`
(a module, or f(module, x), at given values of some of its parameters).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import nn

from jacgram.frontends.torch.trees import Tree, unflatten


class Program(Protocol):
    """What the rest of the frontend asks of f."""

    @property
    def f(self) -> Any:
        """The user's object, by whose identity checks are remembered."""
        ...

    @property
    def has_examples(self) -> bool:
        """Whether axis 0 of x and y counts examples."""
        ...

    def __call__(self, leaves: Sequence[Any], x: Sequence[Any]) -> Any:
        """The tree y at these leaves of the variable and of x."""
        ...

    def modules(self) -> list[nn.Module]:
        """Modules whose state a call may touch."""
        ...


@final
@dataclass(frozen=True, slots=True)
class OfInput:
    """``f(x)``, J taken with respect to x."""

    f: Any
    spec: Tree
    has_examples: bool = False

    def __call__(self, leaves: Sequence[Any], x: Sequence[Any]) -> Any:
        """f at an x of these leaves."""
        del x
        return self.f(unflatten(self.spec, leaves))

    def modules(self) -> list[nn.Module]:
        """Modules that f holds."""
        return modules_of(self.f)


@final
@dataclass(frozen=True, slots=True)
class OfParams:
    """``f(params, x)`` with params a container of tensors.

    Attributes:
        places: for each tensor of params, the leaf it is; a tensor that stands in two places is one leaf.
    """

    f: Any
    spec: Tree
    places: tuple[int, ...]
    x_spec: Tree
    has_examples: bool = True

    def __call__(self, leaves: Sequence[Any], x: Sequence[Any]) -> Any:
        """f at params of these leaves."""
        params = unflatten(self.spec, [leaves[place] for place in self.places])
        return self.f(params, unflatten(self.x_spec, x))

    def modules(self) -> list[nn.Module]:
        """Modules that f holds."""
        return modules_of(self.f)


@final
@dataclass(frozen=True, slots=True)
class OfModule:
    """A module called on x, or ``f(module, x)``, with the named parameters replaced.

    Buffers are replaced by copies, so that a module that writes to its buffers finds the same ones in each call, and
    the user's stay as they are.
    """

    f: Any
    module: nn.Module
    names: tuple[str, ...]
    x_spec: Tree
    has_examples: bool = True

    def __call__(self, leaves: Sequence[Any], x: Sequence[Any]) -> Any:
        """The module at these leaves."""
        tree = unflatten(self.x_spec, x)
        owner, prefix = (self.module, "") if self.f is self.module else (_Caller(self.f, self.module), "module.")
        state = {prefix + name: buffer.clone() for name, buffer in self.module.named_buffers()}
        state |= {prefix + name: leaf for name, leaf in zip(self.names, leaves, strict=True)}  # it may be a buffer
        args, kwargs = _arguments(owner, tree)
        return torch.func.functional_call(owner, state, args, kwargs)

    def modules(self) -> list[nn.Module]:
        """The module, and those that f holds."""
        return [self.module, *(part for part in modules_of(self.f) if part is not self.module)]


class _Caller(nn.Module):
    """``f(module, x)`` as a module, so that parameters can be replaced the public way."""

    def __init__(self, f: Callable[..., Any], module: nn.Module) -> None:
        super().__init__()
        self.f = f
        self.module = module

    def forward(self, x: Any) -> Any:
        return self.f(self.module, x)


def _arguments(module: nn.Module, x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """How a module is called: with x, or with a dict's entries by name where its ``forward`` names them all."""
    if isinstance(x, Mapping) and x and not isinstance(module, _Caller) and _takes(module.forward, set(x)):
        return (), dict(x)
    return (x,), {}


def _takes(forward: Callable[..., Any], keys: set[Any]) -> bool:
    parameters = inspect.signature(forward).parameters.values()
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return keys <= named or (takes_any and bool(keys & named))


def same_program(first: Program, second: Program) -> bool:
    """Whether both are one form of one object, for variables and examples of the same structure."""
    if type(first) is not type(second) or first.f is not second.f:
        return False
    if getattr(first, "module", None) is not getattr(second, "module", None):
        return False
    return structure_of(first) == structure_of(second)


def structure_of(program: Program) -> tuple[Any, ...]:
    """The structure of the variable and of the examples, and which parameters the variable is."""
    return tuple(getattr(program, part, None) for part in ("spec", "x_spec", "places", "names"))


def modules_of(f: Any) -> list[nn.Module]:
    """Modules that f is, is a method of, or closes over."""
    cells = getattr(f, "__closure__", None) or ()
    held = [f, getattr(f, "__self__", None), getattr(f, "func", None), *getattr(f, "args", ())]
    return [part for part in (*held, *_contents(cells)) if isinstance(part, nn.Module)]


def _contents(cells: Sequence[Any]) -> Iterator[Any]:
    for cell in cells:
        try:
            yield cell.cell_contents
        except ValueError:  # a cell that is still empty
            continue

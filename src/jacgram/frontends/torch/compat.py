"""The only place for names that PyTorch does not promise to keep. Each has a test that fails by name if it moves."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import torch
from torch.autograd import forward_ad

_functorch: Any = cast("Any", torch)._C._functorch

WEIGHT_NORM = "_weight_norm"
"""Name in ``torch`` of the function that `torch.nn.utils.parametrizations.weight_norm` calls with (v, g, axis)."""


@lru_cache(maxsize=1)
def load_forward_mode() -> None:
    """Load forward mode's decompositions, which PyTorch compiles on first use with a function that it deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.script.*", category=DeprecationWarning)
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def transform_level() -> int:
    """How many function transforms (``vmap``, ``grad``, ``jvp``) are being run around this line."""
    return _functorch.get_dynamic_layer_stack_depth()


def unbatched(tensor: torch.Tensor) -> tuple[torch.Tensor, int, int] | None:
    """What a tensor of the innermost transform, a ``vmap``, is made of, the position of the batch axis, and the level.

    None where the tensor is of another transform, or more than one is around its values.
    """
    if not _functorch.is_batchedtensor(tensor):
        return None
    level = _functorch.maybe_get_level(tensor)
    inside = _functorch.get_unwrapped(tensor)
    if level != transform_level() or torch.func.debug_unwrap(inside) is not inside:
        return None
    return inside, _functorch.maybe_get_bdim(tensor), level


def batched(tensor: torch.Tensor, level: int) -> torch.Tensor:
    """The opposite: a tensor whose axis 0 is the batch axis, as ``vmap`` of this level has it."""
    return _functorch._add_batch_dim(tensor, 0, level)


def is_view(tensor: torch.Tensor) -> bool:
    """Whether autograd knows the tensor as a view of another, so that a write to it replaces its gradient edge."""
    return cast("Any", tensor)._is_view()


@contextmanager
def no_hidden_loops() -> Generator[None]:
    """Inside, ``vmap`` raises `RuntimeError` for an operation that it would run in a loop, one slice at a time."""
    found = _functorch._is_vmap_fallback_enabled()
    _functorch._set_vmap_fallback_enabled(False)
    try:
        yield
    finally:
        _functorch._set_vmap_fallback_enabled(found)


@contextmanager
def known_loops() -> Generator[None]:
    """Inside, ``vmap`` loops over what it has no rule for, and does not warn: the caller has said so itself."""
    found = _functorch._is_vmap_fallback_enabled()
    _functorch._set_vmap_fallback_enabled(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r".*batching rule.*", category=UserWarning)
            yield
    finally:
        _functorch._set_vmap_fallback_enabled(found)


def drop_backward_hooks(module: torch.nn.Module) -> None:
    """Remove a module's backward hooks; the caller puts the tables' entries back."""
    for name in ("_backward_hooks", "_backward_pre_hooks"):
        vars(module)[name].clear()


def function_class(node: object) -> type | None:
    """The `torch.autograd.Function` that a node of the graph was made by; None for PyTorch's own nodes."""
    return getattr(node, "_forward_cls", None)


def variable_of(node: torch.autograd.graph.Node) -> torch.Tensor | None:
    """The leaf tensor of a node that accumulates gradients; None for any other node."""
    return getattr(node, "variable", None)


def saved(node: torch.autograd.graph.Node, name: str) -> Any:
    """What a node saved under a name; None where it saved nothing, for no gradient needs it."""
    return getattr(node, f"_saved_{name}")


def signed(value: int) -> int:
    """A saved axis or index: PyTorch saves negative ones as large numbers."""
    return value - 2**64 if value >= 2**63 else value


def packs_saved() -> bool:
    """Whether hooks are in force that pack what operations save, as those of a checkpoint, which computes it anew."""
    return cast("Any", torch)._C._autograd._top_saved_tensors_default_hooks(False) is not None


def gradient_like(node: Any, place: int) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and dtype of what a node is to be given for one of its outputs."""
    found = node._input_metadata[place]
    return tuple(found.shape), found.dtype


def gradients_past(node: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    """What a node makes of the gradient of its one output, for each of its inputs; nothing is freed."""
    found = node(gradient)
    return found if isinstance(found, tuple) else (found,)

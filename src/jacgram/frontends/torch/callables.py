"""PyTorch's functions by name: one operation is ``torch.add``, ``Tensor.add``, ``Tensor.__add__`` and so on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_PLACES = (torch, torch.Tensor, torch.nn.functional, torch.linalg, torch.special)


def named(*names: str) -> frozenset[Callable[..., Any]]:
    """Every function of one of these names, as a `TorchFunctionMode` sees it: properties as their getters."""
    found = [getattr(place, name) for place in _PLACES for name in names if hasattr(place, name)]
    return frozenset(entry.__get__ if _is_property(entry) else entry for entry in found)


def _is_property(entry: Any) -> bool:
    return not callable(entry) and hasattr(entry, "__get__")

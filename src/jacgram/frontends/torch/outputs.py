"""What f returned, as leaves."""

from __future__ import annotations

from typing import Any

import torch

from jacgram.errors import StructureError, UnsupportedError
from jacgram.frontends.torch.trees import Tree, flatten
from jacgram.frontends.torch.values import place

_WHAT = "the output of f"


class OtherOutputsError(UnsupportedError):
    """f gives other outputs than when its side was made; no other way of recording it would help."""


def output_leaves(y: Any) -> tuple[list[str], list[torch.Tensor], Tree]:
    """Paths, tensors and structure of y.

    Raises:
        StructureError: y holds no tensor, or something else.
    """
    paths, leaves, spec = flatten(y)
    if not leaves:
        raise StructureError(f"{_WHAT} holds no tensor; return a tensor or a container with at least one.")
    for path, leaf in zip(paths, leaves, strict=True):
        if not isinstance(leaf, torch.Tensor):
            inside = "" if not path else f" within {type(y).__name__}"
            raise StructureError(
                f"{place(_WHAT, path)} is {type(leaf).__name__}{inside}, expected a tensor; pick what J is wanted of, "
                "as in f=lambda module, x: module(x).logits with params=module."
            )
    return paths, leaves, spec

"""What f returned, as leaves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from jacgram.core.frontend import Struct
from jacgram.errors import StructureError, UnsupportedError
from jacgram.frontends.torch.trees import Tree, flatten
from jacgram.frontends.torch.values import place, struct_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_WHAT = "the output of f"


@dataclass(frozen=True, slots=True)
class Outputs:
    """y of one example by its shapes.

    Attributes:
        paths, structs: of its leaves.
        spec: its structure.
    """

    paths: tuple[str, ...]
    structs: tuple[Struct, ...]
    spec: Tree


@dataclass(slots=True)
class Recollection:
    """That a side's outputs are those of an earlier side of f; one object for all sides made of it.

    Attributes:
        doubtful: whether f has not been called since, and given outputs like them.
    """

    doubtful: bool = True


class OtherOutputsError(UnsupportedError):
    """f gives other outputs than when its side was made; no other way of recording it would help."""


def now_batch_statistics() -> Exception:
    """What to raise where f mixes examples by a batch norm, and did not when its outputs were found."""
    return OtherOutputsError(
        "f calls batch norm in training mode, which mixes examples, and did not when its Jacobian was made. Fix: call "
        ".eval() on the module, and make a Jacobian that is kept anew."
    )


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


def held_to_outputs(side: TorchSide, y: Any, n: int) -> list[torch.Tensor]:
    """Leaves of y for ``n`` examples.

    Raises:
        OtherOutputsError: the side's outputs are recalled, and y is not like them.
    """
    _, leaves, spec = output_leaves(y)
    if side.recollection is not None:
        expected = [((n, *struct.shape[1:]), struct.dtype) for struct in side.outputs]
        found = [(struct.shape, struct.dtype) for struct in map(struct_of, leaves)]
        if found != expected or spec != side.output_spec:
            raise OtherOutputsError("f gives other outputs than it gave for like examples before. Fix: try again.")
        side.recollection.doubtful = False
    return leaves

"""Whether uses that do not add up fail by rounding alone, which double precision tells.

A gate near zero may open in one pass and stay shut in another that adds up in a different order: then two gradients of
a deep network differ by far more than rounding, and both are right. In double precision they agree, where uses that are
wrong are still wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from jacgram.core.uses import Use
from jacgram.frontends.torch.checks import tolerance
from jacgram.frontends.torch.recording import Level, found_uses
from jacgram.frontends.torch.selfcheck import mismatched
from jacgram.frontends.torch.values import dtype_of, struct_of, wide_copy

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide


def wrong_in_double(
    side: TorchSide, seeds: Sequence[torch.Tensor], wrong: Sequence[int], level: Level, *, looped: bool = False
) -> list[int]:
    """Of leaves whose uses do not add up, those whose uses do not in double precision either.

    Args:
        side: f at a point.
        seeds: per output leaf, the ``(s, *output)`` that the uses were found with.
        wrong: leaves that `selfcheck.mismatched` names.
        level, looped: how the uses were found; see `recording.found_uses`.

    Cost: where there are any, all that finding uses and checking them takes, in double precision.
    """
    narrow = any(dtype_of(struct) not in _WIDE for struct in (*side.variable, *side.outputs))
    if not (wrong and narrow):
        return list(wrong)
    try:
        wide, wider = _widened(side), [wide_copy(seed) for seed in seeds]
        found = found_uses(wide, wider, level, looped=looped)
        return sorted(set(wrong).intersection(mismatched(wide, wider, found.uses)))
    except Exception:  # f does not run in double precision: nothing more is known
        return list(wrong)


_WIDE = (torch.float64, torch.complex128)


def alike(side: TorchSide, uses: Sequence[Use], others: Sequence[Use]) -> bool:
    """Whether two lists hold the same uses, with arrays that agree to what rounding may cause."""
    allowed = tolerance(side)
    return len(uses) == len(others) and all(
        (mine.leaf, mine.view, mine.kind) == (other.leaf, other.view, other.kind)
        and _close(mine.activation, other.activation, allowed)
        and _close(mine.cotangent, other.cotangent, allowed)
        for mine, other in zip(uses, others, strict=True)
    )


def _close(a: Any, b: Any, allowed: float) -> bool:
    if a is None or b is None:
        return a is b
    if a.shape != b.shape:
        return False
    gap, scale = (a.detach() - b.detach()).abs(), b.detach().abs()
    return not gap.numel() or float(gap.max()) <= allowed * float(scale.max())


def _widened(side: TorchSide) -> TorchSide:
    """The same side with all tensors in double precision, the buffers of its module too."""
    leaves, x = ([wide_copy(tensor) for tensor in tensors] for tensors in (side.leaves, side.x))
    outputs = [wide_copy(torch.empty(struct.shape, dtype=dtype_of(struct), device="meta")) for struct in side.outputs]
    return replace(
        side,
        program=side.program.widened(),
        leaves=leaves,
        x=x,
        variable=tuple(struct_of(leaf) for leaf in leaves),
        outputs=tuple(struct_of(y) for y in outputs),
        create_graph=False,
        notes=[],
        shared=type(side.shared)(),
    )

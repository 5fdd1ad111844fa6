"""Descriptions of one side of f that serve the next one, so that f need not be run to plan what was planned before.

What f does may change behind its name: with a tensor or a flag that it closes over, say. So a description is only kept
once uses were like it, and where it is recalled, the uses must be like it again before anything is made of them. If
not, it is dropped, the caller is told, and describes anew.

So it is with the outputs of f. A side of recalled outputs is doubtful until f gives such outputs again. Whatever is
raised before that says nothing of f, for it may come of asking for outputs that f does not have: nothing is concluded
from it, and the side has to be made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jacgram.core.frontend import DescriptionChanged
from jacgram.core.uses import Use
from jacgram.frontends.torch.checks import Seen, state_of
from jacgram.frontends.torch.levels import is_blind
from jacgram.frontends.torch.outputs import Outputs
from jacgram.frontends.torch.program import structure_of
from jacgram.frontends.torch.values import struct_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_descriptions = Seen()
_outputs = Seen()


def recalled_outputs(side: TorchSide) -> Outputs | None:
    """What an earlier side of f gave for an example like these, where it is known that values do not decide it."""
    if not (side.n and side.has_examples and is_blind(side)):
        return None
    return _outputs.get(side.program.f, _outputs_key(side))


def remember_outputs(side: TorchSide, outputs: Outputs) -> None:
    """Keeps what f gives for one example, for `recalled_outputs`."""
    if side.has_examples:
        _outputs.put(side.program.f, _outputs_key(side), outputs)


def _outputs_key(side: TorchSide) -> Any:
    return state_of(side), side.create_graph, structure_of(side.program)


def recalled(side: TorchSide, key: Any) -> list[Use] | None:
    """The description that an earlier side of f had for this key, examples of these shapes, and these module modes."""
    found = _descriptions.get(side.program.f, _place(side, key)) if side.n else None
    if found is None:
        return None
    known, side.shared.largest_bytes, side.shared.folded_bytes = found
    side.shared.recalled[key] = known
    return known


def held_to_descriptions(side: TorchSide, find: Callable[[], list[Use]]) -> list[Use]:
    """The uses found, if they are like those recalled, or else like those described, which are then kept.

    Raises:
        DescriptionChanged: they are not, or f cannot be run as it was.
    """
    if not side.shared.recalled:
        uses = find()
        _compare(side, uses)
        return uses
    try:
        uses = find()
    except Exception as error:  # whatever f raises now, once more described it is raised again or dealt with
        if side.doubtful:
            raise
        _forget(side)
        raise DescriptionChanged from error
    likeness = _likeness(uses)
    if any(_likeness(known) != likeness for known in side.shared.recalled.values()):
        _forget(side)
        raise DescriptionChanged
    return uses


def _compare(side: TorchSide, uses: list[Use]) -> None:
    """Keeps this side's own descriptions, which the uses are like; or drops them, for f has changed since.

    Where values decide what f does, descriptions are of all examples of this side together, and are not kept. Some of
    the examples may then share cotangents that all do not.
    """
    level = side.shared.level
    is_blind = level is not None and level.blind
    structured = {key: known for key, known in side.shared.described.items() if key[1]}
    if not all(_serves(known, uses, exactly=is_blind) for known in structured.values()):
        for key in structured:
            del side.shared.described[key]
        raise DescriptionChanged
    if not is_blind:
        return
    for key, described in structured.items():
        place = _place(side, key)
        if _descriptions.get(side.program.f, place) is None:
            sizes = side.shared.largest_bytes, side.shared.folded_bytes
            _descriptions.put(side.program.f, place, (described, *sizes))


def _forget(side: TorchSide) -> None:
    for key in side.shared.recalled:
        _descriptions.put(side.program.f, _place(side, key), None)
    side.shared.recalled.clear()


def _place(side: TorchSide, key: Any) -> Any:
    return state_of(side), side.create_graph, key


def _serves(described: Sequence[Use], uses: Sequence[Use], *, exactly: bool) -> bool:
    """Whether a description is that of these uses; if not exactly, they may share more cotangents than it says."""
    mine, theirs = _likeness(described), _likeness(uses)
    if exactly or len(mine) != len(theirs):
        return mine == theirs
    shared = {(a[-1], b[-1]) for a, b in zip(mine, theirs, strict=True)}
    return len(shared) == len({a for a, _ in shared}) and [a[:-1] for a in mine] == [b[:-1] for b in theirs]


def _likeness(uses: Sequence[Use]) -> tuple[Any, ...]:
    """All that planning and contraction know of uses but numbers of examples and seeds: what is read, how, and shapes.

    Uses that share a cotangent are contracted together, so which do counts too.
    """
    first: dict[int, int] = {}
    return tuple(
        (
            use.leaf,
            use.view,
            use.kind,
            _shape_of_one(use.activation, 1),
            _shape_of_one(use.cotangent, 2),
            first.setdefault(id(use.cotangent), len(first)),
        )
        for use in uses
    )


def _shape_of_one(array: Any, lead: int) -> tuple[Any, ...] | None:
    if array is None:
        return None
    struct = struct_of(array)
    return struct.shape[lead:], struct.dtype

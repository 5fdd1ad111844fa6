"""Structured uses, and what is done where they cannot be had. Every level is exact, and says why it was taken.

    (a) f runs once, under ``vmap`` over the examples; operations without a rule have their weights read whole;
    (b) f cannot run under ``vmap``, or calls do not show all uses (derivatives within f): they are read off autograd's
        graph of the whole batch (`graph`), or else examples are recorded one at a time and laid side by side;
    (c) the uses found of a leaf do not add up to autograd's own gradient (a custom function holds it, say): rows of
        that leaf, by plain backward passes.

Which level a function needs is found on first use (`levels`). What is found later is checked again on first use of each
call sequence and each number of examples and seeds, for PyTorch's batching rules have been wrong at some sizes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from jacgram.core.uses import Use
from jacgram.errors import UnsupportedError
from jacgram.frontends.torch.checks import Seen, state_of
from jacgram.frontends.torch.disturbed import disturbed
from jacgram.frontends.torch.identity import identity_shapes, identity_uses
from jacgram.frontends.torch.levels import find_level, forget_level
from jacgram.frontends.torch.recording import Found, Level, found_uses, shaped_uses
from jacgram.frontends.torch.selfcheck import Comparison, compared

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_checked = Seen()


def structured_uses(side: TorchSide, seeds: Sequence[torch.Tensor]) -> list[Use]:
    """Uses of every leaf, structured where that is possible.

    Args:
        side: f at a point, with at least one example.
        seeds: per output leaf ``(s, *output)``, in its dtype.

    Raises:
        UnsupportedError: the uses found do not add up, and did when the level was found.
    """
    level = find_level(side)
    if len(level.rows) == len(side.leaves):
        return identity_uses(side, seeds, dict(level.rows))
    found = _checked_uses(side, seeds, level)
    if found.note:
        side.note(found.note)
    rest = identity_uses(side, seeds, dict(level.rows)) if level.rows else []
    return [*found.uses, *rest]


def structured_shapes(side: TorchSide, n_seeds: int) -> list[Use]:
    """The same uses with meta tensors in place of values, of any number of examples."""
    try:
        return _shapes(side, n_seeds)
    except Exception:
        if side.doubtful:
            raise
        forget_level(side)  # f has changed since, and cannot run at it any more; or it is wrong in itself
        return _shapes(side, n_seeds)


def _shapes(side: TorchSide, n_seeds: int) -> list[Use]:
    level = find_level(side)
    rows = identity_shapes(side, n_seeds, dict(level.rows))
    return rows if len(rows) == len(side.leaves) else [*shaped_uses(side, n_seeds, level), *rows]


def _checked_uses(side: TorchSide, seeds: Sequence[torch.Tensor], level: Level) -> Found:
    found = found_uses(side, seeds, level)
    key = state_of(side), level, found.signature, side.n, len(seeds[0])
    if _checked.get(side.program.f, key):
        return found
    said = _compared(side, seeds, found, level)
    if said.wrong:
        found = found_uses(side, seeds, level, looped=True)
        if wrong := _compared(side, seeds, found, level).wrong:
            forget_level(side)
            names = ", ".join(repr(side.paths[leaf]) for leaf in wrong[:3])
            calls = ", ".join(dict.fromkeys(call[0] for call in _calls(found)))
            raise UnsupportedError(
                f"the recorded uses of {names} do not add up to autograd's own gradient for {side.n} examples, and did "
                f"before: f has changed, or does other things with these examples (recorded: {calls}). Try again, or "
                "use method=Materialize()."
            )
        return found
    if said.telling or _holds_elsewhere(side, seeds, level, found):
        _checked.put(side.program.f, key)
    return found


def _holds_elsewhere(side: TorchSide, seeds: Sequence[torch.Tensor], level: Level, found: Found) -> bool:
    """Whether uses at other values were compared, by the same calls, and add up."""
    other = disturbed(side)
    if other is None:
        return False
    try:
        again = found_uses(other, seeds, level)
        said = _compared(other, seeds, again, level)
    except Exception:  # f does other things there, which says nothing of its own values: they have been compared
        return False
    return again.signature == found.signature and said.telling and not said.wrong


def _compared(side: TorchSide, seeds: Sequence[torch.Tensor], found: Found, level: Level) -> Comparison:
    said = compared(side, seeds, found.uses, found.magnitudes)
    return replace(said, wrong=[leaf for leaf in said.wrong if leaf not in level.skipped])


def _calls(found: Found) -> list[tuple[str, ...]]:
    """All calls that were recorded to read weights, of every example."""
    if isinstance(found.signature, frozenset):
        return [entry for entries, _ in found.signature for entry in entries]
    return list(found.signature[0])

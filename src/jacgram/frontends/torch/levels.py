"""Which level a function needs: tried on a few examples with two random seeds, and remembered with the function."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jacgram.frontends.torch.checks import Seen, state_of
from jacgram.frontends.torch.disturbed import disturbed
from jacgram.frontends.torch.outputs import OtherOutputsError
from jacgram.frontends.torch.products import first_line, fresh
from jacgram.frontends.torch.recording import Level, found_uses, random_seeds
from jacgram.frontends.torch.selfcheck import compared

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

TRIED_EXAMPLES = 4
"""Examples on which levels are tried."""

PATHS_COMPARED = 8
"""Examples of a side whose paths are compared before the graph of a function that may branch on data is read."""

_WAYS = (
    Level(at_once=True),
    Level(at_once=True, copies=True),
    Level(at_once=False, graph=True),
    Level(at_once=False),
    Level(at_once=False, copies=True),
)
_BY_ROWS = "its uses do not add up to autograd's own gradient, as with derivatives within f"

_READ_OFF = "uses are read off autograd's graph, for calls recorded under vmap do not show all of them"

_levels = Seen()


def find_level(side: TorchSide) -> Level:
    """The first level whose uses add up for every leaf, or that which leaves the fewest parameters to plain rows.

    The graph of a function that may branch on data is read only where the examples at hand take the same path.
    """
    if side.shared.level is None:
        level, notes = _remembered(side, ways=_WAYS)
        if level.graph and not (level.steady or _take_one_path(side, level)):
            level, notes = _remembered(side, ways=tuple(way for way in _WAYS if not way.graph))
        side.shared.level = level
        for note in notes:
            side.note(note)
    level = side.shared.level
    # What the graph has saved cannot be differentiated again, nor what calls within derivatives of f's own give.
    if (level.graph or level.rows) and side.create_graph:
        return Level(at_once=False, rows=tuple((leaf, _BY_ROWS) for leaf in range(len(side.leaves))))
    return level


def is_blind(side: TorchSide) -> bool:
    """Whether it is known already that no values of examples decide what f does; nothing is tried."""
    known = _levels.get(side.program.f, (state_of(side), len(_WAYS)))
    level = side.shared.level or (None if known is None else known[0])
    return level is not None and level.blind and not ((level.graph or level.rows) and side.create_graph)


def forget_level(side: TorchSide) -> None:
    """Have the level of this function found again at its next use."""
    side.shared.level = None
    side.shared.described.clear()
    for ways in (len(_WAYS), len(_WAYS) - 1):
        _levels.put(side.program.f, (state_of(side), ways), None)


def _remembered(side: TorchSide, ways: tuple[Level, ...]) -> tuple[Level, tuple[str, ...]]:
    key = state_of(side), len(ways)
    known = _levels.get(side.program.f, key)
    if known is None:
        known = _tried(side, ways)
        _levels.put(side.program.f, key, known)
    return known


def _take_one_path(side: TorchSide, level: Level) -> bool:
    """Whether a few examples of this side, each alone, have the same uses."""
    one = side.one_example() if not side.n else side
    chosen = range(0, one.n, max(one.n // PATHS_COMPARED, 1))
    sides = [replace(one.examples(k, 1), shared=type(one.shared)()) for k in chosen]
    return len({found_uses(each, random_seeds(each, 1), level).signature for each in sides}) == 1


def _tried(side: TorchSide, ways: tuple[Level, ...]) -> tuple[Level, tuple[str, ...]]:
    trial = side.examples(0, min(side.n, TRIED_EXAMPLES)) if side.n else side.one_example()
    trial = replace(trial, create_graph=False, shared=type(trial.shared)())
    trials = [point for point in (trial, disturbed(trial)) if point is not None]
    every = tuple((leaf, "f could not be recorded") for leaf in range(len(side.leaves)))
    best: Level | None = None
    notes: list[str] = []
    steady = False
    for level in ways if side.has_examples else [way for way in ways if not (way.at_once or way.graph)]:
        try:
            rows = _left_over(trials, level)
        except OtherOutputsError:
            raise
        except Exception as error:  # f cannot run this way; the next one asks less of it
            where = "under vmap" if level.at_once else "while recorded"
            notes.append(f"examples are recorded one by one, for f cannot run {where}: {first_line(error)}")
            continue
        steady = steady or level.at_once
        if best is None or _size(side, rows) < _size(side, best.rows):
            best = replace(level, rows=rows)
        if not rows:
            break
    if best is None:
        with trial.calling():
            trial.flat(fresh(trial.leaves, create_graph=False))  # what is wrong with f says nothing of how to record it
    best = replace(best or Level(at_once=False, rows=every), steady=steady)
    if best.graph:
        return best, (_READ_OFF,)
    return best, () if best.at_once else tuple(dict.fromkeys(notes))


def _left_over(trials: Sequence[TorchSide], level: Level) -> tuple[tuple[int, str], ...]:
    """Leaves of which the recorded uses are not all at some of these points, and why."""
    wrong: dict[int, str] = {}
    for trial in trials:
        seeds = random_seeds(trial, 2)
        found = found_uses(trial, seeds, level)
        wrong |= dict.fromkeys(compared(trial, seeds, found.uses, found.magnitudes).wrong, _BY_ROWS) | found.unread
    return tuple(sorted(wrong.items()))


def _size(side: TorchSide, rows: Sequence[tuple[int, Any]]) -> int:
    return sum(math.prod(side.variable[leaf].shape) for leaf, _ in rows)

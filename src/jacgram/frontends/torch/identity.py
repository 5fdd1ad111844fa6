"""Identity uses: the cotangent of a whole leaf, a backward pass per example and seed. Always exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from jacgram.core.uses import Identity, Use
from jacgram.core.views import View
from jacgram.frontends.torch.products import constants, detached, first_line, fresh, pullback, pullback_by
from jacgram.frontends.torch.selfcheck import rows_add_up
from jacgram.frontends.torch.values import dtype_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

ASKED = "materialised: the strategy asked for rows"


def identity_uses(side: TorchSide, seeds: Sequence[torch.Tensor], reason: str = ASKED) -> list[Use]:
    """One identity use per leaf, its cotangent ``(n, s, *leaf)``.

    Args:
        side: f at a point.
        seeds: per output leaf ``(s_leaf, *output)``, real.
        reason: why there is no structure, for the plan.
    """
    stacked = stacked_seeds(side, seeds)
    rows = detached(_rows(side, stacked), create_graph=side.create_graph)
    return [
        Use(leaf, View.of(struct.shape), Identity(reason), None, rows[leaf])
        for leaf, struct in enumerate(side.variable)
    ]


def stacked_seeds(side: TorchSide, seeds: Sequence[Any]) -> list[torch.Tensor]:
    """Per output leaf ``(s, *output)`` in its dtype: seeds of all leaves along one axis, zero for the others."""
    total = sum(len(seed) for seed in seeds)
    stacked: list[torch.Tensor] = []
    start = 0
    for seed, struct in zip(seeds, side.outputs, strict=True):
        shape = struct.shape[1:] if side.has_examples else struct.shape
        full = torch.zeros((total, *shape), dtype=dtype_of(struct), device=side.device)
        full[start : start + len(seed)] = torch.as_tensor(seed, dtype=dtype_of(struct), device=side.device)
        stacked.append(full)
        start += len(seed)
    return stacked


def _rows(side: TorchSide, seeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """All rows at once where f can run under ``vmap`` and the result passes the check, one by one elsewhere."""
    if not side.n or not len(seeds[0]):
        return _rows_one_by_one(side, seeds)
    try:
        rows = _rows_at_once(side, seeds)
    except Exception as error:  # f cannot run under vmap; if it is wrong in itself, it raises again below
        side.note(f"rows were computed one by one, for f cannot run under vmap ({first_line(error)})")
        return _rows_one_by_one(side, seeds)
    if not rows_add_up(side, seeds, rows):
        side.note("rows were computed one by one, for those computed at once differ from an ordinary backward pass")
        return _rows_one_by_one(side, seeds)
    return rows


def _rows_at_once(side: TorchSide, seeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Rows ``(n, s, *leaf)`` by one backward pass under ``vmap`` over seeds, under ``vmap`` over examples."""

    def of_example(*x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def f(*moved: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs = side.flat(moved, [leaf[None] for leaf in x])
            return tuple(y[0] for y in outputs) if side.has_examples else tuple(outputs)

        result: Any = torch.func.vjp(f, *leaves)
        outputs, pull = result

        def row(*seed: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(pullback_by(lambda fitted: pull(tuple(fitted)), outputs, leaves, seed))

        return torch.func.vmap(row)(*seeds)

    with side.calling():
        leaves = constants(side.leaves, side.create_graph)
        if not side.has_examples:
            return [row[None] for row in of_example()]
        return list(torch.func.vmap(of_example, randomness="different")(*side.inputs()))


def _rows_one_by_one(side: TorchSide, seeds: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Rows ``(n, s, *leaf)`` by one ordinary backward pass each: slow, and nothing can go wrong."""
    n_seeds = len(seeds[0])
    rows: list[list[list[torch.Tensor]]] = []
    with side.calling():
        for k in range(side.n):
            leaves = fresh(side.leaves, create_graph=side.create_graph)
            outputs = side.flat(leaves, [leaf[k : k + 1] for leaf in side.inputs()])
            outputs = [y[0] for y in outputs] if side.has_examples else outputs
            rows.append([
                pullback(outputs, leaves, [seed[s] for seed in seeds], create_graph=side.create_graph)
                for s in range(n_seeds)
            ])  # fmt: skip
        return [
            torch.stack([torch.stack([row[leaf] for row in of_example]) for of_example in rows])
            if side.n and n_seeds
            else torch.zeros((side.n, n_seeds, *struct.shape), dtype=dtype_of(struct), device=side.device)
            for leaf, struct in enumerate(side.variable)
        ]

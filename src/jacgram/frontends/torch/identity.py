"""Identity uses: the cotangent of a whole leaf, a backward pass per example and seed. Always exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch

from jacgram.core.uses import Identity, Use
from jacgram.core.views import View
from jacgram.frontends.torch.checks import Seen, state_of
from jacgram.frontends.torch.compat import known_loops
from jacgram.frontends.torch.disturbed import disturbed
from jacgram.frontends.torch.products import constants, detached, first_line, fresh, pullback, pullback_by
from jacgram.frontends.torch.recorder import OpenCalls
from jacgram.frontends.torch.selfcheck import compared
from jacgram.frontends.torch.values import dtype_of

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

ASKED = "materialised: the strategy asked for rows"

_at_once_is_right = Seen()


def identity_uses(side: TorchSide, seeds: Sequence[torch.Tensor], reasons: Mapping[int, str]) -> list[Use]:
    """One identity use per leaf in ``reasons``, its cotangent ``(n, s, *leaf)``.

    Args:
        side: f at a point.
        seeds: per output leaf ``(s, *output)`` in its dtype, as `stacked_seeds` makes them.
        reasons: why there is no structure, for the plan.
    """
    wanted = sorted(reasons)
    rows = detached(_rows(side, seeds, wanted), create_graph=side.create_graph)
    return _as_uses(wanted, rows, reasons)


def identity_shapes(side: TorchSide, n_seeds: int, reasons: Mapping[int, str]) -> list[Use]:
    """The same uses with meta tensors of one example in place of rows."""
    is_complex = any(dtype_of(y).is_complex for y in side.outputs)
    wanted = sorted(reasons)
    structs = [side.variable[leaf] for leaf in wanted]
    dtypes = [dtype_of(struct).to_complex() if is_complex else dtype_of(struct) for struct in structs]
    rows = [
        torch.empty((1, n_seeds, *struct.shape), dtype=dtype, device="meta")
        for struct, dtype in zip(structs, dtypes, strict=True)
    ]
    return _as_uses(wanted, rows, reasons)


def _as_uses(wanted: Sequence[int], rows: Sequence[torch.Tensor], reasons: Mapping[int, str]) -> list[Use]:
    pairs = zip(wanted, rows, strict=True)
    return [Use(leaf, View.of(row.shape[2:]), Identity(reasons[leaf]), None, row) for leaf, row in pairs]


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


def _rows(side: TorchSide, seeds: Sequence[torch.Tensor], wanted: Sequence[int]) -> list[torch.Tensor]:
    """All rows at once where f can run under ``vmap`` and the result passes the check, one by one elsewhere."""
    key = state_of(side), tuple(wanted), side.n, len(seeds[0])
    known = _at_once_is_right.get(side.program.f, key)
    if not side.n or not len(seeds[0]) or known is False:
        return _rows_one_by_one(side, seeds, wanted)
    why = "those computed at once differ from an ordinary backward pass"
    try:
        rows = _rows_at_once(side, seeds, wanted)
        right, sure = (True, True) if known else _add_up(side, seeds, wanted, rows)
        if right:
            if sure:
                _at_once_is_right.put(side.program.f, key, True)
            return rows
    except Exception as error:  # f cannot run under vmap; if it is wrong in itself, it raises again below
        if side.doubtful:
            raise
        why = f"f cannot run under vmap ({first_line(error)})"
    rows = _rows_one_by_one(side, seeds, wanted)
    _at_once_is_right.put(side.program.f, key, False)
    side.note(f"rows were computed one by one, for {why}")
    return rows


def _add_up(
    side: TorchSide, seeds: Sequence[torch.Tensor], wanted: Sequence[int], rows: Sequence[torch.Tensor]
) -> tuple[bool, bool]:
    """Whether rows add up to an ordinary backward pass, and whether that is sure to hold at other values."""
    right, telling = _compare(side, seeds, wanted, rows)
    if telling or not right:
        return right, True
    other = disturbed(side)
    if other is None:
        return True, False
    elsewhere, telling = _compare(other, seeds, wanted, _rows_at_once(other, seeds, wanted))
    return elsewhere, telling


def _compare(
    side: TorchSide, seeds: Sequence[torch.Tensor], wanted: Sequence[int], rows: Sequence[torch.Tensor]
) -> tuple[bool, bool]:
    said = compared(side, seeds, _as_uses(wanted, rows, dict.fromkeys(wanted, ASKED)))
    return not set(said.wrong) & set(wanted), said.telling


def _rows_at_once(side: TorchSide, seeds: Sequence[torch.Tensor], wanted: Sequence[int]) -> list[torch.Tensor]:
    """Rows ``(n, s, *leaf)`` by one backward pass under ``vmap`` over seeds, under ``vmap`` over examples."""

    def of_example(*x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        def f(*moved: torch.Tensor) -> tuple[torch.Tensor, ...]:
            every = list(leaves)
            for leaf, value in zip(wanted, moved, strict=True):
                every[leaf] = value
            with OpenCalls(higher_orders=side.create_graph):
                outputs = side.flat(every, [leaf[None] for leaf in x])
            return tuple(y[0] for y in outputs) if side.has_examples else tuple(outputs)

        inputs = [leaves[leaf] for leaf in wanted]
        result: Any = torch.func.vjp(f, *inputs)
        outputs, pull = result

        def row(*seed: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(pullback_by(lambda fitted: pull(tuple(fitted)), outputs, inputs, seed))

        return torch.func.vmap(row)(*seeds)

    with side.calling(), known_loops():
        leaves = constants(side.leaves, side.create_graph)
        if not side.has_examples:
            return [row[None] for row in of_example()]
        return list(torch.func.vmap(of_example, randomness="different")(*side.inputs()))


def _rows_one_by_one(side: TorchSide, seeds: Sequence[torch.Tensor], wanted: Sequence[int]) -> list[torch.Tensor]:
    """Rows ``(n, s, *leaf)`` by one ordinary backward pass each: slow, and nothing can go wrong."""
    n_seeds = len(seeds[0])
    rows: list[list[list[torch.Tensor]]] = []
    with side.calling():
        for k in range(side.n):
            leaves = fresh(side.leaves, create_graph=side.create_graph)
            inputs = [leaves[leaf] for leaf in wanted]
            with OpenCalls(higher_orders=True) if side.create_graph else nullcontext():
                outputs = side.flat(leaves, [leaf[k : k + 1] for leaf in side.inputs()])
            outputs = [y[0] for y in outputs] if side.has_examples else outputs
            rows.append([
                pullback(outputs, inputs, [seed[s] for seed in seeds], create_graph=side.create_graph)
                for s in range(n_seeds)
            ])  # fmt: skip
    if not side.n or not n_seeds:
        return [_no_rows(side, leaf, n_seeds) for leaf in wanted]
    return [torch.stack([torch.stack([row[k] for row in each]) for each in rows]) for k in range(len(wanted))]


def _no_rows(side: TorchSide, leaf: int, n_seeds: int) -> torch.Tensor:
    struct = side.variable[leaf]
    return torch.zeros((side.n, n_seeds, *struct.shape), dtype=dtype_of(struct), device=side.device)

"""Tiles of one kernel: the numbers of any two blocks of examples, by one Plan.

A tile is computed in two programs: the factors (activations and cotangents) of each side's block, and their
contraction. Each is traced once for each block shape. Factors of the blocks used last are kept as far as the budget
allows, so that along a block row those of side 1 are computed once; what does not fit is dropped, least recently used
first, and recomputed when needed again. Where the plan itself loops over parts of a tile, or is matrix-free, there
program goes from two blocks of examples to their tile.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from jacgram.contract.factors import Layout, assembled, factors_of, parts
from jacgram.contract.hermitian import symmetrize
from jacgram.contract.matrix_free import MatrixFreeKernel
from jacgram.contract.seeds import SeedBlock
from jacgram.contract.structured import StructuredKernel
from jacgram.contract.tile import Tiles
from jacgram.core.dtypes import is_complex, real_dtype
from jacgram.core.frontend import DescriptionChanged, Side, Struct
from jacgram.core.patterns import Labels
from jacgram.errors import UnsupportedError
from jacgram.frontends.select import load
from jacgram.operator.blocks import Examples
from jacgram.operator.compute import Request, make_task
from jacgram.plan.condensing import condensed
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Method
from jacgram.plan.task import Task

Block = tuple[int, int]
"""First example and number of examples."""

_MOST_FILLED = 0.25
"""Share of a tile's examples that may be missing at an edge for it to be computed as a whole tile."""


class _Filled(NamedTuple):
    """A block of examples, behind as many others as make it as large as every block: it needs no program of its own.

    Attributes:
        start, size: first example and number of examples.
        filled: examples before them, whose part of a tile is dropped.
    """

    start: int
    size: int
    filled: int

    @property
    def n(self) -> int:
        """Number of examples in all."""
        return self.size + self.filled


@dataclass(frozen=True, slots=True)
class LazyKernel:
    """A kernel that is computed tile by tile. It can be pickled.

    Attributes:
        framework: ``"jax"`` or ``"torch"``.
        left, right: examples of side 1 and of side 2; one object where both sides are one.
        labels: what of the kernel is wanted.
        conjugate: whether side 2 enters conjugated.
        outer: whether the result is conjugated.
        accumulate: real dtype in which products are summed, or None.
        method: the strategy.
    """

    framework: str
    left: Examples
    right: Examples
    labels: Labels
    conjugate: bool
    outer: bool
    accumulate: str | None
    method: Method

    @property
    def same(self) -> bool:
        """Whether both sides are one."""
        return self.left is self.right

    def request(self) -> Request:
        """What is asked of one example of each side: all that planning needs to see."""
        one1 = _one(self.left)
        one2 = one1 if self.same else _one(self.right)
        pairs = ((0, 0, self.labels),)
        return Request(load(self.framework), (one1, one2), pairs, self.conjugate, self.accumulate, by_leaf=False)


def _one(examples: Examples) -> Side:
    return examples.side(0, min(examples.n, 1))


def sized(task: Task, n: Block, *, hermitian: bool = False) -> Task:
    """The task for blocks of so many examples of each side; ``hermitian`` where both blocks are one."""
    sides = [
        replace(side, n=count, outputs=tuple(Struct((count, *s.shape[1:]), s.dtype) for s in side.outputs))
        for side, count in zip(task.sides, n, strict=True)
    ]
    pairs = tuple(replace(pair, wanted=pair.wanted.with_examples(*n)) for pair in task.pairs)
    same = hermitian and task.hermitian
    return replace(task, sides=(sides[0], sides[1]), pairs=pairs, hermitian=same, joined_bytes=None)


@dataclass(frozen=True, slots=True)
class Factors:
    """Factors of one block.

    Attributes:
        arrays: every activation and cotangent, shared ones once.
        layout: per use, the use with shapes in place of arrays, and which arrays they are.
    """

    arrays: list[Any]
    layout: Layout

    @property
    def n_bytes(self) -> int:
        """Bytes held."""
        return sum(int(array.nbytes) for array in self.arrays)


class TileKernel:
    """Computes tiles of one kernel.

    Args:
        kernel: what to compute.
        plan: how, for one whole tile.
        cache_bytes: what factors of blocks other than the two at hand may take.
    """

    def __init__(self, kernel: LazyKernel, plan: Plan, cache_bytes: int) -> None:
        self._kernel, self._plan, self._cache_bytes = kernel, plan, cache_bytes
        self._frontend = load(kernel.framework)
        self._request = kernel.request()
        self._xp = self._request.xp
        self._task = condensed(make_task(self._request, kernel.method), plan.condensed, plan.pass_blocks)
        self._real_part = any(side.real_part for side in self._request.sides)
        self._programs: dict[Any, Callable[[Sequence[Any]], Any]] = {}
        self._layouts: dict[Any, Layout] = {}
        self._cached: OrderedDict[tuple[int, _Filled], Factors] = OrderedDict()

    def block(self, block1: Block, block2: Block) -> NDArray[Any]:
        """The tile of a block of each side, on the host, axes in the order asked for.

        Where both sides and both blocks are one and the pattern treats its sides alike, it is exactly Hermitian.
        """
        whole1, whole2 = (self._whole(position, block) for position, block in enumerate((block1, block2)))
        mirror = self._task.hermitian and whole1 == whole2
        make = self._from_factors if self._plan.one_tile and self._plan.method != "matrix-free" else self._at_once
        found = self._xp.to_numpy(make(whole1, whole2, mirror))
        wanted = self._task.pairs[0].wanted
        own = {wanted.example1: slice(whole1.filled, None), wanted.example2: slice(whole2.filled, None)}
        return found[tuple(own.get(label, slice(None)) for label in wanted.out)]

    def _whole(self, position: int, block: Block) -> _Filled:
        """The block, filled up where a program of its own would be compiled for little less work."""
        start, size = block
        missing = self._plan.examples[position] - size
        fills = self._frontend.compiles and 0 < missing <= min(start, _MOST_FILLED * (size + missing))
        return _Filled(start, size, missing if fills else 0)

    # In two programs --------------------------------------------------------------------------------------------------

    def _from_factors(self, block1: _Filled, block2: _Filled, mirror: bool) -> Any:
        left = self._factors(0, block1, keep=None)
        # A pattern that treats its sides alike asks the same factors of both.
        position = 0 if self._task.hermitian else 1
        right = left if mirror else self._factors(position, block2, keep=(0, block1))
        arrays = left.arrays if mirror else [*left.arrays, *right.arrays]

        def contract(*arrays: Any) -> Any:
            count = len(left.arrays)
            uses1 = assembled(left.layout, arrays[:count])
            uses2 = uses1 if mirror else assembled(right.layout, arrays[count:])
            n = (block1.n, block2.n)
            tiles = Tiles(self._xp, *self._sized(n), self._kernel.conjugate, self._real_part, by_leaf=False)
            blocks = tiles.tile(uses1, uses2, SeedBlock(), n)
            if blocks[0][0] is None:
                blocks = tiles.zeros(arrays[0] if arrays else self._request.sides[0].arrays()[0])
            return self._finished(blocks, n, mirror)

        return self._run(("tile", block1.n, block2.n, mirror), contract, arrays)

    def _factors(self, position: int, block: _Filled, keep: tuple[int, _Filled] | None) -> Factors:
        key = (position, block)
        if key not in self._cached:
            self._cached[key] = self._computed(position, block)
        self._cached.move_to_end(key)
        self._drop({key, keep})
        return self._cached[key]

    def _drop(self, used: set[tuple[int, _Filled] | None]) -> None:
        spare = {key: factors.n_bytes for key, factors in self._cached.items() if key not in used}
        total = sum(spare.values())
        for key, n_bytes in spare.items():
            if total <= self._cache_bytes:
                return
            del self._cached[key]
            total -= n_bytes

    def _computed(self, position: int, block: _Filled) -> Factors:
        side = (self._kernel.left, self._kernel.right)[position].side(*block)
        name = ("factors", position, block.n)

        def factors(*arrays: Any) -> list[Any]:
            here = side.with_arrays(arrays)
            basis = SeedBlock().basis(self._xp, self._task, position + 1, arrays[0])
            made = factors_of(self._xp, here, basis, self._task, self._plan, position)
            found, self._layouts[name] = parts(made)
            return found

        arrays = self._run(name, factors, side.arrays())
        return Factors(arrays, self._layouts[name])

    # At once ----------------------------------------------------------------------------------------------------------

    def _at_once(self, block1: _Filled, block2: _Filled, mirror: bool) -> Any:
        side1 = self._kernel.left.side(*block1)
        side2 = side1 if mirror else self._kernel.right.side(*block2)
        count = len(side1.arrays())
        n = (block1.n, block2.n)

        def compute(*arrays: Any) -> Any:
            first = side1.with_arrays(arrays[:count])
            second = first if mirror else side2.with_arrays(arrays[count:])
            make = MatrixFreeKernel if self._plan.method == "matrix-free" else StructuredKernel
            task, plan = self._sized(n)
            run = make(self._xp, (first, second), task, plan, self._kernel.conjugate, self._real_part, by_leaf=False)
            return self._finished(run.compute(), n, mirror)

        arrays = side1.arrays() if mirror else [*side1.arrays(), *side2.arrays()]
        return self._run(("at once", *n, mirror), compute, arrays)

    # Both -------------------------------------------------------------------------------------------------------------

    def _sized(self, n: Block) -> tuple[Task, Plan]:
        """Task and plan of a tile that may be smaller than the others, at an edge."""
        tile = (min(self._plan.tile[0], n[0]), min(self._plan.tile[1], n[1]))
        return sized(self._task, n), replace(self._plan, examples=n, tile=tile, hermitian=False)

    def _finished(self, blocks: list[list[Any]], n: Block, mirror: bool) -> Any:
        if mirror:
            task = sized(self._task, n, hermitian=True)
            blocks = symmetrize(self._xp, task, blocks, None, conjugate=self._kernel.conjugate)
        block = self._xp.conj(blocks[0][0]) if self._kernel.outer else blocks[0][0]
        dtype = self._request.result_dtype
        complex_block = is_complex(str(block.dtype).removeprefix("torch."))
        return self._xp.astype(block, dtype if complex_block else real_dtype(dtype))

    def _run(self, name: Any, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        try:
            return self._called(name, function, arrays)
        except DescriptionChanged as error:
            raise UnsupportedError(
                "f has other uses of its parameters for these examples than for the first, by which tiles were "
                "planned: values decide what f does, or it has changed. Fix: pass method=jacgram.Materialize(), whose "
                "rows are the same however f uses its parameters, or write the kernel anew."
            ) from error

    def _called(self, name: Any, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        if name not in self._programs:
            prepared = self._frontend.prepare(function, arrays)
            if prepared is None:
                return self._frontend.run(function, arrays)
            self._programs[name] = prepared
        return self._programs[name](arrays)

"""J1 J2ᵀ as a lazy operator: applied to vectors without being formed, and formed where asked for."""

from __future__ import annotations

import math
from typing import Any, final

from jacgram.arrays import adapter
from jacgram.core.dtypes import check_accumulate, promote
from jacgram.core.frontend import Side, Struct
from jacgram.core.patterns import Labels, Pattern, full_labels
from jacgram.errors import ArgumentError
from jacgram.execute.serial import Serial
from jacgram.execute.work import Executor
from jacgram.operator.blocks import Examples, HeldExamples
from jacgram.operator.compute import LabelsOf, Request, plan_request, run_request
from jacgram.operator.exports import scipy_operator
from jacgram.operator.stack import Stack, check_same_variable
from jacgram.operator.write import WriteOptions, lazy_kernel, write_kernel
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Method, check_method


@final
class GramOperator:
    """K = J1 J2ᵀ (or J1 J2ᴴ): what ``J1 @ J2.T`` (or ``J1 @ J2.H``) is.

    As a matrix K is two-dimensional, rows flattened example-major over the outputs of side 1 (leaf after leaf where y
    is a tree), columns likewise over side 2.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> J = jacgram.Jacobian(lambda x: x**2, jnp.array([1.0, 2.0]))
        >>> K = J @ J.T
        >>> print(K.dense())
        [[ 4.  0.]
         [ 0. 16.]]
    """

    __slots__ = ("_conjugate", "_left", "_outer", "_right")

    def __init__(self, left: Stack, right: Stack, *, conjugate: bool, outer: bool = False) -> None:
        check_same_variable(left, right, "J1", "J2")
        self._left, self._right = left, right
        self._conjugate, self._outer = conjugate, outer

    # What it is ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """Rows of J1 and rows of J2."""
        return self._left.rows, self._right.rows

    @property
    def dtype(self) -> str:
        """Name of the dtype of K's entries."""
        return promote(self._left.dtype, self._right.dtype)

    @property
    def framework(self) -> str:
        """``"jax"`` or ``"torch"``."""
        return self._left.frontend.name

    @property
    def T(self) -> GramOperator:  # noqa: N802
        """Kᵀ, not conjugated."""
        return GramOperator(
            self._right, self._left, conjugate=self._conjugate, outer=self._outer ^ (self._conjugate and self._complex)
        )

    @property
    def H(self) -> GramOperator:  # noqa: N802
        """Kᴴ, the adjoint."""
        flipped = self._outer ^ (not self._conjugate and self._complex)
        return GramOperator(self._right, self._left, conjugate=self._conjugate, outer=flipped)

    @property
    def _complex(self) -> bool:
        return self._left.is_complex or self._right.is_complex

    @property
    def _xp(self) -> Any:
        return adapter(self._left.frontend.name)

    # Products -----------------------------------------------------------------------------------------------------

    def __matmul__(self, v: Any) -> Any:
        """K applied to a vector: one backward pass of side 2 and one forward pass of side 1.

        Args:
            v: shaped as y of side 2, or its flat vector.

        Returns:
            Shaped as y of side 1, or flat as v was.
        """
        cotangents, flat = self._right.flatten(v, "v")
        if self._outer:
            cotangents = [[x.conj() for x in part] for part in cotangents]
        pushed = self._left.push(self._right.pull(cotangents, conjugate=self._conjugate))
        if self._outer:
            pushed = [[x.conj() for x in part] for part in pushed]
        return self._left.concatenated(pushed) if flat else self._left.unflatten(pushed)

    # Numbers ------------------------------------------------------------------------------------------------------

    def dense(
        self,
        pattern: str | None = None,
        *,
        method: Method = Auto(),
        memory: int | str | None = None,
        accumulate: Any = None,
        by_leaf: bool = False,
        plan: Plan | None = None,
    ) -> Any:
        """The kernel as native arrays.

        Args:
            pattern: what of it, as in ``"n i, m i -> n m"`` (see the page on patterns); None for everything.
            method: the strategy. The default takes the cheapest plan that fits.
            memory: what may be allocated beyond inputs, parameters and result: bytes, or a string such as ``"64MiB"``.
                None allows up to half of what the device has free.
            accumulate: ``"float32"`` or ``"float64"``: the precision in which products are summed.
            by_leaf: return a tree shaped as the variable whose leaves sum to the kernel.
            plan: a plan made by `plan` for this pattern, instead of a new one.

        Returns:
            With parameters ``(n1, n2, *o1, *o2)``, otherwise ``y1.shape + y2.shape``, or as the pattern says. Where y
            is a tree, a tree of trees as by `jax.hessian`; for stacked Jacobians, a tuple of tuples.

        Raises:
            PatternError: the pattern does not fit y.
            BudgetError: no plan fits ``memory``.
            InteractingExamplesError: an example's output depends on another example.
            UnsupportedError: ``Structured(strict=True)`` and a use without structure.
        """
        labels = _fitted(pattern, self._left.sides[0].has_examples)
        blocks = self._blocks(labels, method, memory, accumulate, by_leaf, plan)
        if not by_leaf:
            return _nested(blocks)
        count = len(self._left.sides[0].variable)
        parts = [_nested([[trees[leaf] for trees in row] for row in blocks]) for leaf in range(count)]
        return self._left.sides[0].unflatten_variable(parts)

    def plan(
        self,
        pattern: str | None = None,
        *,
        method: Method = Auto(),
        memory: int | str | None = None,
        accumulate: Any = None,
        by_leaf: bool = False,
    ) -> Plan:
        """What `dense` would do, and what that would cost; no kernel value is computed. Arguments as for `dense`.

        Stacked Jacobians are planned pair by pair: take the plan of each pair instead.
        """
        (side1, *more1), (side2, *more2) = self._left.sides, self._right.sides
        if more1 or more2:
            raise ArgumentError("plan() of stacked Jacobians: each pair has its own. Fix: plan Ja @ Jb.T by itself.")
        labels = _fitted(pattern, side1.has_examples)
        request = self._request(side1, side2, labels, accumulate, by_leaf=by_leaf)
        return plan_request(request, check_method(method), memory)

    def write(
        self,
        store: Any,
        pattern: str | None = None,
        *,
        method: Method = Auto(),
        accumulate: Any = None,
        tile: int | tuple[int, int] | None = None,
        memory: int | str | None = None,
        executor: Executor = Serial(),
        resume: bool = True,
        overwrite: bool = False,
        verify: bool = False,
        progress: Any = None,
    ) -> Any:
        """The kernel, out of core: computed tile by tile and written to a Zarr array, so that it may exceed memory.

        A killed run loses the tiles in flight at most: the same call goes on where it stopped. See the page on storing,
        and `jacgram.write_ntk` for data that does not fit in memory.

        Args:
            store: a path, a URL such as ``"s3://bucket/kernel.zarr"``, or a Zarr store.
            pattern, method, accumulate: see `dense`. The pattern must keep the examples of both sides.
            tile: examples per side in one tile, a number or a pair; one tile is one chunk. None lets the budget decide.
            memory: what may be allocated beyond inputs and parameters, the tile included, by each process.
            executor: who computes: ``Serial()`` or ``Dask(client)``.
            resume: go on with what the store holds, if it is this kernel; False raises if it holds anything.
            overwrite: remove a kernel that the store holds, and begin anew.
            verify: read what is stored already, and recompute what is damaged.
            progress: True for a bar, or listeners such as ``JsonLog("run.jsonl")``.

        Returns:
            The complete array, a `zarr.Array` opened for reading, with named dimensions. Every Zarr reader sees all of
            it; `jacgram.open_kernel` tells more.

        Raises:
            StoreError: the store is full, cannot be written, is not ours, is damaged, or holds another kernel.
            IncompleteKernelError: f raised on some tile, also when tried again; the other tiles are stored.
            BudgetError: no tile fits ``memory``.
            ArgumentError: y is a tree, or Jacobians are stacked, or J is taken with respect to x.
            MissingDependencyError: Zarr is not installed.
        """
        (side1, *more1), (side2, *more2) = self._left.sides, self._right.sides
        if more1 or more2:
            raise ArgumentError("write() of stacked Jacobians: a store holds one array. Fix: write each pair alone.")
        left: Examples = HeldExamples(side1)
        sides = (left, left if side1.same_point(side2) else HeldExamples(side2))
        kernel = lazy_kernel(
            self.framework,
            sides,
            pattern,
            conjugate=self._conjugate,
            outer=self._outer,
            accumulate=check_accumulate(accumulate),
            method=method,
        )
        options = WriteOptions(tile, memory, executor, resume, overwrite, verify, progress)
        return write_kernel(store, kernel, pattern, options)

    def matrix(self, *, method: Method = Auto(), memory: int | str | None = None, accumulate: Any = None) -> Any:
        """K as one two-dimensional array. Arguments as for `dense`."""
        flat = lambda a, b: _as_rows(full_labels(len(a.shape), len(b.shape), examples=False))  # noqa: E731
        blocks = self._matrix_blocks(flat, method, memory, accumulate)
        xp = self._xp
        return xp.concatenate([xp.concatenate(row, 1) for row in blocks], 0)

    def diagonal(self, *, method: Method = Auto(), memory: int | str | None = None) -> Any:
        """The diagonal of a square K as a vector: squared norms of J's rows where both sides are one."""
        xp = self._xp
        parts = self._on_diagonal(lambda a, _: _same_axes(a, out=True), method, memory)
        return xp.concatenate([xp.reshape(part, (math.prod(part.shape),)) for part in parts], 0)

    def trace(self, *, method: Method = Auto(), memory: int | str | None = None) -> Any:
        """The trace of a square K, a scalar array."""
        parts = self._on_diagonal(lambda a, _: _same_axes(a, out=False), method, memory)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def to_scipy(self) -> Any:
        """K as a `scipy.sparse.linalg.LinearOperator` on NumPy vectors: ``eigsh`` and ``cg`` run on it."""
        xp = self._xp
        adjoint = self.H
        return scipy_operator(
            self.shape, self.dtype, lambda v: xp.to_numpy(self @ v), lambda v: xp.to_numpy(adjoint @ v)
        )

    def __repr__(self) -> str:
        return f"GramOperator({self._left.frontend.name}, shape={self.shape}, dtype={self.dtype})"

    # Steps --------------------------------------------------------------------------------------------------------

    def _request(
        self, side1: Side, side2: Side, labels: LabelsOf, accumulate: Any, *, by_leaf: bool, crossed: bool = True
    ) -> Request:
        """With ``crossed``, every pair of outputs; without, each output of side 1 with its namesake."""
        side1.check_examples()
        side2 = side1 if side1.same_point(side2) else side2
        if side2 is not side1:
            side2.check_examples(beside=side1)
        pairs = tuple(
            (l1, l2, labels(a, b))
            for l1, a in enumerate(side1.outputs)
            for l2, b in enumerate(side2.outputs)
            if crossed or l1 == l2
        )
        frontend = self._left.frontend
        # Copies, for what is found of f now is of this call.
        first = side1.with_arrays(side1.arrays())
        second = first if side2 is side1 else side2.with_arrays(side2.arrays())
        return Request(frontend, (first, second), pairs, self._conjugate, check_accumulate(accumulate), by_leaf)

    def _compute(
        self, request: Request, method: Method, memory: int | str | None, plan: Plan | None
    ) -> list[list[Any]]:
        results = run_request(request, method, memory, plan)
        return [[x.conj() for x in part] for part in results] if self._outer else results

    def _blocks(
        self,
        labels: LabelsOf,
        method: Method,
        memory: int | str | None,
        accumulate: Any,
        by_leaf: bool,
        plan: Plan | None,
    ) -> list[list[Any]]:
        """Per pair of sides, the tree of trees; with ``by_leaf``, one for each leaf."""
        check_method(method)
        stacked = len(self._left.sides) > 1 or len(self._right.sides) > 1
        if plan is not None and stacked:
            raise ArgumentError("plan= of stacked Jacobians: each pair has its own. Fix: leave plan out.")
        requests = [
            [self._request(side1, side2, labels, accumulate, by_leaf=by_leaf) for side2 in self._right.sides]
            for side1 in self._left.sides
        ]
        return [[self._tree(r, self._compute(r, method, memory, plan), by_leaf) for r in row] for row in requests]

    def _tree(self, request: Request, results: list[list[Any]], by_leaf: bool) -> Any:
        side1, side2 = request.sides
        width = len(side2.outputs)

        def build(k: int) -> Any:
            rows = [
                side2.unflatten_output([results[l1 * width + l2][k] for l2 in range(width)])
                for l1 in range(len(side1.outputs))
            ]
            return side1.unflatten_output(rows)

        return [build(k) for k in range(len(side1.variable))] if by_leaf else build(0)

    def _matrix_blocks(
        self, labels: LabelsOf, method: Method, memory: int | str | None, accumulate: Any
    ) -> list[list[Any]]:
        check_method(method)
        rows: list[list[Any]] = []
        for side1 in self._left.sides:
            strips: list[list[Any]] = [[] for _ in side1.outputs]
            for side2 in self._right.sides:
                request = self._request(side1, side2, labels, accumulate, by_leaf=False)
                results = self._compute(request, method, memory, None)
                for (l1, l2, _), (block,) in zip(request.pairs, results, strict=True):
                    shape = (math.prod(side1.outputs[l1].shape), math.prod(side2.outputs[l2].shape))
                    strips[l1].append(self._xp.reshape(block, shape))
            rows.extend(strips)
        return rows

    def _on_diagonal(self, labels: LabelsOf, method: Method, memory: int | str | None) -> list[Any]:
        check_method(method)
        shapes = [[s.shape for side in j.sides for s in side.outputs] for j in (self._left, self._right)]
        if shapes[0] != shapes[1]:
            raise ArgumentError(
                f"the diagonal and the trace need a square K with equal outputs on both sides, got {shapes[0]} and "
                f"{shapes[1]}. Fix: take them of J @ J.T, or of two sides with as many examples and outputs."
            )
        found: list[Any] = []
        for side1, side2 in zip(self._left.sides, self._right.sides, strict=True):
            request = self._request(side1, side2, labels, None, by_leaf=False, crossed=False)
            results = self._compute(request, method, memory, None)
            found.extend(part[0] for part in results)
        return found


def _nested(blocks: list[list[Any]]) -> Any:
    """The blocks of stacked Jacobians as a tuple of tuples; a single block as it is."""
    if len(blocks) == 1 and len(blocks[0]) == 1:
        return blocks[0][0]
    return tuple([tuple(row) for row in blocks])


def _fitted(pattern: str | None, examples: bool) -> LabelsOf:
    if pattern is None:
        return lambda a, b: full_labels(len(a.shape), len(b.shape), examples=examples)
    parsed = Pattern.parse(pattern)
    return lambda a, b: parsed.fit(a.shape, b.shape, examples=examples)


def _as_rows(labels: Labels) -> Labels:
    return Labels(labels.left, labels.right, labels.left + labels.right)


def _same_axes(struct: Struct, *, out: bool) -> Labels:
    names = tuple(f"a{axis}" for axis in range(len(struct.shape)))
    return Labels(names, names, names if out else ())

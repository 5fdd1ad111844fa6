"""From two sides and a pattern to numbers: describe, plan, run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from jacgram.arrays import Arrays, adapter
from jacgram.arrays.measure import device
from jacgram.contract.matrix_free import MatrixFreeKernel
from jacgram.contract.structured import StructuredKernel
from jacgram.core.dtypes import accumulation, is_complex, promote, real_dtype
from jacgram.core.frontend import DescriptionChanged, Frontend, Side, Struct
from jacgram.core.patterns import Labels
from jacgram.core.sizes import format_bytes, parse_bytes
from jacgram.errors import ArgumentError, BudgetError, UnsupportedError
from jacgram.plan.applying import applies
from jacgram.plan.condensing import condensed
from jacgram.plan.device import Device
from jacgram.plan.make import make_plan
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Materialize, Method
from jacgram.plan.task import Pair, SideShapes, Task
from jacgram.plan.wanted import wanted

LabelsOf = Callable[[Struct, Struct], Labels]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of two sides.

    Attributes:
        frontend: the framework of both.
        sides: side 1 and side 2; the same object where both are one point.
        pairs: output leaves wanted of side 1 and side 2, with the labels that say what of them.
        conjugate: whether side 2 enters conjugated.
        accumulate: real dtype in which products are summed, or None.
        by_leaf: whether each leaf's part is kept apart.
    """

    frontend: Frontend
    sides: tuple[Side, Side]
    pairs: tuple[tuple[int, int, Labels], ...]
    conjugate: bool
    accumulate: str | None
    by_leaf: bool

    @property
    def same(self) -> bool:
        """Whether both sides are one."""
        return self.sides[0] is self.sides[1]

    @property
    def dtype(self) -> str:
        """The inputs' dtype, from outputs and variables of both sides."""
        return promote(*(s.dtype for side in self.sides for s in (*side.outputs, *side.variable)))

    def copied(self) -> Request:
        """The same of copies of the sides."""
        first, second = (side.with_arrays(side.arrays()) for side in self.sides)
        return replace(self, sides=(first, first if self.same else second))

    @property
    def xp(self) -> Arrays:
        """The array primitives, on the device of the sides' arrays."""
        held = [array for side in self.sides for array in side.arrays()]
        return adapter(self.frontend.name).at(held)

    @property
    def result_dtype(self) -> str:
        """The inputs' dtype, float32 where that is a half precision."""
        return accumulation(self.dtype)


def plan_request(request: Request, method: Method, memory: int | str | None) -> Plan:
    """The plan for a request; no kernel value is computed."""
    return _plan(request, make_task(request, method), method, memory)[0]


def _plan(request: Request, task: Task, method: Method, memory: int | str | None) -> tuple[Plan, Task]:
    """The plan, and the task with the leaves that it condenses."""
    budget = _rounded(request.xp.free_bytes() // 2) if memory is None else parse_bytes(memory)
    plan, task = _planned(task, _sharing(task), method, budget, figures(request, method))
    checks = {side.checked for side in request.sides if side.has_examples and side.checked != "checked"}
    notes = dict.fromkeys(note for side in request.sides for note in side.notes)
    return plan.with_notes([*(f"interacting examples: {check}" for check in sorted(checks)), *notes]), task


def figures(request: Request, method: Method) -> Device:
    """The caller's figures of the device, or those measured of the one that the sides' arrays are on."""
    return method.device or device(request.xp)


def _rounded(n_bytes: int) -> int:
    """To four binary digits, downwards: free memory is another at each call, and plans are to be the same."""
    step = 1 << max(n_bytes.bit_length() - 4, 0)
    return n_bytes // step * step


@lru_cache(maxsize=128)
def _planned(
    task: Task, sharing: tuple[int, ...], method: Method, budget_bytes: int, device: Device
) -> tuple[Plan, Task]:
    """The plan and the task it runs, kept with what planning found of it. ``sharing`` tells equal tasks apart."""
    del sharing
    plan = make_plan(task, method, budget_bytes, device)
    return plan, condensed(task, plan.condensed, plan.pass_blocks)


def _sharing(task: Task) -> tuple[int, ...]:
    """Which operands of the task's uses are one object: it decides what is held and contracted once."""
    first: dict[int, int] = {}
    operands = (x for side in task.sides for use in side.uses for x in (use.activation, use.cotangent))
    return tuple(first.setdefault(id(x), len(first)) for x in operands)


def make_task(request: Request, method: Method, *, recall: bool = False) -> Task:
    """What is to be planned, from shapes alone; with ``recall``, from what earlier sides had (see `Side.describe`)."""
    side1, side2 = request.sides
    dtype = accumulation(request.dtype, request.accumulate)
    if not request.xp.has(dtype):
        raise ArgumentError(
            f"accumulate={request.accumulate!r} asks for sums in {dtype}, which {request.frontend.name} has been told "
            'not to use. Fix: jax.config.update("jax_enable_x64", True) at the start of the program.'
        )
    pairs = tuple(
        Pair(l1, l2, wanted(labels, side1.outputs[l1].shape, side2.outputs[l2].shape, examples=side1.has_examples))
        for l1, l2, labels in request.pairs
    )
    first = _shapes(side1, 1, pairs, method, recall=recall)
    symmetric = request.same and _symmetric(pairs)
    leaves = tuple(zip(side1.paths, side1.variable, strict=True))
    task = Task(
        (first, first), pairs, leaves, dtype, symmetric,
        inner_dtype=request.result_dtype, copies=len(leaves) if request.by_leaf else 1,
    )  # fmt: skip
    if symmetric:
        return task
    if side1.like(side2):
        side2.adopt(side1)
        alike = replace(task, sides=(first, replace(first, n=side2.n, outputs=side2.outputs)))
        if alike.same_seeds:
            # Where a function is compiled, sides of other sizes are other programs, each traced by itself.
            may_join = side1.n == side2.n or not request.frontend.compiles
            return replace(alike, joined_bytes=side1.example_bytes + side2.example_bytes if may_join else None)
    second = _shapes(side2, 2, pairs, method, recall=recall)
    return replace(task, sides=(first, second))


def _symmetric(pairs: tuple[Pair, ...]) -> bool:
    """Whether what is wanted of each pair is wanted of the opposite pair with the sides exchanged."""
    found = {(pair.output1, pair.output2): pair.wanted for pair in pairs}
    return all((l2, l1) in found and wanted_.swapped(found[l2, l1]) is not None for (l1, l2), wanted_ in found.items())


def _shapes(side: Side, position: int, pairs: tuple[Pair, ...], method: Method, *, recall: bool) -> SideShapes:
    shapes = SideShapes(side.n, side.has_examples, side.outputs, (), ())
    task = Task((shapes, shapes), pairs, (), "float32", hermitian=False)
    seeds = [Struct(basis.shape, "float32") for basis in task.seeds(position)]
    uses = tuple(side.describe(seeds, structured=not isinstance(method, Materialize), recall=recall))
    counts = tuple(seed.shape[0] for seed in seeds)
    within = side.largest_bytes(sum(counts))
    return SideShapes(side.n, side.has_examples, side.outputs, counts, uses, within_bytes=within)


def run_request(request: Request, method: Method, memory: int | str | None, given: Plan | None) -> list[list[Any]]:
    """Per pair of the request, the numbers; with ``by_leaf``, those of each leaf in turn.

    ``given`` is a plan made before, in place of one made here.
    """
    _check_given(given, memory)
    closed = request.frontend.closed(*request.sides)
    if closed is None:
        return _run_eagerly(request, method, memory, given)
    request, keys = replace(request, sides=closed[0]), closed[1]
    arrays, places = _arrays(request)
    key = (keys, places, request.same, request.pairs, request.conjugate, request.accumulate, request.by_leaf)
    key = (key, request.xp, method, memory, given)
    prepared = _prepared.pop(key, None)
    if prepared is None:
        kernel = _kernel(request, method, memory, given)
        prepared = request.frontend.prepare(kernel, arrays)
        assert prepared is not None, "a framework that traces prepares what it traced"
    _prepared[key] = prepared
    if len(_prepared) > _PREPARED:
        _prepared.popitem(last=False)
    return prepared(arrays)


def _check_given(given: object, memory: object) -> None:
    if given is not None and not isinstance(given, Plan):
        raise ArgumentError(
            f"plan must be a Plan or None, got {type(given).__name__}. Fix: make it with K.plan(...), or read it with "
            "Plan.from_json(text)."
        )
    if memory is not None:
        parse_bytes(memory)  # pyright: ignore[reportArgumentType]


def _run_eagerly(request: Request, method: Method, memory: int | str | None, given: Plan | None) -> list[list[Any]]:
    """What was described before is planned for at first; where uses turn out to differ, what is described now."""
    for recall in (given is None, False):
        attempt = request.copied()  # sides take things over from one another, which is of this attempt alone
        try:
            kernel = _kernel(attempt, method, memory, given, recall=recall)
            return attempt.frontend.run(kernel, _arrays(attempt)[0])
        except DescriptionChanged:
            for side in request.sides:
                side.forget()
    raise UnsupportedError(
        "f does other things with its parameters from one call to the next, so nothing can be planned for it. Fix: let "
        "it do the same each time, or pass method=Materialize()."
    )


_PREPARED = 128  # requests kept planned and compiled; the least recently used goes first
_prepared: OrderedDict[Hashable, Callable[[Sequence[Any]], Any]] = OrderedDict()


def _arrays(request: Request) -> tuple[list[Any], tuple[int, ...]]:
    """The arrays of both sides, common ones once, and which of them each side holds, in the order of `Side.arrays`."""
    side1, side2 = request.sides
    held = side1.arrays() if request.same else [*side1.arrays(), *side2.arrays()]
    first: dict[int, int] = {}
    places = tuple(first.setdefault(id(array), len(first)) for array in held)
    return list({id(array): array for array in held}.values()), places


def _kernel(
    request: Request, method: Method, memory: int | str | None, given: Plan | None, *, recall: bool = False
) -> Callable[..., list[list[Any]]]:
    """The planned computation as a function of the arrays that `_arrays` lists."""
    side1, side2 = request.sides
    counts = len(side1.arrays())
    _, places = _arrays(request)
    asked = method if given is None else Materialize() if given.method == "materialize" else Auto()
    task = make_task(request, asked, recall=recall)
    if given is None:
        plan, task = _plan(request, task, method, memory)
    else:
        check_plan(given, task, memory)
        plan, task = given, condensed(task, given.condensed, given.pass_blocks)
    make = MatrixFreeKernel if plan.method == "matrix-free" else StructuredKernel
    xp = request.xp

    def kernel(*arrays: Any) -> list[list[Any]]:
        held = [arrays[place] for place in places]
        first = side1.with_arrays(held[:counts])
        second = first if request.same else side2.with_arrays(held[counts:])
        real_part = side1.real_part or side2.real_part
        run = make(xp, (first, second), task, plan, request.conjugate, real_part, request.by_leaf)
        return [[_cast(xp, x, request.result_dtype) for x in part] for part in run.compute()]

    return kernel


def _cast(xp: Arrays, array: Any, dtype: str) -> Any:
    return xp.astype(array, dtype if is_complex(str(array.dtype).removeprefix("torch.")) else real_dtype(dtype))


def check_plan(plan: Plan, task: Task, memory: int | str | None) -> None:
    """`ArgumentError` unless a plan was made for a task of these shapes, `BudgetError` unless it fits ``memory``."""
    if memory is not None and plan.peak_bytes > parse_bytes(memory):
        raise BudgetError(
            f"plan takes {format_bytes(plan.peak_bytes)}, and memory={memory!r} allows less. Fix: make the plan with "
            "K.plan(memory=...), or leave memory out."
        )
    _check_sides(plan, task)
    _check_shapes(plan, task)
    _check_leaves(plan, task)
    if plan.shape_key != task.shape_key:
        raise ArgumentError(
            "plan was made for arrays of other shapes, and may take more memory with these. Fix: make the plan with "
            "K.plan(...) of this kernel."
        )


def _check_sides(plan: Plan, task: Task) -> None:
    if plan.method == "matrix-free":
        return
    square = plan.one_tile or plan.tile[0] == plan.tile[1]
    first = task.pairs[0].wanted
    if (
        plan.hermitian != task.hermitian
        or (plan.panels > 1 and not task.triangle)
        or ((task.triangle or first.paired) and not square)
        or (plan.seed_block != (0, 0) and (len(task.pairs) > 1 or None in first.blocked))
    ):
        made, found = ("one side with itself" if same else "two sides" for same in (plan.hermitian, task.hermitian))
        raise ArgumentError(
            f"plan was made for {made}, and this kernel is of {found}, or has another pattern. Fix: make the plan with "
            "K.plan(...) of this kernel, with the same pattern."
        )


def _check_shapes(plan: Plan, task: Task) -> None:
    examples = tuple(side.n for side in task.sides)
    expected = len(task.pairs) if plan.method != "matrix-free" else 0
    if plan.examples != examples or len(plan.leaves) != expected or plan.dtype != task.dtype:
        raise ArgumentError(
            f"plan was made for {plan.examples} examples and {len(plan.leaves)} pairs of outputs in {plan.dtype}, but "
            f"the kernel has {examples} examples and {len(task.pairs)} pairs in {task.dtype}. Fix: make the plan with "
            "K.plan(...) of this kernel, with the same pattern and accumulate."
        )


def _check_leaves(plan: Plan, task: Task) -> None:
    paths = [path for path, _ in task.leaves]
    known = all(leaf < len(paths) for leaf in plan.condensed)
    components = condensed(task, plan.condensed, plan.pass_blocks).components if known else []
    expected_leaves = [(position, paths[component.leaf]) for position, component in enumerate(components)]
    for pair in plan.leaves:
        if not known or [(leaf.component, leaf.path) for leaf in pair] != expected_leaves:
            raise ArgumentError(
                f"plan was made for the leaves {[leaf.path for leaf in pair]}, but this kernel has "
                f"{[path for _, path in expected_leaves] or paths}. Fix: make the plan with K.plan(...) of this kernel."
            )
    for pair, leaves in zip(task.pairs, plan.leaves, strict=False):  # the matrix-free method has no leaves
        for leaf in leaves:
            if not applies(leaf.choice, components[leaf.component], pair.wanted):
                raise ArgumentError(
                    f"plan was made for another pattern: it contracts leaf {leaf.path!r} in a way that does not "
                    "give what this kernel asks for. Fix: make the plan with K.plan(...) of this kernel, with the same "
                    "pattern."
                )

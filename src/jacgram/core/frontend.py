"""What a frontend offers: one side of a Gram matrix, in one framework.

A `Side` is a function at a point: f, its variable (parameters, or its input) and its examples. Everything above the
frontends works through this protocol and an array adapter, and never learns which framework it serves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from jacgram.core.uses import Use


@dataclass(frozen=True, slots=True)
class Struct:
    """Shape and dtype of an array, without the array.

    Attributes:
        shape: sizes of the axes.
        dtype: name of the dtype, as in ``"float32"``.
    """

    shape: tuple[int, ...]
    dtype: str


UNCHECKED = "unchecked (not used yet)"
"""Of a side whose examples have not been compared with their batch."""


class DescriptionChanged(Exception):  # noqa: N818  (it tells the caller to describe again, and reaches no user)
    """Uses are not those that a description told of, or that were planned for."""


class Side(Protocol):
    """f at one point: its variable's leaves, its output leaves, and products with its Jacobian.

    All lists are in the flatten order of the framework's own pytrees. With ``has_examples``, axis 0 of every output
    leaf (and of every leaf of x) counts examples.
    """

    @property
    def framework(self) -> str:
        """``"jax"`` or ``"torch"``."""
        ...

    @property
    def has_examples(self) -> bool:
        """Whether J is taken with respect to parameters, row blocks then belonging to examples."""
        ...

    @property
    def real_part(self) -> bool:
        """Whether ẏ is the real part of rows times θ̇: real outputs of complex parameters."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Readable path of each leaf of the variable, such as ``"layers.0.weight"``."""
        ...

    @property
    def variable(self) -> tuple[Struct, ...]:
        """Shape and dtype of each leaf of the variable."""
        ...

    @property
    def outputs(self) -> tuple[Struct, ...]:
        """Shape and dtype of each leaf of y, the example axis included."""
        ...

    @property
    def output_paths(self) -> tuple[str, ...]:
        """Readable path of each leaf of y; ``""`` where y is one array."""
        ...

    @property
    def n(self) -> int:
        """Number of examples; 1 where `has_examples` is false."""
        ...

    @property
    def doubtful(self) -> bool:
        """Whether outputs are those of an earlier side of f, and f has not given them again since.

        They need not be this side's: what came of it may be wrong, and so may errors. The side is to be made anew.
        """
        ...

    @property
    def checked(self) -> str:
        """Whether examples were compared with their batch: ``"checked"``, or why not."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What a plan should say of how uses are found: fallbacks taken, and why. Known once `describe` was called."""
        ...

    @property
    def example_bytes(self) -> int:
        """Bytes of all examples."""
        ...

    def largest_bytes(self, n_seeds: int) -> int:
        """Bytes of one example's largest array on the way to uses for so many seeds, as `describe` found it."""
        ...

    def arrays(self) -> list[Any]:
        """Every array this side holds (variable, held parameters, examples), to be passed to a compiled function."""
        ...

    def with_arrays(self, arrays: Sequence[Any]) -> Self:
        """The same side holding other arrays, as `arrays` lists them (tracers, say)."""
        ...

    def same_point(self, other: Self) -> bool:
        """Whether both sides are one function at one point, so that their Gram matrix is Hermitian."""
        ...

    def like(self, other: Self) -> bool:
        """Whether both sides surely have the same uses, of one variable: they differ in their examples alone.

        False where the values of examples may decide what f does.
        """
        ...

    @property
    def steady(self) -> bool:
        """Whether no values of examples decide which uses f has; f may be tried to find out."""
        ...

    def adopt(self, other: Self) -> None:
        """Take over what a side that is `like` this one was found to do by `describe`, so as not to find it again."""
        ...

    def forget(self) -> None:
        """Drop what f was found to do: it does other things now."""
        ...

    def joined(self, other: Self) -> Self | None:
        """The examples of this side and then those of another, as one side; None unless it is `like` this one."""
        ...

    def examples(self, start: Any, size: int) -> Self:
        """The side of ``size`` examples from ``start`` (which may be traced)."""
        ...

    def jvp(self, tangents: Sequence[Any]) -> list[Any]:
        """J applied to tangents shaped as the variable: arrays shaped as the outputs."""
        ...

    def vjp(self, cotangents: Sequence[Any]) -> list[Any]:
        """Jᵀ (not conjugated) applied to cotangents shaped as the outputs: arrays shaped as the variable."""
        ...

    def uses(self, seeds: Sequence[Any], *, structured: bool) -> list[Use]:
        """Every use of every leaf.

        Args:
            seeds: per output leaf, an array ``(s_leaf, *output axes)`` of real cotangents of one example. Seeds of
                all leaves are laid one after the other along one axis ``s``.
            structured: false asks for one identity use per leaf.

        Returns:
            Uses with activations ``(n, …)`` and cotangents ``(n, s, …)``. A leaf with no use has zero rows.
        """
        ...

    def describe(self, seeds: Sequence[Struct], *, structured: bool, recall: bool = False) -> list[Use]:
        """The uses of one example with a `Struct` in place of each array, for planning.

        Computes no value where the framework can trace shapes alone. Shared cotangents are one shared `Struct` object.

        Args:
            seeds, structured: see `uses`, whose every call then gives uses of these kinds and shapes.
            recall: whether what an earlier side of f had will do. It need not hold for this one: `uses` then raises
                `DescriptionChanged`, after which there is nothing to recall.
        """
        ...

    def check_examples(self, beside: Self | None = None) -> None:
        """Raise `InteractingExamplesError` unless each example's output is its own.

        ``beside`` is a side that was checked just before.
        """
        ...

    def flatten_variable(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as the variable; `StructureError` naming ``argument`` otherwise."""
        ...

    def unflatten_variable(self, leaves: Sequence[Any]) -> Any:
        """The variable's tree around these leaves."""
        ...

    def flatten_output(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as y; `StructureError` naming ``argument`` otherwise."""
        ...

    def unflatten_output(self, leaves: Sequence[Any]) -> Any:
        """y's tree around these leaves."""
        ...


class Frontend(Protocol):
    """A framework: makes sides and runs functions of arrays.

    Attributes:
        name: ``"jax"`` or ``"torch"``.
        compiles: whether a function is compiled anew for every shape of its arrays.
    """

    name: str
    compiles: bool

    def side(
        self,
        f: Any,
        x: Any,
        params: Any,
        *,
        argument: str,
        create_graph: bool = False,
        beside: Any = None,
        recall: bool = False,
    ) -> Side:
        """Check f, x and params, and make a side of them.

        ``argument`` names x in errors (``"x1"``, ``"x2"``). ``create_graph`` keeps PyTorch's results differentiable.
        ``beside`` is a side made just before: one that differs from it in its examples alone has outputs like it, and f
        need not be called to find them. With ``recall``, what an earlier side of f had will do: see `Side.doubtful`.
        """
        ...

    def run(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """``function(*arrays)``, compiled and cached where the framework compiles, in full precision."""
        ...

    def prepare(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Callable[[Sequence[Any]], Any] | None:
        """`run` for many sequences of arrays of the shapes and dtypes of these, traced once.

        None where calls are not traced, and may depend on values: `run` is then the way.
        """
        ...

    def closed(self, first: Any, second: Any) -> tuple[tuple[Side, Side], Hashable] | None:
        """Both sides of f's traced program, closing over nothing, and a key equal for equal programs and shapes.

        Where ``second`` is ``first``, so it is in the result. None where a framework does not trace, or where equal
        programs cannot be told.
        """
        ...

    def digest(self, side: Any) -> str:
        """Digest of what f computes and how it is differentiated, never of its name alone, and equal in any process.

        Held arrays (parameters that are not differentiated, constants) count by their content.
        """
        ...

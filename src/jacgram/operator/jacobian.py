"""The Jacobian of a function at a point, as a linear map that is never formed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, final, overload

from jacgram.core.dtypes import promote
from jacgram.core.frontend import Frontend, Side
from jacgram.errors import ArgumentError, StructureError
from jacgram.frontends.select import framework_of, load
from jacgram.operator.gram import GramOperator
from jacgram.operator.vectors import flatten_rows, unflatten_rows


@final
class Jacobian:
    """J = ∂f/∂x at x, or ∂f/∂θ at (θ, x), as a linear map.

    Args:
        f: the function. ``f(x) -> y``; with ``params``, ``f(params, x) -> y`` with examples on axis 0 of every leaf of x
            and of y. A ``torch.nn.Module`` or ``equinox.Module`` may stand for f: J is then taken with respect to its own
            parameters (an ``equinox.Module`` is called on one example at a time).
        x: an array or a tree of arrays. Integer leaves are fine where J is taken with respect to parameters.
        params: the parameters: a tree of arrays (JAX), a dict of tensors or an ``nn.Module`` (PyTorch). With f an
            ``nn.Module``, a dict ``{name: tensor}`` selects a subset of its parameters, the rest held fixed.
        create_graph: PyTorch only: whether results can be differentiated again. In JAX they always can.

    Raises:
        StructureError: arguments of unsuitable type, structure, shape or dtype; the message names the argument.

    Cost:
        Shapes are traced once (PyTorch: one example is run); nothing is differentiated yet.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> J = jacgram.Jacobian(lambda x: x**2, jnp.array([1.0, 2.0, 3.0]))
        >>> print(J @ jnp.ones(3))
        [2. 4. 6.]
        >>> J.shape
        (3, 3)
    """

    __slots__ = ("_frontend", "_sides")

    def __init__(self, f: Any, x: Any, *, params: Any = None, create_graph: bool = False) -> None:
        frontend = load(framework_of(params=params, x=x, f=f))
        side = frontend.side(f, x, params, argument="x", create_graph=create_graph)
        self._frontend: Frontend = frontend
        self._sides: tuple[Side, ...] = (side,)

    @classmethod
    def of_sides(cls, frontend: Frontend, sides: Sequence[Side]) -> Jacobian:
        """A Jacobian of sides already made, their rows one below the other."""
        made = cls.__new__(cls)
        made._frontend, made._sides = frontend, tuple(sides)
        return made

    @property
    def frontend(self) -> Frontend:
        """The frontend that serves this Jacobian."""
        return self._frontend

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides whose rows are stacked; one unless made by `vstack`."""
        return self._sides

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs of all examples) and columns (entries of the variable)."""
        rows = sum(math.prod(struct.shape) for side in self._sides for struct in side.outputs)
        return rows, sum(math.prod(struct.shape) for struct in self._sides[0].variable)

    @property
    def dtype(self) -> str:
        """Name of the dtype of J's entries."""
        structs = [struct for side in self._sides for struct in (*side.outputs, *side.variable)]
        return promote(*(struct.dtype for struct in structs))

    @property
    def T(self) -> TransposedJacobian:  # noqa: N802
        """Jᵀ, not conjugated."""
        return TransposedJacobian(self, conjugate=False)

    @property
    def H(self) -> TransposedJacobian:  # noqa: N802
        """Jᴴ, the adjoint; Jᵀ for real J."""
        return TransposedJacobian(self, conjugate=True)

    @overload
    def __matmul__(self, other: TransposedJacobian) -> GramOperator: ...
    @overload
    def __matmul__(self, other: Any) -> Any: ...
    def __matmul__(self, other: Any) -> Any:
        """``J @ u``: u shaped as the variable, the result as y. ``J1 @ J2.T``: a `GramOperator`."""
        if isinstance(other, TransposedJacobian):
            return GramOperator(self, other.jacobian, conjugate=other.conjugate)
        if isinstance(other, Jacobian):
            raise ArgumentError("J1 @ J2 multiplies two Jacobians. Fix: J1 @ J2.T (or J2.H) for their Gram matrix.")
        tangents = self._sides[0].flatten_variable(other, "u")
        return unflatten_rows(self, push(self, tangents))

    def __repr__(self) -> str:
        kind = "parameters" if self._sides[0].has_examples else "x"
        return f"Jacobian({self._frontend.name}, shape={self.shape}, dtype={self.dtype}, with respect to {kind})"


@final
class TransposedJacobian:
    """Jᵀ or Jᴴ as a linear map: what ``J.T`` and ``J.H`` are.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> J = jacgram.Jacobian(lambda x: x[:2] * x[1:], jnp.array([1.0, 2.0, 3.0]))
        >>> print(J.T @ jnp.ones(2))
        [2. 4. 2.]
    """

    __slots__ = ("conjugate", "jacobian")

    def __init__(self, jacobian: Jacobian, *, conjugate: bool) -> None:
        self.jacobian = jacobian
        self.conjugate = conjugate

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and rows of J."""
        rows, columns = self.jacobian.shape
        return columns, rows

    @property
    def T(self) -> Jacobian:  # noqa: N802
        """J again, for a real J or ``J.T``."""
        if self.conjugate and self.jacobian.dtype.startswith("complex"):
            raise ArgumentError("J.H.T is the conjugate of J, which is no Jacobian. Fix: J.H.H or J.T.T, which are J.")
        return self.jacobian

    @property
    def H(self) -> Jacobian:  # noqa: N802
        """J again, for a real J or ``J.H``."""
        if not self.conjugate and self.jacobian.dtype.startswith("complex"):
            raise ArgumentError("J.T.H is the conjugate of J, which is no Jacobian. Fix: J.H.H or J.T.T, which are J.")
        return self.jacobian

    def __matmul__(self, v: Any) -> Any:
        """v shaped as y, or its flat vector; the result shaped as the variable."""
        cotangents, _ = flatten_rows(self.jacobian, v, "v")
        leaves = pull(self.jacobian, cotangents, conjugate=self.conjugate)
        return self.jacobian.sides[0].unflatten_variable(leaves)

    def __repr__(self) -> str:
        return f"{self.jacobian!r}.{'H' if self.conjugate else 'T'}"


def vstack(jacobians: Sequence[Jacobian]) -> Jacobian:
    """Several functions of the same variable as one Jacobian, rows one below the other.

    Its y is the tuple of their outputs: ``vstack([Ja, Jb]) @ u`` is ``(Ja @ u, Jb @ u)``, and a dense Gram matrix is a
    tuple of tuples. Numbers of examples may differ.

    Raises:
        ArgumentError: no Jacobians.
        StructureError: they differ in framework, or in the structure or shapes of their variables.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> p, x = jnp.ones(2), jnp.arange(6.0).reshape(3, 2)
        >>> inner = jacgram.Jacobian(lambda p, x: x @ p, x, params=p)
        >>> edge = jacgram.Jacobian(lambda p, x: (x @ p) ** 2, x[:1], params=p)
        >>> J = jacgram.vstack([inner, edge])
        >>> (J @ J.T).shape
        (4, 4)
    """
    if not jacobians:
        raise ArgumentError("vstack got no Jacobians. Fix: pass a list of at least one.")
    for position, jacobian in enumerate(jacobians):
        if not isinstance(jacobian, Jacobian):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise StructureError(f"vstack: item {position} is {type(jacobian).__name__}, expected a Jacobian.")
        check_same_variable(jacobians[0], jacobian, "the first Jacobian", f"Jacobian {position}")
    return Jacobian.of_sides(jacobians[0].frontend, [side for jacobian in jacobians for side in jacobian.sides])


def check_same_variable(first: Jacobian, second: Jacobian, name1: str, name2: str) -> None:
    """`StructureError` unless both are taken with respect to variables of equal structure."""
    a, b = first.sides[0], second.sides[0]
    if first.frontend.name != second.frontend.name:
        raise StructureError(
            f"{name1} is a {first.frontend.name} function and {name2} a {second.frontend.name} function. "
            "Fix: write both in one framework."
        )
    if a.has_examples != b.has_examples:
        raise StructureError(
            f"{name1} and {name2} differ: one is taken with respect to parameters, the other with respect to x. "
            "Fix: pass params to both, or to none."
        )
    shapes_a, shapes_b = ({p: s.shape for p, s in zip(x.paths, x.variable, strict=True)} for x in (a, b))
    if shapes_a != shapes_b:
        only = {path: (shapes_a.get(path), shapes_b.get(path)) for path in shapes_a | shapes_b}
        differ = {path: pair for path, pair in only.items() if pair[0] != pair[1]}
        listed = "; ".join(f"{path or 'the variable'}: {x} and {y}" for path, (x, y) in list(differ.items())[:5])
        raise StructureError(
            f"the variables of {name1} and {name2} differ in structure or shape: {listed}. "
            "Fix: take both Jacobians with respect to variables of the same structure and shapes."
        )


def push(jacobian: Jacobian, tangents: Sequence[Any]) -> list[list[Any]]:
    """J applied to tangents: per side, arrays shaped as its outputs."""
    sides = jacobian.sides
    counts = [len(side.arrays()) for side in sides]

    def run(*arrays: Any) -> list[list[Any]]:
        given = list(arrays)
        return [side.with_arrays([given.pop(0) for _ in range(k)]).jvp(arrays[sum(counts) :])
                for side, k in zip(sides, counts, strict=True)]

    return jacobian.frontend.run(run, [*(a for side in sides for a in side.arrays()), *tangents])


def pull(jacobian: Jacobian, cotangents: Sequence[Sequence[Any]], *, conjugate: bool) -> list[Any]:
    """Jᵀ or Jᴴ applied to cotangents, given per side: arrays shaped as the variable."""
    sides = jacobian.sides
    held = [a for side in sides for a in side.arrays()]

    def run(*arrays: Any) -> list[Any]:
        given, vectors = list(arrays[: len(held)]), list(arrays[len(held) :])
        total: list[Any] | None = None
        for side in sides:
            here = side.with_arrays([given.pop(0) for _ in side.arrays()])
            v = [vectors.pop(0) for _ in side.outputs]
            leaves = here.vjp([x.conj() for x in v] if conjugate else v)
            total = leaves if total is None else [a + b for a, b in zip(total, leaves, strict=True)]
        assert total is not None
        return [x.conj() for x in total] if conjugate else total

    return jacobian.frontend.run(run, [*held, *(x for side in cotangents for x in side)])

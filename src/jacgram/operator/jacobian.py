"""The Jacobian of a function at a point, as a linear map that is never formed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final, overload

from jacgram.errors import ArgumentError, StructureError
from jacgram.frontends.select import framework_of, load
from jacgram.operator.gram import GramOperator
from jacgram.operator.stack import Stack, check_same_variable


@final
class Jacobian:
    """J = ∂f/∂x at x, or ∂f/∂θ at (θ, x), as a linear map.

    Args:
        f: the function. ``f(x) -> y``; with ``params``, ``f(params, x) -> y`` with examples on axis 0 of every leaf of
            x and of y. A ``torch.nn.Module`` or ``equinox.Module`` may stand for f: J is then taken with respect to its
            own parameters (an ``equinox.Module`` is called on one example at a time).
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

    __slots__ = ("_stack",)

    def __init__(self, f: Any, x: Any, *, params: Any = None, create_graph: bool = False) -> None:
        frontend = load(framework_of(params=params, x=x, f=f))
        self._stack = Stack(frontend, (frontend.side(f, x, params, argument="x", create_graph=create_graph),))

    @classmethod
    def of(cls, stack: Stack) -> Jacobian:
        """The Jacobian of sides already made."""
        made = cls.__new__(cls)
        made._stack = stack
        return made

    @property
    def stack(self) -> Stack:
        """The sides this Jacobian is made of: one, unless made by `vstack`."""
        return self._stack

    @property
    def shape(self) -> tuple[int, int]:
        """Rows (outputs of all examples) and columns (entries of the variable)."""
        return self._stack.rows, self._stack.columns

    @property
    def dtype(self) -> str:
        """Name of the dtype of J's entries."""
        return self._stack.dtype

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
            return GramOperator(self._stack, other.jacobian.stack, conjugate=other.conjugate)
        if isinstance(other, Jacobian):
            raise ArgumentError("J1 @ J2 multiplies two Jacobians. Fix: J1 @ J2.T (or J2.H) for their Gram matrix.")
        return self._stack.unflatten(self._stack.push(self._stack.sides[0].flatten_variable(other, "u")))

    def __repr__(self) -> str:
        kind = "parameters" if self._stack.sides[0].has_examples else "x"
        return f"Jacobian({self._stack.frontend.name}, shape={self.shape}, dtype={self.dtype}, with respect to {kind})"


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
        if self.conjugate and self.jacobian.stack.is_complex:
            raise ArgumentError("J.H.T is the conjugate of J, which is no Jacobian. Fix: J.H.H or J.T.T, which are J.")
        return self.jacobian

    @property
    def H(self) -> Jacobian:  # noqa: N802
        """J again, for a real J or ``J.H``."""
        if not self.conjugate and self.jacobian.stack.is_complex:
            raise ArgumentError("J.T.H is the conjugate of J, which is no Jacobian. Fix: J.H.H or J.T.T, which are J.")
        return self.jacobian

    def __matmul__(self, v: Any) -> Any:
        """v shaped as y, or its flat vector; the result shaped as the variable."""
        stack = self.jacobian.stack
        cotangents, _ = stack.flatten(v, "v")
        return stack.sides[0].unflatten_variable(stack.pull(cotangents, conjugate=self.conjugate))

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
        check_same_variable(jacobians[0].stack, jacobian.stack, "the first Jacobian", f"Jacobian {position}")
    sides = [side for jacobian in jacobians for side in jacobian.stack.sides]
    return Jacobian.of(Stack(jacobians[0].stack.frontend, tuple(sides)))

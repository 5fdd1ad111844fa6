"""The formula in one call: `gram`, `ntk`, `plan` and `write_ntk`, thin forms of `Jacobian` and `GramOperator`."""

from __future__ import annotations

from typing import Any

from jacgram.core.dtypes import check_accumulate
from jacgram.core.frontend import Frontend, Side
from jacgram.core.sizes import parse_bytes
from jacgram.errors import ArgumentError
from jacgram.execute.serial import Serial
from jacgram.execute.work import Executor
from jacgram.frontends.select import framework_of, load
from jacgram.operator import GramOperator, Jacobian
from jacgram.operator.blocks import ReadExamples
from jacgram.operator.stack import Stack
from jacgram.operator.tiles import LazyKernel, sized
from jacgram.operator.tiling import Tiling, choose_tiling, tile_bytes
from jacgram.operator.write import WriteOptions, lazy_kernel, write_kernel
from jacgram.plan.plan import Plan
from jacgram.plan.strategies import Auto, Method


def gram(
    f: Any,
    x1: Any,
    x2: Any = None,
    *,
    pattern: str | None = None,
    method: Method = Auto(),
    memory: int | str | None = None,
    accumulate: Any = None,
    plan: Plan | None = None,
    create_graph: bool = False,
) -> Any:
    """J(x1) J(x2)ᴴ with J = ∂f/∂x, for a function of one array or tree.

    Args:
        f: ``x -> y``.
        x1, x2: points of equal structure, arrays or trees. None stands for x1: the result is then exactly Hermitian.
        pattern, method, memory, accumulate, plan: see `GramOperator.dense`.
        create_graph: PyTorch only: whether the result can be differentiated.

    Returns:
        ``y.shape + y.shape``, or as the pattern says; a tree of trees where y is one.

    Raises:
        As `Jacobian` and `GramOperator.dense`.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> print(jacgram.gram(lambda x: x**2, jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0])))
        [[12.  0.]
         [ 0. 32.]]
    """
    operator = _operator(f, x1, x2, None, create_graph=create_graph, with_params=False)
    return operator.dense(pattern, method=method, memory=memory, accumulate=accumulate, plan=plan)


def ntk(
    f: Any,
    x1: Any,
    x2: Any = None,
    *,
    params: Any = None,
    pattern: str | None = None,
    method: Method = Auto(),
    memory: int | str | None = None,
    accumulate: Any = None,
    by_leaf: bool = False,
    plan: Plan | None = None,
    create_graph: bool = False,
) -> Any:
    """The empirical neural tangent kernel J(x1) J(x2)ᴴ with J = ∂f/∂θ.

    Θ(x1, x2) = J_θ f(x1) J_θ f(x2)ᵀ of Jacot, Gabriel & Hongler, "Neural Tangent Kernel" (NeurIPS 2018), eq. 3, at
    finite width, not divided by anything.

    Args:
        f: ``f(params, x) -> y`` with examples on axis 0 of every leaf of x and y; or an ``nn.Module`` or
            ``equinox.Module``, whose own parameters are then the default for ``params``.
        x1, x2: inputs with n1 and n2 examples. None stands for x1: the result is then exactly Hermitian.
        params: the parameters θ, see `Jacobian`.
        pattern, method, memory, accumulate, by_leaf, plan: see `GramOperator.dense`.
        create_graph: PyTorch only: whether the result can be differentiated.

    Returns:
        ``(n1, n2, *o1, *o2)``, or as the pattern says; a tree of trees where y is one.

    Raises:
        As `Jacobian` and `GramOperator.dense`; ArgumentError when there are no parameters.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> f = lambda w, x: x @ w
        >>> x = jnp.array([[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]])
        >>> print(jacgram.ntk(f, x, pattern="n i, m i -> n m", params=jnp.ones((2, 5))))
        [[ 25.  55.  10.]
         [ 55. 125.  20.]
         [ 10.  20.   5.]]
    """
    frontend = load(framework_of(params=params, x1=x1, x2=x2, f=f))

    def kernel(side1: Side) -> Any:
        operator = _of_sides(frontend, side1, f, x1, x2, params, create_graph=create_graph, with_params=True)
        return operator.dense(pattern, method=method, memory=memory, accumulate=accumulate, by_leaf=by_leaf, plan=plan)

    side1 = frontend.side(f, x1, params, argument="x1", create_graph=create_graph, recall=True)
    try:
        found = kernel(side1)
    except Exception:
        if not side1.doubtful:
            raise
    else:
        if not side1.doubtful:
            return found
    return kernel(frontend.side(f, x1, params, argument="x1", create_graph=create_graph))


def write_ntk(
    store: Any,
    f: Any,
    x1: Any,
    x2: Any = None,
    *,
    params: Any = None,
    pattern: str | None = None,
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
    """The empirical neural tangent kernel, out of core: `ntk` written to a Zarr array tile by tile.

    Neither the kernel nor the examples need to fit in memory, and a killed run goes on where it stopped.

    Args:
        store: a path, a URL such as ``"s3://bucket/kernel.zarr"``, or a Zarr store.
        f, params: see `ntk`.
        x1, x2: examples, read in blocks as they are needed: a NumPy memory map, a Zarr or HDF5 array, or anything else
            that has a shape and a dtype and can be sliced; or a tree of them. None stands for x1.
        pattern, method, accumulate, tile, memory, executor, resume, overwrite, verify, progress: see
            `GramOperator.write`.

    Returns:
        The complete `zarr.Array`, opened for reading; see `open_kernel`.

    Raises:
        As `GramOperator.write`.

    Example:
        >>> import jax.numpy as jnp, jacgram, tempfile
        >>> store = tempfile.mkdtemp() + "/kernel.zarr"
        >>> x, w = jnp.arange(8.0).reshape(4, 2), jnp.ones((2, 3))
        >>> array = jacgram.write_ntk(store, lambda w, x: x @ w, x, params=w, tile=2, memory="64MiB")
        >>> array.shape, array.metadata.dimension_names
        ((4, 4, 3, 3), ('n', 'm', 'i', 'j'))
    """
    kernel = _read_kernel(f, x1, x2, params, pattern, method, accumulate)
    options = WriteOptions(tile, memory, executor, resume, overwrite, verify, progress)
    return write_kernel(store, kernel, pattern, options)


def tile_plan(
    f: Any,
    x1: Any,
    x2: Any = None,
    *,
    params: Any = None,
    pattern: str | None = None,
    method: Method = Auto(),
    tile: int | tuple[int, int] | None = None,
    memory: int | str | None = None,
) -> tuple[Tiling, tuple[int, ...], int]:
    """How `write_ntk` would cut a kernel, and the kernel's shape and bytes. Nothing is computed."""
    kernel = _read_kernel(f, x1, x2, params, pattern, method, None)
    budget = kernel.request().xp.free_bytes() // 2 if memory is None else parse_bytes(memory)
    tiling = choose_tiling(kernel, tile, budget)
    shape = sized(tiling.task, tiling.examples).pairs[0].wanted.shape
    return tiling, shape, tile_bytes(tiling.task, tiling.examples)


def plan(
    f: Any,
    x1: Any,
    x2: Any = None,
    *,
    params: Any = None,
    pattern: str | None = None,
    method: Method = Auto(),
    memory: int | str | None = None,
    accumulate: Any = None,
    by_leaf: bool = False,
) -> Plan:
    """What `ntk` (or, without parameters, `gram`) would do for these arguments, and its cost. Nothing is computed.

    Args:
        f, x1, x2, params: see `ntk` and `gram`.
        pattern, method, memory, accumulate, by_leaf: see `GramOperator.dense`.

    Example:
        >>> import jax.numpy as jnp, jacgram
        >>> p = jacgram.plan(lambda w, x: x @ w, jnp.ones((8, 3)), params=jnp.ones((3, 2)))
        >>> p.examples
        (8, 8)
    """
    return _operator(f, x1, x2, params, create_graph=False, with_params=None).plan(
        pattern, method=method, memory=memory, accumulate=accumulate, by_leaf=by_leaf
    )


def _operator(f: Any, x1: Any, x2: Any, params: Any, *, create_graph: bool, with_params: bool | None) -> GramOperator:
    """J1 @ J2.H. ``with_params`` says whether J must be (True), must not be (False) or may be ∂f/∂θ (None)."""
    frontend = load(framework_of(params=params, x1=x1, x2=x2, f=f))
    side1 = frontend.side(f, x1, params, argument="x1", create_graph=create_graph)
    return _of_sides(frontend, side1, f, x1, x2, params, create_graph=create_graph, with_params=with_params)


def _of_sides(
    frontend: Frontend,
    side1: Side,
    f: Any,
    x1: Any,
    x2: Any,
    params: Any,
    *,
    create_graph: bool,
    with_params: bool | None,
) -> GramOperator:
    """The same with side 1 made."""
    if with_params is not None and side1.has_examples != with_params:
        if with_params:
            raise ArgumentError(
                "ntk needs parameters: params is None, and f is a plain function. Fix: pass params=…, or "
                "gram(f, x1, x2) for the Jacobian with respect to x."
            )
        raise ArgumentError("gram differentiates with respect to x, but f is a module. Fix: ntk(f, x1, x2).")
    left = Jacobian.of(Stack(frontend, (side1,)))
    if x2 is None or x2 is x1:
        return left @ left.H
    side2 = frontend.side(f, x2, params, argument="x2", create_graph=create_graph, beside=side1)
    return left @ Jacobian.of(Stack(frontend, (side2,))).H


def _read_kernel(
    f: Any, x1: Any, x2: Any, params: Any, pattern: str | None, method: Method, accumulate: Any
) -> LazyKernel:
    """The kernel of examples that are read in blocks."""
    framework = framework_of(params=params, x1=x1, x2=x2, f=f)
    left = ReadExamples(framework, f, params, x1, "x1")
    right = left if x2 is None or x2 is x1 else ReadExamples(framework, f, params, x2, "x2")
    return lazy_kernel(
        framework,
        (left, right),
        pattern,
        conjugate=True,
        outer=False,
        accumulate=check_accumulate(accumulate),
        method=method,
    )

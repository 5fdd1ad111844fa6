"""The JAX frontend as one object: checks f, x and params, and makes sides of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, final

import jax

from jacgram.core.frontend import Struct
from jacgram.errors import StructureError
from jacgram.frontends.jax.closed import closed
from jacgram.frontends.jax.digest import program_digest
from jacgram.frontends.jax.execute import prepare, run
from jacgram.frontends.jax.program import OfInput, OfModule, OfParams, Program, output_leaves
from jacgram.frontends.jax.side import JaxSide
from jacgram.frontends.jax.trees import (
    Partition,
    as_jax,
    checked_arrays,
    example_count,
    is_array,
    is_complex,
    is_equinox_module,
    is_inexact,
    named_leaves,
    place,
    require_inexact,
    struct_of,
    type_of,
)

_INTEGER_PARAMS = "derivatives need real or complex parameters; cast them, or close over what is no parameter"
_INTEGER_X = "J is taken with respect to x; cast x, or pass params= to differentiate with respect to those"
_INTEGER_Y = "derivatives need real or complex outputs; return scores or probabilities, not classes"


@final
class JaxFrontend:
    """Sides and execution in JAX."""

    name = "jax"
    compiles = True

    def side(
        self,
        f: Any,
        x: Any,
        params: Any,
        *,
        argument: str,
        create_graph: bool = False,
        beside: JaxSide | None = None,
        recall: bool = False,
    ) -> JaxSide:
        """The side of f at x and params.

        Args:
            f: ``f(params, x) -> y``, batch-first; with ``params=None``, ``f(x) -> y``, or an `equinox.Module` that maps
                one example. Such a module with ``params=`` the same module, with other arrays or with None for what
                stays fixed, is taken at those.
            x: examples, an array or a pytree; integers too where it is not the variable.
            params: an array or a pytree of real or complex ones, or None.
            argument: the name of x in messages.
            create_graph: nothing to do: whatever is computed here can be differentiated.
            beside: a side made just before; where only the examples differ, not in number, f is not traced for shapes.
            recall: nothing to do: f is traced wherever it is not known to be what it was.

        Raises:
            StructureError: an argument, or f's output, is not as above.
        """
        if not callable(f):
            raise StructureError(f"f is {type(f).__name__} {f!r}, expected a function or an equinox.Module.")
        if params is None and not _has_parameters(f):
            return _side_of_input(f, x, argument)
        x_paths, x_leaves, x_treedef = named_leaves(x, argument)
        x_arrays = checked_arrays(x_paths, x_leaves, argument)
        n = example_count(x_paths, x_arrays, argument)
        if _has_parameters(f) and (params is None or _is_point_of(f, params)):
            paths, partition, variable, held = _module_variable(f, params)
            program: Program = OfModule(f, partition, x_treedef)
        else:
            paths, partition, variable, held = _params_variable(params)
            program = OfParams(f, partition, x_treedef)
        if beside is not None and (moved := beside.moved(program, variable, held, x_arrays, n)) is not None:
            return moved
        return _side(program, paths, variable, held, x_arrays, n)

    def run(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """``function(*arrays)``, compiled and cached by what it computes, in full precision."""
        return run(function, arrays)

    def prepare(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Callable[[Sequence[Any]], Any]:
        """`run` for many arrays of these shapes, traced once."""
        return prepare(function, arrays)

    def closed(self, first: Any, second: Any) -> tuple[tuple[JaxSide, JaxSide], Hashable] | None:
        """Both sides of traced programs, and their key; None where equal programs cannot be told."""
        return closed(first, second)

    def digest(self, side: Any) -> str:
        """What f computes and how it is differentiated, from its traced program."""
        return program_digest(side)


def _has_parameters(f: Any) -> bool:
    """Whether f is a module with something to differentiate; equinox wraps plain functions in modules without."""
    return is_equinox_module(f) and any(is_array(leaf) and is_inexact(leaf.dtype) for leaf in jax.tree.leaves(f))


def _is_point_of(module: Any, params: Any) -> bool:
    return type(params) is type(module)


def _side_of_input(f: Any, x: Any, argument: str) -> JaxSide:
    paths, leaves, _ = named_leaves(x, argument)
    arrays = checked_arrays(paths, leaves, argument)
    require_inexact(paths, arrays, argument, _INTEGER_X)
    partition, _, _ = Partition.of(x, ["variable"] * len(leaves))
    return _side(OfInput(f, partition), paths or ["x"], arrays, [], [], 1)


def _params_variable(params: Any) -> tuple[list[str], Partition, list[Any], list[Any]]:
    if is_equinox_module(params):
        return _module_variable(params, None)
    paths, leaves, _ = named_leaves(params, "params")
    arrays = checked_arrays(paths, leaves, "params")
    require_inexact(paths, arrays, "params", _INTEGER_PARAMS)
    partition, _, _ = Partition.of(params, ["variable"] * len(leaves))
    return paths, partition, arrays, []


def _module_variable(module: Any, point: Any) -> tuple[list[str], Partition, list[Any], list[Any]]:
    """The variable of a module: its floating-point arrays, or those that ``point`` holds, at the point's values."""
    paths, leaves, treedef = named_leaves(module, "params")
    chosen = leaves if point is None else _aligned(point, treedef, len(leaves))
    roles: list[str] = []
    values: list[Any] = []
    for path, own, given in zip(paths, leaves, chosen, strict=True):
        if is_array(own) and given is not None and tuple(own.shape) != tuple(given.shape):
            raise StructureError(f"{place('params', path)} has shape {given.shape}, expected {own.shape} as in f.")
        value = own if given is None else given
        differentiated = given is not None and is_array(own) and is_inexact(own.dtype)
        roles.append("variable" if differentiated else "held" if is_array(own) else "static")
        values.append(as_jax(value) if is_array(own) else value)
    if "variable" not in roles:
        raise StructureError("params holds no floating-point array to differentiate; leave at least one in it.")
    partition, variable, held = Partition.of(jax.tree.unflatten(treedef, values), roles)
    names = [path for path, role in zip(paths, roles, strict=True) if role == "variable"]
    return names, partition, variable, held


def _aligned(point: Any, treedef: Any, count: int) -> list[Any]:
    """Leaves of ``point`` in the module's order, None where it holds none."""
    try:
        aligned = treedef.flatten_up_to(point)
    except ValueError as error:
        raise StructureError(f"params is not a {treedef} as f is; partition f to make it: {error}") from error
    return aligned if len(aligned) == count else [None] * count


def _side(
    program: Program, paths: Sequence[str], variable: list[Any], held: list[Any], x: list[Any], n: int
) -> JaxSide:
    output_paths, outputs, treedef = _outputs(program, variable, held, x, n)
    structs = tuple(struct_of(leaf) for leaf in variable)
    _require_one_kind(structs, outputs)
    whole = "params" if program.has_examples else "x"
    return JaxSide(
        program, variable, held, x,
        paths=tuple(path or whole for path in paths), variable=structs,
        outputs=outputs, output_paths=tuple(output_paths), output_treedef=treedef, n=n,
    )  # fmt: skip


def _outputs(
    program: Program, variable: list[Any], held: list[Any], x: list[Any], n: int
) -> tuple[list[str], tuple[Struct, ...], Any]:
    """Paths, shapes and structure of y, by tracing shapes alone.

    Of no examples, the shapes are those of one: ``x.reshape(len(x), -1)`` has no meaning on an empty batch.
    """
    described: list[tuple[list[str], Any]] = []

    def batch(variable: list[Any], held: list[Any], x: list[Any]) -> list[Any]:
        names, leaves, treedef = output_leaves(program.batch(variable, held, x))
        described.append((names, treedef))
        return leaves

    empty = program.has_examples and n == 0
    specs = [[type_of(leaf) for leaf in group] for group in (variable, held)]
    x_specs = [type_of(leaf, (1, *leaf.shape[1:])) if empty else type_of(leaf) for leaf in x]
    leaves = jax.eval_shape(batch, *specs, x_specs)
    names, treedef = described[-1]
    require_inexact(names, leaves, "the output of f", _INTEGER_Y)
    if program.has_examples:
        _require_examples(names, leaves, 1 if empty else n)
    structs = [struct_of(leaf) for leaf in leaves]
    if empty:
        structs = [Struct((0, *struct.shape[1:]), struct.dtype) for struct in structs]
    return names, tuple(structs), treedef


def _require_examples(paths: Sequence[str], leaves: Sequence[Any], n: int) -> None:
    found = example_count(paths, leaves, "the output of f")
    if found != n:
        raise StructureError(
            f"the output of f has {found} examples on axis 0 for {n} in x; f must be batch-first: (n, ...) in and out."
        )


def _require_one_kind(variable: Sequence[Struct], outputs: Sequence[Struct]) -> None:
    kinds = {is_complex(struct.dtype) for struct in outputs}
    if any(is_complex(struct.dtype) for struct in variable) and len(kinds) > 1:
        raise StructureError(
            "f has complex parameters, and both real and complex outputs: J is complex for some and real-linear for "
            "others; take the outputs one kind at a time."
        )

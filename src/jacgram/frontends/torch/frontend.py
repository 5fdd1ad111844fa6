"""The PyTorch frontend as one object: checks f, x and params, and makes sides of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from torch import nn

from jacgram.arrays.torch import reuse_freed_memory
from jacgram.core.frontend import Struct
from jacgram.errors import InteractingExamplesError, StructureError
from jacgram.frontends.torch.calling import RefuseBatchStatistics, exact_calls, full_precision, training_batch_norms
from jacgram.frontends.torch.digest import program_digest
from jacgram.frontends.torch.outputs import Outputs, Recollection, output_leaves
from jacgram.frontends.torch.products import constants
from jacgram.frontends.torch.program import OfInput, OfModule, OfParams, Program
from jacgram.frontends.torch.recalling import recalled_outputs, remember_outputs
from jacgram.frontends.torch.side import TorchSide
from jacgram.frontends.torch.trees import Leaf, Node, Tree, flatten
from jacgram.frontends.torch.values import checked_tensors, dtype_of, example_count, require_inexact, struct_of

_INTEGER_PARAMS = "derivatives need real or complex parameters; cast them, or close over them if they are constants"
_INTEGER_X = "J is taken with respect to x; cast x, or pass params= to differentiate with respect to those"
_INTEGER_Y = "derivatives need real or complex outputs; return scores or probabilities, not classes"


@final
class TorchFrontend:
    """Sides and execution in PyTorch."""

    name = "torch"
    compiles = False

    def side(
        self,
        f: Any,
        x: Any,
        params: Any,
        *,
        argument: str,
        create_graph: bool = False,
        beside: TorchSide | None = None,
        recall: bool = False,
    ) -> TorchSide:
        """The side of f at x and params.

        Args:
            f: ``f(params, x) -> y``, batch-first, which receives ``params`` as it was given, a container or a module;
                with ``params=None``, ``f(x) -> y``. Or an `nn.Module`, called on x, or with a dict's entries as keyword
                arguments where its ``forward`` names them: with ``params=None`` J is taken with respect to its
                parameters that require gradients, with a dict by name with respect to those, the rest held fixed.
            x: examples, a tensor or a container; integers too where it is not the variable. None, bools and strings
                in it are passed on as they are.
            params: a tensor or a container of real or complex ones, an `nn.Module`, or None. A tensor in several places
                is one leaf. Tensors that are views of one another are leaves of their own.
            argument: the name of x in messages.
            create_graph: whether results can be differentiated.
            beside: a side made just before. Where it is known that values do not decide what f does, and only the
                examples differ, f is not called.
            recall: whether outputs that an earlier side of f had will do, where it is known that values do not decide
                what f does. Wherever f is then called, outputs that are not like them raise `OtherOutputsError`.

        Raises:
            StructureError: an argument, or f's output, is not as above.
            InteractingExamplesError: f calls a batch norm layer in training mode.
        """
        if not callable(f):
            raise StructureError(f"f is {type(f).__name__} {f!r}, expected a function or an nn.Module.")
        if params is None and not _is_module_with_parameters(f):
            paths, found, spec = flatten(x)
            leaves = checked_tensors(paths, found, argument)
            require_inexact(paths, leaves, argument, _INTEGER_X)
            return _side(OfInput(f, spec), paths, spec, leaves, [], 1, create_graph=create_graph, recall=False)
        paths, spec, leaves, make = _variable(f, params)
        x_paths, found, x_spec = flatten(x)
        x_leaves = checked_tensors(x_paths, found, argument, leaves[0].device)
        n = example_count(x_paths, x_leaves, argument)
        program = make(x_spec)
        moved = None
        if beside is not None and beside.create_graph == create_graph:
            moved = beside.moved(program, leaves, x_leaves, n)
        return moved or _side(program, paths, spec, leaves, x_leaves, n, create_graph=create_graph, recall=recall)

    def run(self, function: Callable[..., Any], arrays: Sequence[Any]) -> Any:
        """``function(*arrays)``, in full precision."""
        reuse_freed_memory()
        with full_precision():
            return function(*arrays)

    def prepare(self, function: Callable[..., Any], arrays: Sequence[Any]) -> None:
        """Nothing is traced ahead: calls are eager, and which they are may depend on values."""

    def closed(self, first: Any, second: Any) -> None:
        """Nothing is traced: every call is recorded anew."""

    def digest(self, side: Any) -> str:
        """What f computes and how it is differentiated, from its calls on one example."""
        return program_digest(side)


_Variable = tuple[list[str], Tree, list[torch.Tensor], Callable[[Tree], Program]]
"""Paths, structure and values of the variable, and the program once the structure of x is known."""


def _is_module_with_parameters(f: Any) -> bool:
    return isinstance(f, nn.Module) and any(p.requires_grad for p in f.parameters())


def _variable(f: Any, params: Any) -> _Variable:
    if isinstance(params, nn.Module) and not isinstance(f, nn.Module):
        return _of_module(f, params, _own_parameters(params))
    if isinstance(f, nn.Module):
        given = f if params is None else params
        return _of_module(f, f, _own_parameters(given) if isinstance(given, nn.Module) else _named(f, given))
    return _of_container(f, params)


def _of_container(f: Any, params: Any) -> _Variable:
    paths, found, spec = flatten(params)
    tensors = checked_tensors(paths, found, "params", _device_of(found))
    require_inexact(paths, tensors, "params", _INTEGER_PARAMS)
    firsts = list({id(tensor): k for k, tensor in reversed(list(enumerate(tensors)))}.values())
    firsts.sort()
    leaf_of = {id(tensors[first]): leaf for leaf, first in enumerate(firsts)}
    places = tuple(leaf_of[id(tensor)] for tensor in tensors)
    names, leaves = [paths[k] for k in firsts], [tensors[k] for k in firsts]
    return names, spec, leaves, lambda x_spec: OfParams(f, spec, places, x_spec)


def _device_of(leaves: Sequence[Any]) -> torch.device | None:
    return next((leaf.device for leaf in leaves if isinstance(leaf, torch.Tensor)), None)


def _of_module(f: Any, module: nn.Module, named: dict[str, Any]) -> _Variable:
    _check_names(module, named)
    names = list(named)
    device = _device_of([*module.parameters(), *module.buffers()])
    values = checked_tensors(names, list(named.values()), "params", device)
    require_inexact(names, values, "params", _INTEGER_PARAMS)
    spec = Node(dict, tuple(names), tuple(range(len(names))), (Leaf(),) * len(names))
    return names, spec, values, lambda x_spec: OfModule(f, module, tuple(names), x_spec)


def _own_parameters(module: nn.Module) -> dict[str, Any]:
    """Parameters that require gradients; one that is shared between modules comes once."""
    named = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not named:
        raise StructureError("params is a module without parameters that require gradients; set requires_grad on some.")
    return named


def _named(module: nn.Module, given: Any) -> dict[str, Any]:
    """A subset of a module's parameters given by name; of tied ones, the first name given stands for all."""
    if not isinstance(given, Mapping) or not given:
        raise StructureError(
            f"params is {type(given).__name__} for an nn.Module f, expected a dict {{name: tensor}} of its parameters."
        )
    known = dict(module.named_parameters(remove_duplicate=False))
    chosen: dict[int, tuple[str, Any]] = {}
    for name, value in given.items():
        key = id(known.get(name, value))
        held = chosen.setdefault(key, (name, value))
        if held[1] is not value:
            raise StructureError(
                f"params gives different tensors to {held[0]!r} and {name!r}, which are one parameter in f; give one."
            )
    return dict(chosen.values())


def _check_names(module: nn.Module, named: dict[str, Any]) -> None:
    known = dict(module.named_parameters(remove_duplicate=False)) | dict(module.named_buffers(remove_duplicate=False))
    for name, value in named.items():
        if name not in known:
            listed = ", ".join(list(known)[:8])
            raise StructureError(f"params names {name!r}, which f does not have; its parameters are {listed} ….")
        if isinstance(value, torch.Tensor) and value.shape != known[name].shape:
            raise StructureError(
                f"params leaf {name!r} has shape {tuple(value.shape)}, expected {tuple(known[name].shape)} as in f."
            )


def _side(
    program: Program,
    paths: list[str],
    spec: Tree,
    leaves: list[torch.Tensor],
    x: list[torch.Tensor],
    n: int,
    *,
    create_graph: bool,
    recall: bool,
) -> TorchSide:
    whole = "params" if program.has_examples else "x"
    side = TorchSide(
        program, leaves, x,
        paths=tuple(path or whole for path in paths), spec=spec, variable=tuple(struct_of(leaf) for leaf in leaves),
        outputs=(), output_paths=(), output_spec=Leaf(), n=n, create_graph=create_graph,
    )  # fmt: skip
    known = recalled_outputs(side) if recall else None
    found = known or _outputs(program, leaves, x, n)
    if known is None:
        _require_one_kind(leaves, found)
        remember_outputs(side, found)
    recollection = None if known is None else Recollection()
    structs = tuple(Struct((n, *y.shape[1:]), y.dtype) if program.has_examples else y for y in found.structs)
    return replace(side, outputs=structs, output_paths=found.paths, output_spec=found.spec, recollection=recollection)


def _outputs(program: Program, leaves: list[torch.Tensor], x: list[torch.Tensor], n: int) -> Outputs:
    """The first example's y by its shapes; of no examples, of one that is zero."""
    one = [leaf[:1] if n else leaf.new_zeros((1, *leaf.shape[1:])) for leaf in x]
    devices = sorted({leaf.device for leaf in (*leaves, *x)}, key=str)

    def refuse() -> Exception:
        layers = ", ".join(map(repr, training_batch_norms(program.modules())[:3])) or "a call of F.batch_norm"
        return InteractingExamplesError(
            f"batch norm in training mode mixes examples: {layers}; call .eval() on the module, or use group norm."
        )

    with exact_calls(program.modules(), devices), RefuseBatchStatistics(refuse):
        y = program(constants(leaves), constants(one))
    names, found, spec = output_leaves(y)
    require_inexact(names, found, "the output of f", _INTEGER_Y)
    if program.has_examples and (count := example_count(names, found, "the output of f")) != 1:
        raise StructureError(
            f"the output of f has {count} examples on axis 0 for 1 in x; f must be batch-first: (n, ...) in and out."
        )
    return Outputs(tuple(names), tuple(map(struct_of, found)), spec)


def _require_one_kind(variable: Sequence[torch.Tensor], outputs: Outputs) -> None:
    kinds = {dtype_of(y).is_complex for y in outputs.structs}
    if any(leaf.is_complex() for leaf in variable) and len(kinds) > 1:
        raise StructureError(
            "f has complex parameters, and both real and complex outputs: J is complex for some and real-linear for "
            "others; take the outputs one kind at a time."
        )

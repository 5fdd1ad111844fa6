"""Records, while f runs, every call that reads a weight: what it read, with which activation, and its output's edge.

Under ``vmap`` a tensor is data where it is batched, which means exactly that it differs between examples. Elsewhere a
single example is run, and everything that is no weight is data. A call on weights and constants makes a weight; a call
on weights and data is a **use**, said by its rule, or else the weight is read whole: a copy per example stands for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, final

import torch
from torch.autograd.graph import get_gradient_edge

from jacgram.core.uses import Einsum, Identity, Kind
from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.calling import takes_batch_statistics
from jacgram.frontends.torch.compat import packs_saved, transform_level
from jacgram.frontends.torch.labels import fits
from jacgram.frontends.torch.marks import is_batched, mark, own_memory
from jacgram.frontends.torch.norms import ELEMENTARY
from jacgram.frontends.torch.opened import OPENED
from jacgram.frontends.torch.outputs import now_batch_statistics
from jacgram.frontends.torch.recurrent import CannotOpenError
from jacgram.frontends.torch.rules import ABSORBING, CARRIED, COUNTERPARTS, RULES, Call, UnreadableCallError, Used, axes
from jacgram.frontends.torch.tape import Entry, Reading, Tape
from jacgram.frontends.torch.weights import COPIES, VIEWS, Weight, derived, flat_arguments

_SHAPED_LIKE: dict[Callable[..., Any], Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    torch.Tensor.view_as: lambda a, b: a.view(b.shape),
    torch.Tensor.reshape_as: lambda a, b: a.reshape(b.shape),
    torch.Tensor.expand_as: lambda a, b: a.expand(b.shape),
    torch.Tensor.type_as: lambda a, b: a.to(b.dtype),
}
"""Calls that take no value from their second argument."""

_PASSIVE = named(
    "shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "size", "dim", "numel", "is_floating_point"
)
"""Calls so common, and so harmless, that nothing is looked up for them."""


class WrittenWeightError(RuntimeError):
    """A weight is written in place in a way that calls do not tell; f has to be seen in another way."""


class OpenCalls(torch.overrides.TorchFunctionMode):
    """Writes out the calls that PyTorch cannot run, or runs wrongly, under ``vmap`` or in forward mode.

    Args:
        higher_orders: whether those are written out too whose higher derivatives are wrong.
    """

    def __init__(self, *, higher_orders: bool = False) -> None:
        super().__init__()
        self._opened = OPENED | ELEMENTARY if higher_orders else OPENED

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in self._opened:
            try:
                with self:
                    return self._opened[func](*args, **kwargs)
            except CannotOpenError:
                pass
        return self._call(func, args, kwargs)

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)


@final
class Recorder(OpenCalls):
    """A `TorchFunctionMode` that fills a `Tape`.

    Args:
        leaves: the variable's leaves as f gets them.
        n: number of examples run at once.
        zero: under ``vmap`` a zero of each example; None where one example is run alone.
        copies: whether outputs that are views are copied, which in-place writes to them need.
        keep_graph: whether activations stay in the user's graph.
    """

    def __init__(
        self, leaves: Sequence[torch.Tensor], n: int, zero: torch.Tensor | None, *, copies: bool, keep_graph: bool
    ) -> None:
        super().__init__(higher_orders=keep_graph)
        self.tape = Tape(n)
        self.mixed: dict[int, str] = {}
        self._leaves = leaves
        self._zero = zero
        self._copies = copies
        self._keep_graph = keep_graph
        self._level = transform_level()
        self._weights = {id(t): (t, Weight.of_leaf(leaf, t)) for leaf, t in enumerate(leaves)}
        self._whole: dict[tuple[int, int, bool], torch.Tensor] = {}

    def _call(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in _PASSIVE:
            return func(*args, **kwargs)
        if takes_batch_statistics(func, args, kwargs):
            raise now_batch_statistics()
        out = self._called(func, args, kwargs)
        if isinstance(out, torch.Tensor) and func not in VIEWS:
            self.tape.largest_bytes = max(self.tape.largest_bytes, out.numel() * out.element_size())
        return out

    def _called(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.tape.calls.append((name_of(func), transform_level()))
        self.tape.packs_saved = self.tape.packs_saved or packs_saved()
        tensors = [part for part in flat_arguments((args, kwargs)) if isinstance(part, torch.Tensor)]
        if not any(id(tensor) in self._weights for tensor in tensors) or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if func in _SHAPED_LIKE and self._known(args[0]) and not self._known(args[1]):
            with self:
                return _SHAPED_LIKE[func](*args)
        if func is torch.Tensor.__getitem__ and self._known(args[0]):
            args = (args[0], _with_numbers(args[1]))
            tensors = [part for part in flat_arguments(args) if isinstance(part, torch.Tensor)]
        others = [tensor for tensor in tensors if id(tensor) not in self._weights]
        if any(map(self._is_data, others)) or (others and func in ABSORBING):
            return self._use(func, args, kwargs)
        return self._derive(func, args, kwargs)

    # Weights from weights ---------------------------------------------------------------------------------------

    def _known(self, value: Any) -> Weight | None:
        held = self._weights.get(id(value))
        return None if held is None else held[1]

    def _is_data(self, tensor: torch.Tensor) -> bool:
        return self._zero is None or is_batched(tensor)

    def _derive(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        out = func(*args, **kwargs)
        written = args[0] if out is None and args else out
        parts = [written] if isinstance(written, torch.Tensor) else flat_arguments(written)
        outs = [part for part in parts if isinstance(part, torch.Tensor)]
        found = derived(func, args, kwargs, outs, self._known)
        for part, weight in zip(outs, found, strict=True):
            is_written = out is None or any(part is arg for arg in args)
            if is_written and func in COPIES | VIEWS:
                continue  # nothing to convert: the same tensor came back
            if is_written:
                self._refuse_aliases(part, func)
            if part.requires_grad and part.dtype.is_floating_point | part.dtype.is_complex:
                self._weights[id(part)] = (part, weight.blurred() if is_written else weight)
        return out

    # Uses -------------------------------------------------------------------------------------------------------

    def _use(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        into = args[0] if func in COUNTERPARTS else None
        if into is not None and self._known(into):
            self._refuse_aliases(into, func)
            del self._weights[id(into)]  # data is written into a weight: no longer one, and the check will tell
            return func(*args, **kwargs)
        call = Call(COUNTERPARTS.get(func, func), args, kwargs, lambda value: id(value) in self._weights)
        used = self._by_rule(call)
        if used is None:
            return self._read_whole(func, args, kwargs, None, f"no rule for {name_of(func)}")
        result = self._noted(name_of(call.func), used)
        if not isinstance(result, torch.Tensor):
            return self._read_whole(
                func, args, kwargs, result, f"{name_of(func)} of a weight that is no view of one leaf"
            )
        return result if into is None else into.copy_(result)

    def _refuse_aliases(self, written: torch.Tensor, func: Callable[..., Any]) -> None:
        """Raise where other weights are views of memory that is written: what they are is no longer known."""
        memory = _memory(written)
        every = (tensor for tensor, _ in self._weights.values() if tensor is not written)
        if any(_memory(tensor) == memory for tensor in every):
            raise WrittenWeightError(f"{name_of(func)} writes to a weight of which another is a view")

    def _by_rule(self, call: Call) -> Used | None:
        rule = RULES.get(call.func)
        try:
            return None if rule is None else rule(call)
        except UnreadableCallError:
            return None

    def _noted(self, name: str, used: Used) -> torch.Tensor | list[int]:
        """The output, after all readings were noted; or the weights whose readings fit no record, nothing noted."""
        readings = [reading for reading in used.readings if self._known(reading.weight)]  # of constants there is no use
        activations = [None if r.activation is None else self._held(r.activation) for r in readings]
        output, held = self._marked(self._of_each_example(used.output))
        if held.requires_grad:
            entries = self._entries(name, zip(readings, activations, strict=True), held, rank=used.output.ndim)
            if unfit := [id(entry.reading.weight) for entry in entries if not fits(entry)]:
                return unfit
            for entry in entries:
                self._note_mixed(name, entry.weight, held)
            self.tape.entries.extend(entries)
        return output if used.after is None else used.after(output)

    def _entries(
        self, name: str, pairs: Iterable[tuple[Reading, torch.Tensor | None]], held: torch.Tensor, *, rank: int
    ) -> list[Entry]:
        shape = held.shape if self._zero is not None else (1, *held.shape)
        output, edge = torch.empty(shape, dtype=held.dtype, device="meta"), get_gradient_edge(held)
        entries: list[Entry] = []
        for reading, activation in pairs:
            weight = self._known(reading.weight)
            assert weight is not None, "readings of anything else are left out"
            source = get_gradient_edge(reading.weight) if weight.opaque else None
            read = torch.empty_like(reading.weight, device="meta")
            entries.append(Entry(name, reading, weight, source, read, activation, edge, output, rank))
        return entries

    def _note_mixed(self, name: str, weight: Weight, output: torch.Tensor) -> None:
        for leaf in weight.leaves:
            if self._leaves[leaf].is_complex() != output.is_complex():
                self.mixed[leaf] = f"{name} of real and complex numbers"

    def _read_whole(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], which: list[int] | None, why: str
    ) -> Any:
        """The call with a copy per example of its weights (those in ``which``), which are then data."""
        is_carried = func in CARRIED
        if _writes(func) and args and self._known(args[0]):
            raise WrittenWeightError(f"{name_of(func)} writes data into a weight")

        def whole(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                wanted = self._known(value) is not None and (which is None or id(value) in which)
                return self._copied(value, why, is_carried=is_carried) if wanted else value
            if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
                return type(value)(whole(part) for part in value)
            if isinstance(value, dict):
                return {key: whole(part) for key, part in value.items()}
            return value

        args, kwargs = whole(args), whole(kwargs)
        return func(*args, **kwargs) if which is None else self._call(func, args, kwargs)

    def _copied(self, weight: torch.Tensor, why: str, *, is_carried: bool) -> torch.Tensor:
        key = id(weight), transform_level(), is_carried
        if key not in self._whole:
            d = axes("d", weight.ndim)
            kind: Kind = Einsum(None, d, d) if is_carried else Identity(why)
            copy = self._noted("copy", Used(weight.clone(), [Reading(weight, kind)]))
            assert isinstance(copy, torch.Tensor), "a whole weight fits any record"
            self._whole[key] = copy
        return self._whole[key]

    # Tensors of all examples ------------------------------------------------------------------------------------

    def _of_each_example(self, tensor: torch.Tensor) -> torch.Tensor:
        """Batched over examples, also where it is constant or batched over something else within f."""
        if self._zero is None or (is_batched(tensor) and transform_level() == self._level):
            return tensor
        return tensor + self._zero.to(tensor.dtype)

    def _marked(self, tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The tensor to go on with, and what it is made of: ``(n, *inner, *shape)``, or as it is without ``vmap``."""
        found: list[torch.Tensor] = []

        def seen(made_of: torch.Tensor) -> torch.Tensor:
            found.append(own_memory(made_of) if self._copies else made_of)
            return found[-1]

        return mark(tensor, seen), found[0]

    def _held(self, activation: torch.Tensor) -> torch.Tensor:
        """An activation for all examples, ``(n, *inner, *shape)``; a constant one takes no memory for it."""
        if self._zero is None:
            held = activation[None]
        elif is_batched(activation):
            inexact = activation.is_floating_point() or activation.is_complex()
            held = self._marked(self._of_each_example(activation) if inexact else activation)[1]
        else:
            held = activation.expand(self.tape.n, *activation.shape)
        held = held.clone() if self._copies else held
        return held if self._keep_graph else held.detach()


def _memory(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _writes(func: Callable[..., Any]) -> bool:
    """Whether a call writes to its first argument."""
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return (
        in_place
        or name == "__setitem__"
        or (name.startswith("__i") and name not in ("__index__", "__int__", "__invert__"))
    )


def _with_numbers(key: Any) -> Any:
    """An index with integers in place of tensors that hold one, the same for all examples: a view, then."""
    if isinstance(key, tuple):
        return tuple(_with_numbers(part) for part in key)
    is_number = isinstance(key, torch.Tensor) and not key.ndim and not is_batched(key) and key.dtype in _INTEGERS
    return int(key) if is_number else key


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def name_of(func: Callable[..., Any]) -> str:
    """An operation's name for people."""
    owner = getattr(func, "__self__", None)
    name = getattr(owner, "__name__", None) if getattr(func, "__name__", "") == "__get__" else None
    return name or getattr(func, "__name__", repr(func)).strip("_")

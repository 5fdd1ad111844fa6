"""A digest of f's program, equal in every process: what it takes to know that a stored kernel is f's.

f is called on its first example, and every call it makes of PyTorch counts, with its arguments: a tensor by where it
came from (a leaf, x, an earlier call) or else by its content. So does the graph that will be differentiated, with the
code of custom `torch.autograd.Function`s in it.
"""

from __future__ import annotations

import hashlib
import re
import types
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from jacgram.frontends.torch.compat import function_class
from jacgram.frontends.torch.products import fresh

if TYPE_CHECKING:
    from jacgram.frontends.torch.side import TorchSide

_ADDRESS = re.compile(r" at 0x[0-9a-f]+|0x[0-9a-f]{6,}")


def program_digest(side: TorchSide) -> str:
    """SHA-256 of the calls of f on one example and of the graph they leave."""
    one = side.one_example()
    recorder = _Recorder()
    with one.calling():
        leaves = fresh(one.leaves, create_graph=False)
        inputs = one.inputs()
        recorder.name([*leaves, *inputs])
        with recorder:
            outputs = one.flat(leaves, inputs)
    recorder.feed(outputs)
    for line in _graph(outputs):
        recorder.found.update(line.encode())
    return recorder.found.hexdigest()


class _Recorder(TorchFunctionMode):
    """Digests every call made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.found = hashlib.sha256()
        self._numbers: dict[int, int] = {}
        self._alive: list[torch.Tensor] = []  # so that no id is used again

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.found.update(f"call {resolve_name(func) or getattr(func, '__name__', func)}".encode())
        self.feed(args)
        self.feed(sorted(kwargs.items()))
        result = func(*args, **kwargs)
        self.name(result)
        return result

    def name(self, value: Any) -> None:
        """Numbers the tensors in a value, in order of appearance."""
        if isinstance(value, torch.Tensor):
            self._numbers.setdefault(id(value), len(self._numbers))
            self._alive.append(value)
        elif isinstance(value, tuple | list):
            for item in value:
                self.name(item)

    def feed(self, value: Any) -> None:
        """Adds a value."""
        if isinstance(value, torch.Tensor):
            self._feed_tensor(value)
        elif isinstance(value, tuple | list):
            self.found.update(b"(")
            for item in value:
                self.feed(item)
            self.found.update(b")")
        elif isinstance(value, dict):
            self.feed(sorted(value.items(), key=lambda item: repr(item[0])))
        elif isinstance(value, types.FunctionType):
            self.found.update(_function(value).encode())
        else:
            self.found.update(f"{type(value).__qualname__} {_ADDRESS.sub('', repr(value))};".encode())

    def _feed_tensor(self, tensor: torch.Tensor) -> None:
        number = self._numbers.get(id(tensor))
        if number is None:
            self.found.update(f"constant {tensor.dtype} {tuple(tensor.shape)}".encode())
            self.found.update(_bytes(tensor))
        else:
            self.found.update(f"tensor {number} {tensor.dtype} {tuple(tensor.shape)};".encode())


def _bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return np.asarray(flat.view(torch.uint8)).tobytes()


def _graph(outputs: list[torch.Tensor]) -> list[str]:
    """Every node that a backward pass goes through, in a fixed order, with the code of custom ones."""
    lines: list[str] = []
    numbers: dict[Any, int] = {}
    stack = [tensor.grad_fn for tensor in reversed(outputs)]
    while stack:
        node = stack.pop()
        if node is None or node in numbers:
            lines.append(f"seen {numbers.get(node)};")
            continue
        numbers[node] = len(numbers)
        custom = function_class(node)
        code = "" if custom is None else "".join(_function(f) for f in _functions(custom))
        lines.append(f"node {node.name()} {len(node.next_functions)} {code};")
        stack.extend(inner for inner, _ in reversed(node.next_functions))
    return lines


def _functions(custom: type) -> list[Any]:
    found = (getattr(custom, name, None) for name in ("forward", "setup_context", "backward", "vjp", "jvp", "vmap"))
    return [f for f in found if isinstance(f, types.FunctionType)]


def _function(function: types.FunctionType) -> str:
    """The code of a function, with the values it closes over and its defaults."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return _code(function.__code__) + _ADDRESS.sub("", repr((cells, function.__defaults__)))


def _code(code: types.CodeType) -> str:
    """Byte code with its names and constants, those of inner functions too; where it is written does not count."""
    inner = "".join(_code(c) if isinstance(c, types.CodeType) else repr(c) + "," for c in code.co_consts)
    return f"code {code.co_code.hex()} {code.co_names} {inner}"

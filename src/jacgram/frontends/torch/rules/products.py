"""Rules for products that sum: linear layers, matrix products in all their forms, einsum, bilinear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from jacgram.core.uses import Einsum
from jacgram.frontends.torch.rules.call import Call, UnreadableCallError, Used, axes
from jacgram.frontends.torch.tape import Reading

Labels = tuple[str, ...]


def linear(call: Call) -> Used | None:
    """``x Wᵀ + b``."""
    x, weight, bias = call.bind("input", "weight", bias=None)
    if call.is_weight(x):
        return None
    output = functional.linear(x, weight, bias)
    p = axes("p", x.ndim - 1)
    k: Labels = ("k",) * (weight.ndim - 1)
    readings: list[Reading] = []
    if call.is_weight(weight):
        readings.append(Reading(weight, Einsum((*p, "i"), (*p, *k), (*k, "i")), x))
    if call.is_weight(bias):
        readings.append(Reading(bias, Einsum(None, (*p, *k), k if bias.ndim else ())))
    return Used(output, readings)


def matmul(call: Call) -> Used | None:
    """``a @ b`` with broadcast leading axes; also ``mm``, ``bmm``, ``mv`` and ``dot``."""
    a, b = _two(call)
    output = torch.matmul(a, b)
    return Used(output, product_readings(call, a, b, *_matmul_labels(a, b)))


def reversed_matmul(call: Call) -> Used | None:
    """``b @ a``, called on a."""
    a, b = _two(call)
    return matmul(Call(call.func, (b, a), {}, call.is_weight))


def _two(call: Call) -> tuple[torch.Tensor, torch.Tensor]:
    if len(call.args) == 2 and not call.kwargs:
        return call.args[0], call.args[1]
    values = [*call.args, *call.kwargs.values()]
    if len(values) != 2 or not call.kwargs.keys() <= {"input", "other", "mat2", "vec", "tensor", "vec2"}:
        raise UnreadableCallError
    return values[0], values[1]


def _matmul_labels(a: torch.Tensor, b: torch.Tensor) -> tuple[Labels, Labels, Labels]:
    batch = max(a.ndim, b.ndim, 2) - 2
    rows: Labels = ("r",) if a.ndim > 1 else ()
    columns: Labels = ("c",) if b.ndim > 1 else ()
    leads = axes("b", batch)
    lead_a, lead_b = leads[batch - max(a.ndim - 2, 0) :], leads[batch - max(b.ndim - 2, 0) :]
    return (*lead_a, *rows, "i"), (*lead_b, "i", *columns), (*leads, *rows, *columns)


def product_readings(
    call: Call, a: torch.Tensor, b: torch.Tensor, la: Labels, lb: Labels, lo: Labels, scale: float | complex = 1.0
) -> list[Reading]:
    """Readings of ``out[lo] = Σ a[la] b[lb]`` in the operand that is a weight."""
    if call.is_weight(a) and call.is_weight(b):
        raise UnreadableCallError
    if call.is_weight(a):
        return [Reading(a, Einsum(lb, lo, la), b, scale=scale)]
    return [Reading(b, Einsum(la, lo, lb), a, scale=scale)] if call.is_weight(b) else []


def addmm(call: Call) -> Used | None:
    """``beta · c + alpha · a @ b``; also ``addmv``, ``addbmm`` (which sums over its batch) and ``baddbmm``."""
    c, a, b, beta, alpha = call.bind("input", "mat1", "mat2", beta=1, alpha=1)
    return _add_product(call, c, a, b, beta, alpha, _matmul_labels(a, b))


def addmv(call: Call) -> Used | None:
    """``beta · c + alpha · A @ v``."""
    c, a, b, beta, alpha = call.bind("input", "mat", "vec", beta=1, alpha=1)
    return _add_product(call, c, a, b, beta, alpha, _matmul_labels(a, b))


def baddbmm(call: Call) -> Used | None:
    """``beta · c + alpha · a @ b`` for each matrix of a batch."""
    c, a, b, beta, alpha = call.bind("input", "batch1", "batch2", beta=1, alpha=1)
    return _add_product(call, c, a, b, beta, alpha, _matmul_labels(a, b))


def addbmm(call: Call) -> Used | None:
    """``beta · c + alpha · Σ a @ b`` over a batch of matrices."""
    c, a, b, beta, alpha = call.bind("input", "batch1", "batch2", beta=1, alpha=1)
    return _add_product(call, c, a, b, beta, alpha, (("b0", "r", "i"), ("b0", "i", "c"), ("r", "c")))


def _add_product(
    call: Call, c: torch.Tensor, a: torch.Tensor, b: torch.Tensor, beta: Any, alpha: Any,
    labels: tuple[Labels, Labels, Labels],
) -> Used:  # fmt: skip
    output = beta * c + alpha * torch.einsum(_spelled(*labels), a, b)
    readings = product_readings(call, a, b, *labels, scale=alpha)
    if call.is_weight(c):
        out = labels[2]
        readings.append(Reading(c, Einsum(None, out, out[len(out) - c.ndim :]), scale=beta))
    return Used(output, readings)


def _spelled(*labels: Labels) -> str:
    letters = {label: chr(ord("a") + k) for k, label in enumerate(dict.fromkeys(x for part in labels for x in part))}
    a, b, out = ("".join(letters[x] for x in part) for part in labels)
    return f"{a},{b}->{out}"


def einsum(call: Call) -> Used | None:
    """One weight and any number of other operands, no label twice in an operand, no ellipsis."""
    equation, *operands = call.args
    operands = list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else operands
    if not isinstance(equation, str) or "." in equation or call.kwargs:
        return None
    inputs, _, out = equation.replace(" ", "").partition("->")
    parts = inputs.split(",")
    if "->" not in equation:
        out = "".join(sorted(x for x in set(inputs) - {","} if inputs.count(x) == 1))
    weights = [k for k, operand in enumerate(operands) if call.is_weight(operand)]
    if len(weights) != 1 or any(len(set(part)) != len(part) for part in parts):
        return None
    at = weights[0]
    others = [k for k in range(len(operands)) if k != at]
    kept = "".join(dict.fromkeys(x for k in others for x in parts[k] if x in parts[at] or x in out))
    output = torch.einsum(equation, *operands)
    if not others:
        return Used(output, [Reading(operands[at], Einsum(None, tuple(out), tuple(parts[at])))])
    spec = f"{','.join(parts[k] for k in others)}->{kept}"
    activation = torch.einsum(spec, *(operands[k] for k in others))
    return Used(output, [Reading(operands[at], Einsum(tuple(kept), tuple(out), tuple(parts[at])), activation)])


def outer(call: Call) -> Used | None:
    """``a bᵀ`` of two vectors."""
    a, b = _two(call)
    return Used(torch.outer(a, b), product_readings(call, a, b, ("r",), ("c",), ("r", "c")))


def tensordot(call: Call) -> Used | None:
    """Sums over the last ``dims`` axes of a and the first of b, or over the axes listed."""
    a, b, dims = call.bind("a", "b", dims=2)
    if isinstance(dims, int):
        dims_a: Sequence[int] = range(a.ndim - dims, a.ndim)
        dims_b: Sequence[int] = range(dims)
    else:
        dims_a, dims_b = dims
    la, lb = list(axes("a", a.ndim)), list(axes("b", b.ndim))
    for x, y in zip(dims_a, dims_b, strict=True):
        lb[y] = la[x]
    out = tuple(x for x in (*la, *lb) if not (x in la and x in lb))
    return Used(torch.tensordot(a, b, dims), product_readings(call, a, b, tuple(la), tuple(lb), out))

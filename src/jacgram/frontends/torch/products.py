"""J and Jᵀ applied to vectors, in one pass over the whole batch.

PyTorch's gradient with respect to ``a + ib`` of a real L is ``∂L/∂a + i ∂L/∂b``, and the gradient for a cotangent v is
that of ``Re Σ conj(v) y``. Rows of J are not conjugated: for complex leaves ``Jᵀ v = conj(grad(conj(v)))``; for real
leaves ``grad(conj(v))`` is the real part of ``Jᵀ v``, and ``grad(i conj(v))`` its imaginary part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from jacgram.errors import UnsupportedError
from jacgram.frontends.torch.compat import load_forward_mode

Tensors = list[torch.Tensor]
Flat = Callable[[Sequence[torch.Tensor]], Tensors]
"""Leaves of the variable to leaves of y."""


def fresh(leaves: Sequence[torch.Tensor], *, create_graph: bool) -> Tensors:
    """Leaves to differentiate with respect to: cut off from the user's graph, or joined to it."""
    if create_graph:
        return [leaf.view_as(leaf) if leaf.requires_grad else leaf.requires_grad_() for leaf in constants(leaves, True)]
    return [leaf.requires_grad_() for leaf in constants(leaves)]


def constants(tensors: Sequence[torch.Tensor], create_graph: bool = False) -> Tensors:
    """Tensors that a graph may hold: copies of inference tensors, cut off from the user's graph unless it is wanted."""
    with torch.inference_mode(False):
        plain = [tensor.clone() if tensor.is_inference() else tensor for tensor in tensors]
        return [tensor if create_graph and tensor.requires_grad else tensor.detach() for tensor in plain]


def gradients(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    *,
    create_graph: bool = False,
    retain_graph: bool = True,
    used: set[int] | None = None,
) -> Tensors:
    """`torch.autograd.grad` where outputs may be constants and inputs unused: both give zeros.

    ``used`` gets the positions of inputs that outputs depend on, whether or not their gradient is zero here.
    """
    live = [(y, v) for y, v in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not live:
        return [torch.zeros_like(leaf) for leaf in inputs]
    found: Any = torch.autograd.grad(
        [y for y, _ in live], list(inputs), [v for _, v in live],
        create_graph=create_graph, retain_graph=retain_graph or create_graph, allow_unused=True,
    )  # fmt: skip
    if used is not None:
        used.update(at for at, grad in enumerate(found) if grad is not None)
    return [torch.zeros_like(leaf) if grad is None else grad for leaf, grad in zip(inputs, found, strict=True)]


def pullback(
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
    *,
    create_graph: bool = False,
) -> Tensors:
    """Jᵀ, not conjugated, applied to cotangents of any dtype; two backward passes where complex meets real leaves."""

    def pull(fitted: Tensors) -> Tensors:
        return gradients(outputs, inputs, fitted, create_graph=create_graph)

    return pullback_by(pull, outputs, inputs, cotangents)


def pullback_by(
    pull: Callable[[Tensors], Sequence[torch.Tensor]],
    outputs: Sequence[torch.Tensor],
    inputs: Sequence[torch.Tensor],
    cotangents: Sequence[torch.Tensor],
) -> Tensors:
    """`pullback` by PyTorch's own gradient, mended; ``pull`` gets cotangents in the outputs' dtypes."""

    def fitted(vectors: Sequence[torch.Tensor]) -> Tensors:
        return [fitted_to(y, v) for y, v in zip(outputs, vectors, strict=True)]

    if not any(t.is_complex() for t in (*outputs, *cotangents)):
        return [grad.conj().resolve_conj() if grad.is_complex() else grad for grad in pull(fitted(cotangents))]
    conjugated = [v.conj() for v in cotangents]
    if all(leaf.is_complex() for leaf in inputs) and all(y.is_complex() for y in outputs):
        return [grad.conj().resolve_conj() for grad in pull(fitted(conjugated))]
    turned = [1j * v for v in conjugated]
    parts = pull(fitted(conjugated)), pull(fitted(turned))
    return _joined(*parts, inputs, all_real=not any(y.is_complex() for y in outputs))


def _joined(
    first: Sequence[torch.Tensor], second: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], *, all_real: bool
) -> Tensors:
    """One pullback of two gradients, those for ``conj(v)`` and for ``i conj(v)``; see the module's own text."""
    joined: Tensors = []
    for leaf, one, two in zip(inputs, first, second, strict=True):
        if not leaf.is_complex():
            joined.append(torch.complex(one, two))
        elif all_real:  # a real output takes the real part of its cotangent only
            joined.append(one.conj() + 1j * two.conj())
        else:
            joined.append(one.conj().resolve_conj())
    return joined


def fitted_to(y: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """A cotangent in the dtype of its output; its real part where the output is real."""
    v = v.resolve_conj()
    v = v.real if v.is_complex() and not y.is_complex() else v
    return v.to(dtype=y.dtype)


def pushforward(flat: Flat, leaves: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]) -> Tensors:
    """J applied to tangents: forward mode, or `twice_backward` where that is missing.

    Raises:
        UnsupportedError: an operation has neither a forward derivative nor a second backward one.
    """
    load_forward_mode()

    def push(parts: Tensors) -> Tensors:
        try:
            found: Any = torch.func.jvp(lambda *moved: tuple(flat(moved)), tuple(leaves), tuple(parts))[1]
            return list(found)
        except Exception as error:  # whatever stands in the way of forward mode, the other way does not need it
            return _twice_backward(flat, leaves, parts, first_line(error))

    return _by_real_parts(push, leaves, tangents)


def twice_backward(flat: Flat, leaves: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]) -> Tensors:
    """J applied to tangents, as the derivative of the pullback, which is linear in what is pulled back.

    Raises:
        UnsupportedError: an operation has no second backward derivative.
    """
    why = "its forward derivatives cannot be used"
    return _by_real_parts(lambda parts: _twice_backward(flat, leaves, parts, why), leaves, tangents)


def _by_real_parts(
    push: Callable[[Tensors], Tensors], leaves: Sequence[torch.Tensor], tangents: Sequence[torch.Tensor]
) -> Tensors:
    """Complex tangents of real leaves in two parts, for J is linear over the complex numbers."""
    split = [t.is_complex() and not leaf.is_complex() for leaf, t in zip(leaves, tangents, strict=True)]
    if not any(split):
        return push([t.to(leaf) for leaf, t in zip(leaves, tangents, strict=True)])
    triples = list(zip(leaves, tangents, split, strict=True))
    real = push([(t.real if apart else t).to(leaf) for leaf, t, apart in triples])
    imaginary = push([t.imag.to(leaf) if apart else torch.zeros_like(leaf) for leaf, t, apart in triples])
    return [a + 1j * b for a, b in zip(real, imaginary, strict=True)]


def _twice_backward(flat: Flat, leaves: Sequence[torch.Tensor], tangents: Tensors, reason: str) -> Tensors:
    """``∂/∂v <vjp(v), tangents>``: the vjp is linear in v, so where it is taken does not matter."""
    moved = [leaf if leaf.requires_grad else leaf.detach().requires_grad_() for leaf in leaves]
    outputs = flat(moved)
    seeds = [torch.zeros_like(y).requires_grad_() for y in outputs]
    try:
        pulled = gradients(outputs, moved, seeds, create_graph=True)
        return gradients(pulled, seeds, tangents, create_graph=any(leaf.requires_grad for leaf in leaves))
    except (RuntimeError, NotImplementedError) as error:
        raise UnsupportedError(
            "J @ u needs a forward derivative or a second backward one, and f has neither "
            f"({reason}; {first_line(error)}). Take the kernel itself, which needs one backward pass, or replace the "
            "operation."
        ) from error


def first_line(error: Exception) -> str:
    """An error in one line, for a plan or another error's message."""
    line = f"{type(error).__name__}: {error}".splitlines()[0]
    return line if len(line) <= 120 else f"{line[:117]}..."


def detached(tensors: Sequence[Any], *, create_graph: bool) -> list[Any]:
    """Results cut off from the graphs that made them, unless they are to be differentiated."""
    return list(tensors) if create_graph else [tensor.detach() for tensor in tensors]

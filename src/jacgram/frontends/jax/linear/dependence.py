"""Which outputs of a jaxpr depend on which inputs' tangents, without walking over it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jacgram.frontends.jax.compat import closed, scan_layout

CALLS = {
    "pjit": "jaxpr",
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "core_closed_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "remat": "jaxpr",
    "remat_call": "call_jaxpr",
}
"""Primitives that only call a jaxpr, and the parameter that holds it."""


def called_jaxpr(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The jaxpr that an equation calls, and does nothing else; None for any other equation."""
    inner = eqn.params.get(CALLS.get(eqn.primitive.name, ""))
    return None if inner is None else closed(inner)


def dependence(jaxpr: Jaxpr, linear: Sequence[bool]) -> list[bool]:
    """Which outputs depend on the inputs that are linear."""
    marked: set[Any] = {v for v, is_linear in zip(jaxpr.invars, linear, strict=True) if is_linear}
    for eqn in jaxpr.eqns:
        inputs = [not isinstance(v, Literal) and v in marked for v in eqn.invars]
        if any(inputs):
            marked.update(v for v, out in zip(eqn.outvars, _outputs(eqn, inputs), strict=True) if out)
    return [not isinstance(v, Literal) and v in marked for v in jaxpr.outvars]


def loop_dependence(eqn: JaxprEqn, linear: Sequence[bool]) -> tuple[list[bool], list[bool]]:
    """Which operands of a ``scan`` are linear, carries made so by the body included, and which outputs are."""
    layout = scan_layout(eqn)
    jaxpr, consts, carries = layout.body.jaxpr, layout.num_consts, layout.num_carry
    inside = list(linear)
    while True:
        outputs = dependence(jaxpr, inside)
        grown = [*inside[:consts], *(a or b for a, b in zip(inside[consts:], outputs[:carries], strict=False))]
        grown += inside[consts + carries :]
        if grown == inside:
            return inside, [a or b for a, b in zip(inside[consts : consts + carries], outputs, strict=False)] + outputs[
                carries:
            ]
        inside = grown


def _outputs(eqn: JaxprEqn, linear: Sequence[bool]) -> list[bool]:
    called = called_jaxpr(eqn)
    if called is not None:
        return dependence(called.jaxpr, linear)
    if eqn.primitive.name == "scan":
        return loop_dependence(eqn, linear)[1]
    if eqn.primitive.name == "cond":
        branches = [dependence(closed(branch).jaxpr, linear[1:]) for branch in eqn.params["branches"]]
        return [any(outputs) for outputs in zip(*branches, strict=True)]
    return [True] * len(eqn.outvars)

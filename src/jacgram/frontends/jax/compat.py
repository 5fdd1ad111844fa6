"""The only place that touches what JAX does not promise to keep, each with a test that fails by name when it moves.

`bind` uses ``Primitive.get_bind_params``, which says how an equation that calls functions (custom derivatives) is bound
again: the official guide to jaxpr interpreters shows it, but it changed its result between releases. `closed`,
`scan_layout` and `linear_scan` read and write parameters of equations, whose form changed likewise. `is_plain` reads
what the nodes of a tree are, for which the documented way calls each node's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal


def bind(equation: JaxprEqn, values: Sequence[Any]) -> list[Any]:
    """The outputs of one equation at other inputs, whatever is tracing."""
    bound = equation.primitive.get_bind_params(equation.params)
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    outputs = equation.primitive.bind(*functions, *values, **params)
    return list(outputs) if equation.primitive.multiple_results else [outputs]


def closed(jaxpr: Any) -> ClosedJaxpr:
    """A jaxpr in a parameter, with the constants it holds: some releases keep bare jaxprs there, some closed ones."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def is_plain(treedef: Any) -> bool:
    """Whether a tree is made of dicts, lists, tuples and None alone; no code of the user's nodes is run to tell."""
    node = treedef.node_data()
    if node is None:
        return True
    return node[0] in (dict, list, tuple, type(None)) and all(map(is_plain, treedef.children()))


@dataclass(frozen=True, slots=True)
class ScanLayout:
    """The parts of a ``scan`` equation.

    Attributes:
        body: what each turn computes.
        num_consts: number of operands that every turn sees; they come first.
        num_carry: number of operands carried from turn to turn; they come next, and first among the outputs.
        length: number of turns.
        reverse: whether the last turn comes first.
        marks_linear: whether this release transposes a loop only if a parameter says which operands are linear.
    """

    body: ClosedJaxpr
    num_consts: int
    num_carry: int
    length: int
    reverse: bool
    marks_linear: bool


def scan_layout(equation: JaxprEqn) -> ScanLayout:
    """The parts of a ``scan`` equation: counted in two parameters until JAX 0.10, in one tree of operands since."""
    params = equation.params
    if "num_consts" in params:
        counts = (params["num_consts"], params["num_carry"])
    else:
        consts, carry, _ = params["ft_in"].unpack()
        counts = (len(consts), len(carry))
    return ScanLayout(closed(params["jaxpr"]), *counts, params["length"], params["reverse"], "linear" in params)


def linear_scan(turn: Callable[..., Any], carry: Any, xs: Any, known_xs: Any, layout: ScanLayout) -> Any:
    """`jax.lax.scan` of ``turn(carry, (xs, known_xs))``, linear in carry and xs, that can be transposed.

    What the turn closes over is known. Releases that mark linear operands learn here which they are.
    """

    def scan(carry: Any, xs: Any, known_xs: Any) -> Any:
        return jax.lax.scan(turn, carry, (xs, known_xs), length=layout.length, reverse=layout.reverse)

    if not layout.marks_linear:
        return scan(carry, xs, known_xs)
    traced, shape = jax.make_jaxpr(scan, return_shape=True)(carry, xs, known_xs)
    values = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    values.update(zip(traced.jaxpr.invars, jax.tree.leaves((carry, xs, known_xs)), strict=True))
    counts = [len(jax.tree.leaves(part)) for part in (carry, xs, known_xs)]
    for equation in traced.jaxpr.eqns:
        inputs = [v.val if isinstance(v, Literal) else values[v] for v in equation.invars]
        params = dict(equation.params)
        if equation.primitive.name == "scan":
            consts = len(inputs) - sum(counts)
            params["linear"] = (*[False] * consts, *[True] * (counts[0] + counts[1]), *[False] * counts[2])
        outputs = equation.primitive.bind(*inputs, **params)
        values.update(zip(equation.outvars, outputs if equation.primitive.multiple_results else [outputs], strict=True))
    return jax.tree.unflatten(jax.tree.structure(shape), [values[v] for v in traced.jaxpr.outvars])

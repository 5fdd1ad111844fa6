"""The table of rules, by name of primitive."""

from __future__ import annotations

from jacgram.errors import ArgumentError
from jacgram.frontends.jax.linear.rules import contraction, convolution, elementwise, gathering, layout, parts
from jacgram.frontends.jax.linear.rules.site import Rule

_RULES: dict[str, Rule] = {
    "add": elementwise.same,
    "add_any": elementwise.same,
    "copy": elementwise.same,
    "copy_p": elementwise.same,
    "convert_element_type": elementwise.same,
    "reduce_precision": elementwise.same_if_bare,
    "scatter-add": elementwise.scatter_add,
    "scatter_add": elementwise.scatter_add,
    "neg": elementwise.neg,
    "sub": elementwise.sub,
    "mul": elementwise.mul,
    "div": elementwise.div,
    "select_n": elementwise.select_n,
    "transpose": layout.transpose,
    "reshape": layout.reshape,
    "squeeze": layout.squeeze,
    "expand_dims": layout.reshape,
    "broadcast_in_dim": layout.broadcast_in_dim,
    "reduce_sum": layout.reduce_sum,
    "cumsum": layout.cumsum,
    "rev": parts.rev,
    "slice": parts.slice_,
    "split": parts.split,
    "pad": parts.pad,
    "concatenate": parts.concatenate,
    "dot_general": contraction.dot_general,
    "conv_general_dilated": convolution.conv_general_dilated,
    "gather": gathering.gather,
    "dynamic_slice": gathering.dynamic_slice,
}


def find_rule(primitive: str) -> Rule | None:
    """The rule of a primitive, or None where it has none."""
    return _RULES.get(primitive)


def register_rule(primitive: str, rule: Rule, *, replace: bool = False) -> None:
    """Add the rule of a primitive that has none, for all sides made from now on.

    Args:
        primitive: its name, as a jaxpr prints it.
        rule: see `jacgram.frontends.jax.linear.rules`.
        replace: whether an existing rule may give way.

    Raises:
        ArgumentError: the primitive has a rule, and ``replace`` is false.
    """
    if primitive in _RULES and not replace:
        raise ArgumentError(
            f"primitive {primitive!r} has a rule already; pass replace=True to put another in its place."
        )
    _RULES[primitive] = rule

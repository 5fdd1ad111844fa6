"""One small rule per linear primitive: how a leaf's share passes through an equation.

A rule is ``rule(term, site) -> Term | list[Term | None] | None``: the share in the equation's output (in each output,
where there are several), given the share in operand ``site.position``. None declines; the share is then tapped before
the equation, exactly but without structure if the leaf was still bare. Since equations are linear, a rule sees one
term at a time.
"""

from jacgram.frontends.jax.linear.rules.site import Rule, Site
from jacgram.frontends.jax.linear.rules.table import find_rule, register_rule

__all__ = ["Rule", "Site", "find_rule", "register_rule"]

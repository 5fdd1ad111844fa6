"""The JAX frontend: a function at a point becomes a linear program, its uses, and products with its Jacobian.

Reading order: `trees` (what the user passed, as flat lists), `program` (f as a function of flat leaves), `side` (the
`Side` that everything above works with), `products` (J and Jᵀ applied), `records` and `recording` (uses of one example,
and of all), `linear` (how they are found), `identity` (how they are had without looking), `checks`, `execute` (compile
once, run often). All of it can be traced by ``jax.jit``, ``jax.vmap`` and ``jax.grad``.
"""

from jacgram.core.frontend import Frontend
from jacgram.frontends.jax.frontend import JaxFrontend
from jacgram.frontends.jax.linear.rules import Rule, Site, register_rule
from jacgram.frontends.jax.linear.terms import Deferred, Term, Window, fresh


def frontend() -> Frontend:
    """The JAX frontend."""
    return JaxFrontend()


__all__ = ["Deferred", "JaxFrontend", "Rule", "Site", "Term", "Window", "frontend", "fresh", "register_rule"]

"""The JAX frontend: a function at a point becomes a linear program, its uses, and products with its Jacobian.

Reading order: `trees` (what the user passed, as flat lists), `program` (f as a function of flat leaves), `side` (the
`Side` that everything above works with), `products` (J and Jᵀ applied), `uses` (the records), `execute` (compile once,
run often). All of it can be traced by ``jax.jit``, ``jax.vmap`` and ``jax.grad``.
"""

from jacgram.core.frontend import Frontend
from jacgram.frontends.jax.frontend import JaxFrontend


def frontend() -> Frontend:
    """The JAX frontend."""
    return JaxFrontend()


__all__ = ["JaxFrontend", "frontend"]

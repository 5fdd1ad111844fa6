"""Arrays of either framework, and the problem with known figures."""

import numpy as np

FIGURES = """
3.3123782e-05 2.5001222e-05 2.4946943e-05 2.5180108e-05 2.4940484e-05
2.5084497e-05 3.3233835e-05 2.4956826e-05 2.5108084e-05 2.5048916e-05
2.4969209e-05 2.4896170e-05 3.3232871e-05 2.5006309e-05 2.4947023e-05
2.5102483e-05 2.4947576e-05 2.4906987e-05 3.3327218e-05 2.4958186e-05
2.4981882e-05 2.5007204e-05 2.4966144e-05 2.5076926e-05 3.3595043e-05
"""


def array(framework, value):
    """A native array of a NumPy one."""
    value = np.array(value)
    if framework == "jax":
        import jax.numpy as jnp

        return jnp.asarray(value)
    import torch

    return torch.from_numpy(value)


def seeds_problem(framework, dtype=np.float32):
    """``f, x1, x2`` and the product J(x1) J(x2)ᵀ, of f(x) = sqrt(F x / N)."""
    rng = np.random.RandomState(1701)
    F, x1, x2 = (
        array(framework, values.astype(dtype)) for values in (rng.rand(5, 10000), rng.rand(10000), rng.rand(10000))
    )

    def f(x):
        return (F @ x / 10000) ** 0.5

    return f, x1, x2, np.array(FIGURES.split(), dtype=float).reshape(5, 5)

"""The largest eigenvalues of a tangent kernel that is never formed: SciPy's eigsh on a lazy operator."""

import jax
import jax.numpy as jnp
from scipy.sparse.linalg import eigsh

from jacgram import Jacobian


def network(params, x):
    return jnp.tanh(jnp.tanh(x @ params["w1"]) @ params["w2"]) @ params["w3"]


keys = jax.random.split(jax.random.key(0), 4)
params = {name: jax.random.normal(key, (32, 32)) / 32**0.5 for name, key in zip(["w1", "w2", "w3"], keys, strict=False)}
x = jax.random.normal(keys[3], (50, 32))

J = Jacobian(network, x, params=params)
K = J @ J.T
print(K)
values = eigsh(K.to_scipy(), k=4, return_eigenvectors=False)
print("largest eigenvalues:", values[::-1])

exact = jnp.linalg.eigvalsh(K.matrix())[-4:]
assert jnp.allclose(values, exact, rtol=1e-3), (values, exact)

"""Digests of programs: equal for what computes the same, in any process, and different for anything else."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("jax")
import jax
import jax.numpy as jnp
import numpy as np

from jacgram.frontends.jax import frontend

W = jnp.ones((3, 2), jnp.float32)
X = jnp.ones((4, 3), jnp.float32)
C = np.arange(2, dtype=np.float32)


def digest(f, x=X, params=W):
    return frontend().digest(frontend().side(f, x, params, argument="x"))


def base(w, x):
    return jnp.tanh(x @ w) + C


def test_names_and_numbers_of_examples_do_not_count():
    def renamed(weight, data):
        product = jax.jit(lambda a, b: a @ b)
        del product
        return jnp.tanh(data @ weight) + C

    assert digest(base) == digest(renamed) == digest(lambda w, x: base(w, x)) == digest(base, X[:2])
    assert digest(base, X * 2, W * 3) == digest(base), "content of parameters and data has digests of its own"


def test_names_of_inner_functions_do_not_count():
    def first(w, x):
        return x @ w

    def second(w, x):
        return x @ w

    assert digest(lambda w, x: jax.jit(first)(w, x)) == digest(lambda w, x: jax.jit(second)(w, x))


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x: jnp.tanh(x @ w) + C * 2,
        lambda w, x: jnp.tanh(x @ w) - C,
        lambda w, x: jnp.sinh(x @ w) + C,
        lambda w, x: jnp.tanh(x @ (w * 2)) + C,
        lambda w, x: jnp.tanh(x @ w)[:, ::-1] + C,
    ],
)
def test_programs_and_closed_over_values_count(f):
    assert digest(f) != digest(base)


def test_dtypes_count_by_what_they_are():
    """A file's dtype prints as ``<f4`` where one made here prints as ``float32``."""
    f = lambda w, x: jnp.asarray(x, x.dtype) @ w
    stored = np.frombuffer(np.ones(12, "<f4").tobytes(), np.dtype("<f4", metadata={"from": "a file"})).reshape(4, 3)
    assert digest(f, stored) == digest(f)


def test_an_array_stored_and_read_again_does_not_count():
    weak = jnp.full((3, 2), 0.1)
    read = jnp.array(np.asarray(weak))
    assert jax.typeof(weak).weak_type and not jax.typeof(read).weak_type
    for x in (X, X.astype("float64")):
        assert digest(base, x, weak) == digest(base, x, read)


def test_custom_derivatives_count():
    def with_slope(slope):
        @jax.custom_vjp
        def step(y):
            return jnp.sign(y)

        step.defvjp(lambda y: (jnp.sign(y), None), lambda _, g: (slope * g,))
        return lambda w, x: step(x @ w)

    assert digest(with_slope(1.0)) == digest(with_slope(1.0))
    assert digest(with_slope(1.0)) != digest(with_slope(2.0))


def test_random_keys_count():
    def noisy(key):
        return lambda w, x: x @ w + jax.random.normal(key, (2,), jnp.float32)

    assert digest(noisy(jax.random.key(0))) == digest(noisy(jax.random.key(0)))
    assert digest(noisy(jax.random.key(0))) != digest(noisy(jax.random.key(1)))


def test_held_arrays_count():
    equinox = pytest.importorskip("equinox")
    module = equinox.nn.Linear(3, 2, key=jax.random.key(0))
    other = equinox.tree_at(lambda m: m.bias, module, module.bias + 1)
    weight_alone = equinox.tree_at(lambda m: m.bias, module, None)
    whole = [frontend().side(m, X, None, argument="x") for m in (module, other)]
    part = [frontend().side(m, X, weight_alone, argument="x") for m in (module, other)]
    assert frontend().digest(whole[0]) == frontend().digest(whole[1]), "a bias that is differentiated is a parameter"
    assert frontend().digest(part[0]) != frontend().digest(part[1]), "one that is held belongs to f"


def test_equal_in_another_process():
    code = (
        "import jax, jax.numpy as jnp, numpy as np\n"
        "from jacgram.frontends.jax import frontend\n"
        "f = lambda w, x: jax.nn.gelu(jax.vmap(lambda r: jnp.sort(r))(x) @ w)\n"
        "x, w = jnp.ones((4, 3), jnp.float32), jnp.ones((3, 2), jnp.float32)\n"
        "print(frontend().digest(frontend().side(f, x, w, argument='x')))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert runs[0] == runs[1] and len(runs[0].strip()) == 64

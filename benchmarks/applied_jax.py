"""Models of particular users in plain JAX, batch-first: ``MODELS[name]() -> (f, params, make_x)``.

A language model's loss, the residual of a differential equation, a mean of embeddings, a recurrent network.
"""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.models_jax import attention_blocks, draw, norm, normal


def tokens(seed, n, length, vocabulary):
    return np.random.default_rng(2000 + seed).integers(0, vocabulary, (n, length)).astype(np.int32)


def gpt(width=64, blocks=2, length=32, heads=4, vocabulary=512, *, tied=True):
    """Pre-norm causal blocks, one loss for each example: the mean over its next tokens (o = 1)."""
    rng = np.random.default_rng(0)
    block_params, run = attention_blocks(rng, width, blocks, heads, causal=True)
    params = {
        "embed": draw(rng, vocabulary, width) * np.float32(vocabulary**0.5 * 0.3),
        "pos": 0.1 * draw(rng, 1, length, width)[0],
        "blocks": block_params,
        "norm": {"scale": np.ones(width, np.float32), "shift": 0.1 * draw(rng, 1, width)[0]},
    }
    if not tied:
        params["head"] = draw(rng, vocabulary, width)

    def f(params, x):
        given, wanted = x[:, :-1], x[:, 1:]
        h = norm(run(params["blocks"], params["embed"][given] + params["pos"]), params["norm"])
        logits = h @ params["embed" if tied else "head"].T
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), wanted[..., None], -1).mean((1, 2))

    return f, params, lambda n, seed: tokens(seed, n, length + 1, vocabulary)


def untied_gpt():
    return gpt(tied=False)


def residual(width=64, depth=4, dimensions=3):
    """The Laplacian of a network of ``depth`` tanh layers, less a source: f holds second derivatives (o = 1)."""
    rng = np.random.default_rng(0)
    sizes = [dimensions, *[width] * (depth - 1), 1]
    params = [{"w": draw(rng, a, b), "b": 0.1 * draw(rng, 1, b)[0]} for a, b in zip(sizes, sizes[1:])]

    def u(params, x):
        for layer in params[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return (x @ params[-1]["w"] + params[-1]["b"])[0]

    def f(params, x):
        one = lambda point: jnp.trace(jax.hessian(u, 1)(params, point)) - jnp.sin(point).sum()
        return jax.vmap(one)(x)

    return f, params, lambda n, seed: normal(seed, n, dimensions)


def embedding(vocabulary=5000, width=64, length=32, outputs=10):
    """Looked up, averaged over places, and a dense head."""
    rng = np.random.default_rng(0)
    params = {"table": draw(rng, 1, vocabulary * width).reshape(vocabulary, width), "w": draw(rng, width, outputs)}
    return (
        lambda params, x: params["table"][x].mean(1) @ params["w"],
        params,
        lambda n, seed: tokens(seed, n, length, vocabulary),
    )


def recurrent(width=128, length=32, features=64, outputs=10):
    """A tanh network along a ``scan``, read out at its end."""
    rng = np.random.default_rng(0)
    params = {
        "in": draw(rng, features, width),
        "again": draw(rng, width, width),
        "b": 0.1 * draw(rng, 1, width)[0],
        "head": draw(rng, width, outputs),
    }

    def f(params, x):
        step = lambda h, row: (jnp.tanh(row @ params["in"] + h @ params["again"] + params["b"]), None)
        last, _ = jax.lax.scan(step, jnp.zeros((len(x), width)), x.swapaxes(0, 1))
        return last @ params["head"]

    return f, params, lambda n, seed: normal(seed, n, length, features)


MODELS = {make.__name__: make for make in (gpt, untied_gpt, residual, embedding, recurrent)}

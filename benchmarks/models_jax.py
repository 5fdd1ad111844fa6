"""The benchmark models in plain JAX, batch-first, on any JAX since 0.4: ``MODELS[name]() -> (f, params, make_x)``.

Weights are drawn with NumPy, so that processes with different versions of JAX hold the same numbers.
"""

import numpy as np


def draw(rng, *shape):
    fan_in = int(np.prod(shape[:-1])) or 1
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def normal(seed, *shape):
    return np.random.default_rng(1000 + seed).standard_normal(shape).astype(np.float32)


def fcn(width=1024, depth=5, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    sizes = [784, *[width] * depth, outputs]
    params = [{"w": draw(rng, a, b), "b": 0.1 * draw(rng, 1, b)[0]} for a, b in zip(sizes, sizes[1:])]

    def f(params, x):
        for layer in params[:-1]:
            x = relu(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return f, params, lambda n, seed: normal(seed, n, 784)


def _conv(x, w, stride=1):
    import jax

    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cnn(channels=32, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    sizes = [3, channels, channels, channels]
    params = {
        "conv": [{"w": draw(rng, 3, 3, a, b), "b": 0.1 * draw(rng, 1, b)[0]} for a, b in zip(sizes, sizes[1:])],
        "head": {"w": draw(rng, 32 * 32 * channels, outputs), "b": 0.1 * draw(rng, 1, outputs)[0]},
    }

    def f(params, x):
        for layer in params["conv"]:
            x = relu(_conv(x, layer["w"]) + layer["b"])
        return x.reshape(x.shape[0], -1) @ params["head"]["w"] + params["head"]["b"]

    return f, params, lambda n, seed: normal(seed, n, 32, 32, 3)


def resnet(stages=(16, 32, 64), blocks=2, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    params, strides, last = {"stem": draw(rng, 3, 3, 3, stages[0]), "blocks": []}, [], stages[0]
    for stage, width in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            params["blocks"].append(
                {
                    "a": draw(rng, 3, 3, last, width),
                    "b": 0.5 * draw(rng, 3, 3, width, width),
                    **({"skip": draw(rng, 1, 1, last, width)} if last != width else {}),
                }
            )
            strides.append(stride)
            last = width
    params["head"] = {"w": draw(rng, last, outputs), "b": 0.1 * draw(rng, 1, outputs)[0]}

    def f(params, x):
        x = _conv(x, params["stem"])
        for block, stride in zip(params["blocks"], strides):
            h = _conv(relu(x), block["a"], stride)
            h = _conv(relu(h), block["b"])
            x = h + (_conv(x, block["skip"], stride) if "skip" in block else x)
        return relu(x).mean((1, 2)) @ params["head"]["w"] + params["head"]["b"]

    return f, params, lambda n, seed: normal(seed, n, 32, 32, 3)


def norm(x, p):
    """Normalised over features, scaled and shifted."""
    import jax.numpy as jnp

    centred = x - x.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]


def attention_blocks(rng, width, blocks, heads, causal=False):
    """Parameters of pre-norm blocks, and ``run(params, x)``."""
    import jax
    import jax.numpy as jnp

    norm_params = lambda: {"scale": np.ones(width, np.float32), "shift": 0.1 * draw(rng, 1, width)[0]}
    params = [
        {
            "norm1": norm_params(),
            "qkv": draw(rng, width, 3 * width),
            "out": draw(rng, width, width),
            "norm2": norm_params(),
            "up": draw(rng, width, 4 * width),
            "up_b": 0.1 * draw(rng, 1, 4 * width)[0],
            "down": draw(rng, 4 * width, width),
            "down_b": 0.1 * draw(rng, 1, width)[0],
        }
        for _ in range(blocks)
    ]

    def attend(x, block):
        n, t, _ = x.shape
        q, k, v = (part.reshape(n, t, heads, -1) for part in jnp.split(x @ block["qkv"], 3, axis=-1))
        scores = jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(width / heads)
        scores = jnp.where(np.tri(t, dtype=bool), scores, -1e9) if causal else scores
        weights = jax.nn.softmax(scores, axis=-1)
        return jnp.einsum("nhts,nshd->nthd", weights, v).reshape(n, t, width) @ block["out"]

    def run(params, x):
        for block in params:
            x = x + attend(norm(x, block["norm1"]), block)
            h = jax.nn.gelu(norm(x, block["norm2"]) @ block["up"] + block["up_b"])
            x = x + h @ block["down"] + block["down_b"]
        return x

    return params, run


def transformer(width=128, blocks=2, length=32, heads=4, outputs=10):
    rng = np.random.default_rng(0)
    embed = {"w": draw(rng, 64, width), "pos": 0.1 * draw(rng, 1, length, width)[0]}
    block_params, run = attention_blocks(rng, width, blocks, heads)
    head = {"w": draw(rng, width, outputs), "b": 0.1 * draw(rng, 1, outputs)[0]}

    def f(params, x):
        x = run(params["blocks"], x @ params["embed"]["w"] + params["embed"]["pos"])
        return x.mean(1) @ params["head"]["w"] + params["head"]["b"]

    params = {"embed": embed, "blocks": block_params, "head": head}
    return f, params, lambda n, seed: normal(seed, n, length, 64)


MODELS = {"fcn": fcn, "cnn": cnn, "resnet": resnet, "transformer": transformer}

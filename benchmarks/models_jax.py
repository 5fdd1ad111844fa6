"""The benchmark models in plain JAX, batch-first, on any JAX since 0.4: ``MODELS[name]() -> (f, params, make_x)``.

Weights are drawn with NumPy, so that processes with different versions of JAX hold the same numbers.
"""

import numpy as np


def _draw(rng, *shape):
    fan_in = int(np.prod(shape[:-1])) or 1
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def fcn(width=1024, depth=5, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    sizes = [784, *[width] * depth, outputs]
    params = [{"w": _draw(rng, a, b), "b": 0.1 * _draw(rng, 1, b)[0]} for a, b in zip(sizes, sizes[1:])]

    def f(params, x):
        for layer in params[:-1]:
            x = relu(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return f, params, lambda n, seed: _inputs(seed, n, 784)


def _inputs(seed, *shape):
    return np.random.default_rng(1000 + seed).standard_normal(shape).astype(np.float32)


def _conv(x, w, stride=1):
    import jax

    return jax.lax.conv_general_dilated(x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def cnn(channels=32, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    sizes = [3, channels, channels, channels]
    params = {
        "conv": [{"w": _draw(rng, 3, 3, a, b), "b": 0.1 * _draw(rng, 1, b)[0]} for a, b in zip(sizes, sizes[1:])],
        "head": {"w": _draw(rng, 32 * 32 * channels, outputs), "b": 0.1 * _draw(rng, 1, outputs)[0]},
    }

    def f(params, x):
        for layer in params["conv"]:
            x = relu(_conv(x, layer["w"]) + layer["b"])
        return x.reshape(x.shape[0], -1) @ params["head"]["w"] + params["head"]["b"]

    return f, params, lambda n, seed: _inputs(seed, n, 32, 32, 3)


def resnet(stages=(32, 64, 128), blocks=2, outputs=10):
    from jax.nn import relu

    rng = np.random.default_rng(0)
    params, strides, last = {"stem": _draw(rng, 3, 3, 3, stages[0]), "blocks": []}, [], stages[0]
    for stage, width in enumerate(stages):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            params["blocks"].append(
                {
                    "a": _draw(rng, 3, 3, last, width),
                    "b": 0.5 * _draw(rng, 3, 3, width, width),
                    **({"skip": _draw(rng, 1, 1, last, width)} if last != width else {}),
                }
            )
            strides.append(stride)
            last = width
    params["head"] = {"w": _draw(rng, last, outputs), "b": 0.1 * _draw(rng, 1, outputs)[0]}

    def f(params, x):
        x = _conv(x, params["stem"])
        for block, stride in zip(params["blocks"], strides):
            h = _conv(relu(x), block["a"], stride)
            h = _conv(relu(h), block["b"])
            x = h + (_conv(x, block["skip"], stride) if "skip" in block else x)
        return relu(x).mean((1, 2)) @ params["head"]["w"] + params["head"]["b"]

    return f, params, lambda n, seed: _inputs(seed, n, 32, 32, 3)


def transformer(width=128, blocks=2, length=32, heads=4, outputs=10):
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    norm_params = lambda: {"scale": np.ones(width, np.float32), "shift": 0.1 * _draw(rng, 1, width)[0]}
    params = {
        "embed": {"w": _draw(rng, 64, width), "pos": 0.1 * _draw(rng, 1, length, width)[0]},
        "blocks": [
            {
                "norm1": norm_params(),
                "qkv": _draw(rng, width, 3 * width),
                "out": _draw(rng, width, width),
                "norm2": norm_params(),
                "up": _draw(rng, width, 4 * width),
                "up_b": 0.1 * _draw(rng, 1, 4 * width)[0],
                "down": _draw(rng, 4 * width, width),
                "down_b": 0.1 * _draw(rng, 1, width)[0],
            }
            for _ in range(blocks)
        ],
        "head": {"w": _draw(rng, width, outputs), "b": 0.1 * _draw(rng, 1, outputs)[0]},
    }

    def norm(x, p):
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["shift"]

    def attend(x, block):
        n, t, _ = x.shape
        q, k, v = (part.reshape(n, t, heads, -1) for part in jnp.split(x @ block["qkv"], 3, axis=-1))
        weights = jax.nn.softmax(jnp.einsum("nthd,nshd->nhts", q, k) / np.sqrt(width / heads), axis=-1)
        return jnp.einsum("nhts,nshd->nthd", weights, v).reshape(n, t, width) @ block["out"]

    def f(params, x):
        x = x @ params["embed"]["w"] + params["embed"]["pos"]
        for block in params["blocks"]:
            x = x + attend(norm(x, block["norm1"]), block)
            h = jax.nn.gelu(norm(x, block["norm2"]) @ block["up"] + block["up_b"])
            x = x + h @ block["down"] + block["down_b"]
        return x.mean(1) @ params["head"]["w"] + params["head"]["b"]

    return f, params, lambda n, seed: _inputs(seed, n, length, 64)


MODELS = {"fcn": fcn, "cnn": cnn, "resnet": resnet, "transformer": transformer}

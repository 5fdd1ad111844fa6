"""Usual architectures in plain JAX, small: ``name: (f, params, x)``."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_rng = np.random.default_rng(1)
NHWC = ("NHWC", "HWIO", "NHWC")


def normal(*shape):
    return jnp.asarray(_rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]) or 1))


def _dense(i, k):
    return {"w": normal(i, k), "b": normal(k)}


def fully_connected(p, x):
    for layer in p[:-1]:
        x = jax.nn.gelu(x @ layer["w"] + layer["b"])
    return x @ p[-1]["w"] + p[-1]["b"]


def _convolve(x, layer, stride=1):
    return lax.conv_general_dilated(x, layer["w"], (stride, stride), "SAME", dimension_numbers=NHWC) + layer["b"]


def convolutional(p, x):
    for layer in p["conv"]:
        x = jax.nn.relu(_convolve(x, layer))
    return x.reshape(x.shape[0], -1) @ p["out"]["w"] + p["out"]["b"]


def _group_norm(x, q, groups=2):
    h = x.reshape(*x.shape[:-1], groups, -1)
    mean, variance = h.mean((1, 2, 4), keepdims=True), h.var((1, 2, 4), keepdims=True)
    return ((h - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape) * q["scale"] + q["shift"]


def residual(p, x):
    x = _convolve(x, p["stem"])
    for block in p["blocks"]:
        h = jax.nn.relu(_group_norm(_convolve(x, block["a"]), block["norm"]))
        x = jax.nn.relu(x + _convolve(h, block["b"]))
    return x.mean((1, 2)) @ p["out"]["w"] + p["out"]["b"]


def _layer_norm(x, q):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * q["scale"] + q["shift"]


def transformer(p, tokens):
    x = p["embed"][tokens] + p["place"]
    for block in p["blocks"]:
        h = _layer_norm(x, block["norm1"])
        q, k, v = (jnp.einsum("ntd,dhe->nhte", h, block[name]) for name in "qkv")
        weights = jax.nn.softmax(jnp.einsum("nhte,nhse->nhts", q, k) / np.sqrt(q.shape[-1]))
        x = x + jnp.einsum("nhts,nhse,hed->ntd", weights, v, block["o"])
        h = jax.nn.gelu(_layer_norm(x, block["norm2"]) @ block["up"]["w"] + block["up"]["b"])
        x = x + h @ block["down"]["w"] + block["down"]["b"]
    return x.mean(1) @ p["out"]["w"] + p["out"]["b"]


def recurrent(p, x):
    def step(h, x_t):
        return jnp.tanh(h @ p["w"] + x_t @ p["u"] + p["b"]), None

    h, _ = lax.scan(step, jnp.zeros((x.shape[0], p["w"].shape[0]), x.dtype), x.swapaxes(0, 1))
    return h @ p["out"]["w"] + p["out"]["b"]


def pde_residual(p, x):
    def u(x):
        return fully_connected(p, x[None])[0, 0]

    return jax.vmap(lambda x: jnp.trace(jax.hessian(u)(x)) + u(x) ** 3)(x)


def _norm(c):
    return {"scale": 1 + normal(c), "shift": normal(c)}


def _kernel(i, k):
    return {"w": normal(3, 3, i, k), "b": normal(k)}


def _block(d, heads):
    qkv = {name: normal(d, heads, d // heads) for name in "qkv"} | {"o": normal(heads, d // heads, d)}
    return qkv | {"norm1": _norm(d), "norm2": _norm(d), "up": _dense(d, 2 * d), "down": _dense(2 * d, d)}


ARCHITECTURES = {
    "fully connected": (fully_connected, [_dense(6, 8), _dense(8, 8), _dense(8, 3)], normal(3, 6)),
    "convolutional": (
        convolutional,
        {"conv": [_kernel(2, 4), _kernel(4, 4)], "out": _dense(4 * 6 * 5, 3)},
        normal(3, 6, 5, 2),
    ),
    "residual": (
        residual,
        {
            "stem": _kernel(2, 4),
            "blocks": [{"a": _kernel(4, 4), "b": _kernel(4, 4), "norm": _norm(4)} for _ in range(2)],
            "out": _dense(4, 3),
        },
        normal(3, 6, 5, 2),
    ),
    "transformer": (
        transformer,
        {
            "embed": normal(11, 8),
            "place": normal(5, 8),
            "blocks": [_block(8, 2) for _ in range(2)],
            "out": _dense(8, 3),
        },
        jnp.asarray(_rng.integers(0, 11, (3, 5))),
    ),
    "recurrent": (
        recurrent,
        {"w": normal(6, 6), "u": normal(4, 6), "b": normal(6), "out": _dense(6, 3)},
        normal(3, 7, 4),
    ),
    "PDE residual": (
        pde_residual,
        [_dense(2, 6), _dense(6, 6), _dense(6, 6), _dense(6, 1)],
        normal(3, 2),
    ),
}

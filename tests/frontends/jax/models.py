"""Awkward models, each ``name: (f, params, x)`` with f batch-first: every way a parameter can enter a program."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_rng = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(_rng.standard_normal(shape))


def per_example(one):
    """A batch-first function of a function of one example."""
    return lambda p, x: jax.vmap(partial(one, p))(x)


X = normal(3, 4)
SEQ = normal(3, 5, 4)
TOKENS = jnp.asarray(_rng.integers(0, 7, (3, 5)))
IMAGES = normal(3, 6, 5, 2)
W = normal(4, 4) / 2
V = normal(4, 3)
B = normal(4)
FIXED = normal(4, 8)
SPD = W @ W.T + 3 * jnp.eye(4)

MODELS = {}


def model(params, x=X):
    def add(f):
        MODELS[f.__name__] = (f, params, x)
        return f

    return add


@model({"w": V})
def dense(p, x):
    return x @ p["w"]


@model({"w": V, "b": normal(3)})
def bias(p, x):
    return jnp.tanh(x @ p["w"] + p["b"]) + p["b"]


@model(W)
def tied_three_times(w, x):
    return jnp.tanh(jnp.tanh(x @ w) @ w.T) @ w


@model({"w": W, "b": B})
def inner_jit(p, x):
    layer = jax.jit(lambda h: jnp.sin(h @ p["w"] + p["b"]))
    return layer(layer(x))


@model({"w": V, "b": normal(3)})
def relu(p, x):
    return jax.nn.relu(x @ p["w"] + p["b"])


@jax.custom_jvp
def _cube(x):
    return x**3


_cube.defjvp(lambda primals, tangents: (_cube(primals[0]), 3 * primals[0] ** 2 * tangents[0]))


@jax.custom_vjp
def _scaled(x, y):
    return jnp.sin(x) * y


_scaled.defvjp(
    lambda x, y: (_scaled(x, y), (x, y)),
    lambda saved, g: (g * jnp.cos(saved[0]) * saved[1], g * jnp.sin(saved[0])),
)


@model({"w": W, "b": B})
def custom_jvp_on_data(p, x):
    return _cube(x @ p["w"]) + p["b"]


@model({"w": W, "b": B})
def custom_jvp_on_parameters(p, x):
    return x @ _cube(p["w"]) + _cube(p["b"])


@model({"w": W, "b": B})
def custom_vjp_on_data(p, x):
    return _scaled(x @ p["w"], x) + p["b"]


@model({"w": W, "v": W + 1})
def custom_vjp_on_parameters(p, x):
    return x @ _scaled(p["w"], p["v"])


@model({"w": W, "b": B})
def remat(p, x):
    block = jax.checkpoint(lambda p, h: jnp.sin(jnp.tanh(h @ p["w"]) @ p["w"] + p["b"]))
    return block(p, block(p, x))


@model({"w": W, "b": B})
def remat_of_scan(p, x):
    @jax.checkpoint
    def block(p, h):
        return lax.scan(lambda c, _: (jnp.tanh(c @ p["w"] + p["b"]), c.sum(-1)), h, None, length=3)

    h, sums = block(p, x)
    return h + sums.T[:, :1]


@model({"w": W, "u": W / 2, "b": B}, SEQ)
def scan_shared(p, x):
    def step(h, x_t):
        return jnp.tanh(h @ p["w"] + x_t @ p["u"] + p["b"]), None

    return lax.scan(step, jnp.zeros((x.shape[0], 4)), x.swapaxes(0, 1))[0]


@model({"w": normal(3, 4, 4) / 2, "b": normal(3, 4)})
def scan_stacked(p, x):
    return lax.scan(lambda h, q: (jnp.tanh(h @ q["w"] + q["b"]), None), x, p)[0]


@model({"w": W, "b": B, "h": B / 2}, SEQ)
def scan_collected(p, x):
    def step(h, x_t):
        h = jnp.tanh(h @ p["w"] + x_t + p["b"])
        return h, h

    start = jnp.broadcast_to(p["h"], (x.shape[0], 4))
    return lax.scan(step, start, x.swapaxes(0, 1))[1].swapaxes(0, 1)


@model({"w": W, "b": B}, SEQ)
def scan_reverse(p, x):
    def step(h, x_t):
        h = jnp.tanh(h @ p["w"] + x_t + p["b"])
        return h, h.sum(-1)

    h, sums = lax.scan(step, jnp.zeros((x.shape[0], 4)), x.swapaxes(0, 1), reverse=True)
    return jnp.concatenate([h, sums.T], 1)


@model({"w": normal(2, 4, 4) / 2, "u": W, "b": B}, SEQ)
def scan_nested(p, x):
    def layer(h, w):
        def step(c, x_t):
            return jnp.tanh(c @ w + x_t @ p["u"] + p["b"]), None

        return lax.scan(step, h, x.swapaxes(0, 1))[0], None

    return lax.scan(layer, jnp.zeros((x.shape[0], 4)), p["w"])[0]


@model({"w": W, "s": normal(4)})
def scan_counts(p, x):
    def step(carry, _):
        h, count, w = carry
        return (jnp.tanh(h @ w) * count + p["s"], count + 1.0, w), None

    return lax.scan(step, (x, jnp.float64(0.5), p["w"]), None, length=3)[0][0]


@model({"w": W}, SEQ)
def scan_without_a_rule(p, x):
    def step(h, x_t):
        return jnp.tanh(h @ jnp.exp(jnp.sort(p["w"]))) + x_t @ jnp.linalg.inv(p["w"] + 3 * jnp.eye(4)), None

    return lax.scan(step, jnp.zeros((x.shape[0], 4)), x.swapaxes(0, 1))[0]


@model({"w": normal(2, 3, 2, 2)}, IMAGES[:, :, 0])
def scan_stacked_convolution(p, x):
    def step(h, w):
        return jnp.tanh(lax.conv_general_dilated(h, w, (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))), None

    return lax.scan(step, x, p["w"])[0].sum(1)


@model({"w": normal(3, 2, 2)}, IMAGES[:, :, 0])
def scan_shared_convolution(p, x):
    def step(h, _):
        return jnp.tanh(
            lax.conv_general_dilated(h, p["w"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
        ), None

    return lax.scan(step, x, None, length=3)[0].sum(1)


@model({"e": normal(2, 7, 4), "u": normal(7, 4)}, TOKENS)
def scan_of_embeddings(p, x):
    def step(h, table):
        return jnp.tanh(h + table[x].sum(1) + p["u"][x][:, 0]), None

    return lax.scan(step, jnp.zeros((x.shape[0], 4)), p["e"])[0]


@model({"w": W, "b": B})
def fori(p, x):
    return lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ p["w"] + i * p["b"]), x)


@model({"w": W, "b": B})
def cond_on_parameters(p, x):
    return lax.cond(p["b"].sum() > 0, lambda: jnp.tanh(x @ p["w"]) @ p["w"], lambda: x * p["b"])


@model({"w": W, "b": B})
def cond_on_parameters_other_way(p, x):
    return lax.cond(p["b"].sum() <= 0, lambda: jnp.tanh(x @ p["w"]) @ p["w"], lambda: x * p["b"])


@model({"w": W, "b": B})
def cond_on_data(p, x):
    one = lambda x: lax.cond(x[0] > 0, lambda: jnp.tanh(x @ p["w"]) @ p["w"], lambda: x * p["b"] + p["w"][1])
    return jax.vmap(one)(x)


@model({"w": W, "b": B})
def cond_on_data_of_one(p, x):
    if x.shape[0] > 1:
        return jax.vmap(lambda x: cond_on_data_of_one(p, x[None])[0])(x)
    return lax.cond(x[0, 0] > 0, lambda: jnp.tanh(x @ p["w"]) @ p["w"], lambda: x * p["b"] + p["w"][1])


@model({"w": normal(3, 4, 4)})
def switch(p, x):
    one = lambda x: lax.switch(
        jnp.clip(jnp.floor(x[0] + 1).astype(int), 0, 2),
        [lambda: x @ p["w"][0], lambda: jnp.sin(x @ p["w"][1]), lambda: p["w"][2, 0] * x],
    )
    return jax.vmap(one)(x)


@model({"w": W, "b": B})
def cond_in_scan(p, x):
    def step(h, i):
        return lax.cond(i % 2 == 0, lambda: jnp.tanh(h @ p["w"] + p["b"]), lambda: h * p["b"]), None

    return lax.scan(step, x, jnp.arange(4))[0]


@model({"e": normal(7, 4)}, TOKENS)
def gather(p, x):
    return p["e"][x].sum(1) + jnp.take(p["e"], x, axis=0)[:, 0] * 2


@model({"e": normal(7, 4), "w": W}, TOKENS)
def gather_tied_with_projection(p, x):
    return jnp.tanh(p["e"][x] * 2.0 @ p["w"]).mean(1) @ p["e"].T


@model({"e": normal(7, 4)}, TOKENS + 4)
def gather_out_of_range(p, x):
    return jnp.take(p["e"], x, axis=0, fill_value=0.0).sum(1) + jnp.take(p["e"], x, axis=0, mode="clip")[:, 0]


@model({"e": normal(4, 7), "t": normal(7, 5, 2)}, TOKENS)
def gather_other_axes(p, x):
    return p["e"][:, x[:, 0]].T @ FIXED[:, :2] + p["t"][x[:, 1], x[:, 2] % 5] + p["t"][x[:, 3], 1:3].sum(1)


@model({"w": W})
def scatter_add(p, x):
    base = jnp.zeros((x.shape[0], 6)).at[:, jnp.array([0, 2, 2, 5])].add(x @ p["w"])
    return base.at[:, :4].add(p["w"][0]) + jnp.zeros(6).at[jnp.array([1, 1, 0, 3])].add(p["w"][1])


@model({"w": W})
def sort_of_parameters(p, x):
    return x @ jnp.sort(p["w"], axis=0)


@model({"w": W})
def sort_of_data(p, x):
    return jnp.sort(x @ p["w"], axis=1)


@model({"w": V, "b": normal(3)})
def log_softmax(p, x):
    return jax.nn.log_softmax(x @ p["w"] + p["b"])


@model({"w": W, "b": B})
def cumsum(p, x):
    return jnp.cumsum(x @ p["w"], axis=1) * jnp.cumsum(p["b"]) + jnp.cumsum(p["w"], axis=0)[1]


@model({"w": W})
def exp_of_parameters(p, x):
    return x @ jnp.exp(p["w"])


@model({"g": normal(3), "v": V})
def weight_norm(p, x):
    return x @ (p["v"] * (p["g"] / jnp.linalg.norm(p["v"], axis=0)))


@model({"w": SPD})
def inv(p, x):
    return x @ jnp.linalg.inv(p["w"])


@model({"w": W})
def qr(p, x):
    return x @ jnp.linalg.qr(p["w"])[0]


@model({"w": SPD})
def cholesky(p, x):
    return x @ jnp.linalg.cholesky(p["w"])


@model({"w": normal(4, 6), "b": normal(6)})
def split(p, x):
    q, k, v = jnp.split(x @ p["w"] + p["b"], 3, axis=1)
    a, b = jnp.split(p["w"], 2, axis=1)
    return q * k + v + (x @ a)[:, :2] + b[0, :2]


@model({"w": normal(3, 3, 2, 4), "b": normal(4), "u": normal(3, 3, 1, 8)}, IMAGES)
def convolution(p, x):
    numbers = ("NHWC", "HWIO", "NHWC")
    h = lax.conv_general_dilated(x, p["w"], (2, 1), ((1, 0), (0, 2)), rhs_dilation=(1, 2), dimension_numbers=numbers)
    h = jnp.tanh(h + p["b"])
    h = lax.conv_general_dilated(
        h, p["u"], (1, 1), ((1, 1), (1, 1)), lhs_dilation=(1, 2), dimension_numbers=numbers, feature_group_count=4
    )
    return h.sum((1, 2))


@model({"w": normal(4, 2, 3, 3)}, IMAGES.transpose(0, 3, 1, 2))
def convolution_channels_first(p, x):
    h = lax.conv_general_dilated(x, p["w"], (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return jnp.tanh(h).sum((2, 3))


@model({"w": normal(2, 2, 5)}, IMAGES[:, :, 0])
def convolution_transposed(p, x):
    return jnp.tanh(lax.conv_transpose(x, p["w"].transpose(2, 0, 1), (2,), "SAME", transpose_kernel=True)).sum(1)


@model({"w": normal(1, 2, 7)}, normal(3, 3, 2, 3))
def convolution_with_the_parameter_on_the_left(p, x):
    one = lambda kernel: lax.conv_general_dilated(p["w"], kernel, (1,), "VALID")[0]
    return jax.vmap(one)(x)


@model({"w": normal(3, 2, 2)}, normal(3, 4, 5, 2))
def convolution_of_batches(p, x):
    numbers = ("NWC", "WIO", "NWC")
    return jax.vmap(lambda x: lax.conv_general_dilated(x, p["w"], (1,), "SAME", dimension_numbers=numbers))(x).sum(2)


@model({"a": normal(4, 3), "b": normal(3, 5)})
def three_operands(p, x):
    return jnp.einsum("ni,ij,jk->nk", x, p["a"], p["b"])


@model({"w": normal(8)})
def fft_of_a_parameter(p, x):
    return x @ jnp.fft.fft(p["w"]).real.reshape(4, 2) + jnp.fft.fft(p["w"]).imag[:2]


@model({"w": normal(7, 4), "b": normal(9)})
def dynamic_slice(p, x):
    start = jnp.argmax(x, axis=1)
    one = lambda x, s: x @ lax.dynamic_slice(p["w"], (s, 1), (4, 3)) + lax.dynamic_slice(p["b"], (s * 2,), (3,))
    return jax.vmap(one)(x, start)


@model({"w": normal(7, 4), "b": normal(9)})
def dynamic_slice_of_one(p, x):
    one = lambda x: x @ lax.dynamic_slice(p["w"], (jnp.argmax(x), 1), (4, 3)) + lax.dynamic_slice_in_dim(p["b"], 2, 3)
    return lax.map(one, x)


@model({"w": normal(7, 4)}, TOKENS)
def indexing_by_data(p, x):
    return p["w"][x[:, 0]] * p["w"][x[:, 1], 2][:, None]


@model({"w": W, "b": B})
def complex_inside(p, x):
    z = (x + 1j * x**2) @ (p["w"] + 0j) * jnp.exp(1j * p["b"])
    return (z * jnp.conj(z) * (1 + 2j)).real + z.imag


@model({"w": normal(3, 3, 2, 3)}, IMAGES)
def max_pool(p, x):
    h = lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return lax.reduce_window(h, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").sum((1, 2))


@model({"w": W, "b": B})
def vmap_inside(p, x):
    return jax.vmap(lambda row: jax.vmap(lambda c, b: jnp.sin(row @ c) + b)(p["w"].T, p["b"]))(x)


@model({"w": W, "b": B})
def grad_inside(p, x):
    return jax.vmap(jax.grad(lambda x: jnp.sin(x @ p["w"] + p["b"]).prod()))(x)


_LAYERS = [{"w": normal(2, 6), "b": normal(6)}] + [{"w": normal(6, 6) / 2, "b": normal(6)} for _ in range(2)]
_LAYERS += [{"w": normal(6, 1), "b": normal(1)}]


@model(_LAYERS, normal(3, 2))
def pde_residual(p, x):
    def u(x):
        for layer in p[:-1]:
            x = jnp.tanh(x @ layer["w"] + layer["b"])
        return (x @ p[-1]["w"] + p[-1]["b"])[0]

    def residual(x):
        return jnp.trace(jax.hessian(u)(x)) + u(x) ** 3 + jax.grad(u)(x).sum()

    return jax.vmap(residual)(x)


@model({"w": W})
def laplacian_forward_over_reverse(p, x):
    def u(x):
        return jnp.sin(jnp.tanh(x @ p["w"]) @ p["w"]).sum()

    def laplacian(x):
        push = lambda v: jax.jvp(jax.grad(u), (x,), (v,))[1]
        return jnp.trace(jax.vmap(push)(jnp.eye(4)))

    return jax.vmap(laplacian)(x)


@model({"w": W, "b": B})
def lax_map(p, x):
    return lax.map(lambda row: jnp.tanh(row @ p["w"] + p["b"]), x)


@model({"w": W, "unused": B})
def unused_leaf(p, x):
    return x @ p["w"]


@model({"w": W})
def constant_output(p, x):
    return jnp.ones_like(x)


@model({"w": W, "b": B})
def output_of_parameters_only(p, x):
    return jnp.broadcast_to(jnp.sin(p["w"] @ p["b"]), x.shape) + p["b"]


@model({"w": W, "b": B})
def stop_gradient(p, x):
    return jnp.sin(x @ lax.stop_gradient(p["w"])) @ p["w"] + lax.stop_gradient(p["b"])


@model({"w": W, "b": B})
def where(p, x):
    return jnp.where(x > 0, x @ p["w"], p["b"]) + jnp.where(p["b"] > 0, p["b"], 2 * p["w"][0])


@model({"w": W, "v": V, "b": B})
def concatenate(p, x):
    fused = jnp.concatenate([p["w"], p["v"], p["w"][:, :1]], axis=1)
    tall = jnp.concatenate([p["w"], p["w"][::-1]], axis=0)
    return x @ fused + jnp.concatenate([p["b"], p["b"]]) + jnp.concatenate([x, x], 1) @ tall @ FIXED


@model({"w": W, "b": B})
def rev(p, x):
    return jnp.flip(x @ p["w"][::-1, ::2], 1) @ p["w"][1:3].T[::-1, ::-1][:2] + jnp.flip(p["b"])[:2]


@model({"b": B})
def outer_product_with_itself(p, x):
    return x @ jnp.outer(p["b"], p["b"])


@model({"w": normal(4, 6)})
def three_axes_out(p, x):
    return jnp.sin(x @ p["w"]).reshape(-1, 2, 3)[:, :, None] * FIXED[:2, :3]


@model({"w": B})
def scalar_out(p, x):
    return jnp.tanh(x @ p["w"])


@model({"w": W, "s": jnp.asarray(0.7), "t": normal(1, 1)})
def scalars(p, x):
    return p["s"] * (x @ (p["w"] * p["s"])) - p["s"] / (1 + x**2) + -(2.0 * p["s"]) * p["t"]


@model({"w": normal(2, 8), "b": normal(2, 1, 2)})
def reshapes(p, x):
    w = p["w"].reshape(2, 4, 2).transpose(1, 0, 2)
    return jnp.einsum("ni,ikl->nkl", x, w) + p["b"][:, 0] + p["w"].reshape(4, 4).T.reshape(4, 2, 2).sum(0)


@model({"w": normal(4, 4)})
def pad(p, x):
    padded = jnp.pad(p["w"], ((1, 0), (2, 1)))
    return jnp.pad(x, ((0, 0), (1, 0))) @ padded + lax.pad(p["w"][0], 0.0, ((1, 2, 0),))


@model({"w": normal(2, 4, 3), "g": normal(2, 3)})
def batched_products(p, x):
    h = jnp.einsum("ni,hij->hnj", x, p["w"]) * p["g"][:, None]
    return jnp.einsum("hnj,hij->nhi", jnp.tanh(h), p["w"])


@model({"w": normal(4, 4), "b": normal(4)})
def sums(p, x):
    return (x[:, :, None] * p["w"]).sum(1) + p["w"].sum(0) * x + p["b"].sum() + (x * p["b"]).sum(1, keepdims=True)


@model({"w": W, "b": B})
def tree_out(p, x):
    h = x @ p["w"]
    return {"a": h + p["b"], "b": (jnp.sin(h[:, :2]), h.sum(1))}

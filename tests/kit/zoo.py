"""A zoo of awkward models, each written in JAX and in PyTorch side by side, with equal weights and inputs.

    for name in zoo.MODELS: f, params, x = zoo.MODELS[name].on(framework, n=3)

``params`` is a flat dict of arrays, x has examples on axis 0, and ``f(params, x)`` is batch-first in both frameworks.
Values are drawn with NumPy, so both frameworks see the same numbers; `Model.layouts` says where PyTorch wants other axes.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Model:
    """One function in two frameworks.

    Attributes:
        shapes: shape of each parameter.
        x: ``(rng, n) -> x`` in NumPy.
        jax: ``(params, x) -> y`` in JAX.
        torch: the same in PyTorch.
        layouts: order of axes of a parameter in PyTorch, where it differs; ``"x"`` for the input.
        complex: names of the parameters that are complex.
    """

    name: str
    shapes: dict[str, tuple[int, ...]]
    x: Callable[[np.random.Generator, int], Any]
    jax: Callable[[Any, Any], Any]
    torch: Callable[[Any, Any], Any]
    layouts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    complex: tuple[str, ...] = ()

    def on(self, framework, n=3, *, seed=0, dtype="float64", params_seed=0):
        """``f, params, x`` in a framework; other seeds give other inputs and other weights (a second checkpoint)."""
        convert = {"jax": _to_jax, "torch": _to_torch}[framework]
        layouts = self.layouts if framework == "torch" else {}
        params = {key: convert(value, dtype, layouts.get(key)) for key, value in self.params(params_seed).items()}
        x = self.x(np.random.default_rng([seed, zlib.crc32(self.name.encode())]), n)
        return getattr(self, framework), params, _convert_tree(x, convert, dtype, layouts.get("x"))

    def params(self, seed=0):
        """The weights in NumPy."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode()), 1])
        return {key: self._draw(rng, key) for key in self.shapes}

    def _draw(self, rng, key):
        value = np.asarray(rng.standard_normal(self.shapes[key]) * 0.6)
        return value + 0.6j * rng.standard_normal(self.shapes[key]) if key in self.complex else value


MODELS: dict[str, Model] = {}


def _add(name, shapes, x, *, layouts=None, complex=()):  # noqa: A002
    """Decorates a class holding the two functions ``jax`` and ``torch``."""

    def register(pair):
        MODELS[name] = Model(name, shapes, x, pair.jax, pair.torch, layouts or {}, complex)
        return pair

    return register


def _normal(*shape):
    return lambda rng, n: rng.standard_normal((n, *shape))


def _integers(high, *shape):
    return lambda rng, n: rng.integers(0, high, (n, *shape))


def _convert_tree(tree, convert, dtype, layout):
    if isinstance(tree, dict):
        return {key: _convert_tree(part, convert, dtype, layout) for key, part in tree.items()}
    return convert(tree, dtype, layout)


def _cast(value, dtype):
    if np.iscomplexobj(value):
        return value.astype({"float64": "complex128", "float32": "complex64"}[dtype])
    return value.astype(dtype) if np.issubdtype(value.dtype, np.floating) else value


def _to_jax(value, dtype, layout):
    import jax.numpy as jnp

    del layout
    return jnp.asarray(value, dtype) if dtype in ("bfloat16", "float16") else jnp.asarray(_cast(value, dtype))


def _to_torch(value, dtype, layout):
    import torch

    value = value if layout is None else np.ascontiguousarray(value.transpose(layout))
    if dtype in ("bfloat16", "float16"):
        return torch.from_numpy(value).to(getattr(torch, dtype) if value.dtype.kind == "f" else torch.int64)
    return torch.from_numpy(_cast(value, dtype))


# ---------------------------------------------------------------------------------------------------- plain layers


@_add("dense", {"w1": (5, 7), "b1": (7,), "w2": (7, 4), "b2": (4,)}, _normal(5), layouts={"w1": (1, 0)})
class _Dense:
    """Two dense layers, the first written as each framework writes it."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"] + p["b2"]

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        return torch.tanh(F.linear(x, p["w1"], p["b1"])) @ p["w2"] + p["b2"]


@_add("scalar_output", {"w": (5, 6), "v": (6,)}, _normal(5))
class _ScalarOutput:
    """One number for each example."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(x @ p["w"]) @ p["v"]

    def torch(p, x):
        import torch

        return torch.tanh(x @ p["w"]) @ p["v"]


@_add("sequence_output", {"w": (4, 3), "b": (3,)}, _normal(5, 4))
class _SequenceOutput:
    """Two output axes: one dense layer used at each of five positions."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.sin(x @ p["w"] + p["b"])

    def torch(p, x):
        import torch

        return torch.sin(x @ p["w"] + p["b"])


@_add("three_axis_output", {"w": (4, 3), "s": (2, 1, 3)}, _normal(2, 2, 4))
class _ThreeAxisOutput:
    """Three output axes, and a scale broadcast over the middle one."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(x @ p["w"]) * p["s"]

    def torch(p, x):
        import torch

        return torch.tanh(x @ p["w"]) * p["s"]


@_add(
    "conv",
    {"k1": (3, 3, 2, 4), "b1": (4,), "k2": (2, 3, 2, 6), "w": (6, 3)},
    _normal(6, 5, 2),
    layouts={"k1": (3, 2, 0, 1), "k2": (3, 2, 0, 1), "x": (0, 3, 1, 2)},
)
class _Conv:
    """A padded convolution, a strided one with groups, average over pixels, dense."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        numbers = ("NHWC", "HWIO", "NHWC")
        h = jax.lax.conv_general_dilated(x, p["k1"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=numbers) + p["b1"]
        h = jax.lax.conv_general_dilated(
            jnp.tanh(h), p["k2"], (2, 1), ((0, 0), (1, 1)), dimension_numbers=numbers, feature_group_count=2
        )
        return jnp.tanh(h).mean((1, 2)) @ p["w"]

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        h = F.conv2d(x, p["k1"], p["b1"], padding=1)
        h = F.conv2d(torch.tanh(h), p["k2"], stride=(2, 1), padding=(0, 1), groups=2)
        return torch.tanh(h).mean((2, 3)) @ p["w"]


@_add(
    "conv_odd",
    {"k1": (3, 2, 3), "k2": (3, 3, 2), "w": (16, 2)},
    _normal(7, 2),
    layouts={"k1": (2, 1, 0), "k2": (1, 2, 0), "x": (0, 2, 1)},
)
class _ConvOdd:
    """One spatial axis: a dilated convolution, then a transposed one, flattened with channels last."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        numbers = ("NWC", "WIO", "NWC")
        h = jax.lax.conv_general_dilated(x, p["k1"], (1,), ((1, 1),), rhs_dilation=(2,), dimension_numbers=numbers)
        flipped = jnp.flip(p["k2"], 0)  # a transposed convolution is one of the flipped kernel over spaced inputs
        h = jax.lax.conv_general_dilated(
            jnp.tanh(h), flipped, (1,), ((1, 0),), lhs_dilation=(2,), dimension_numbers=numbers
        )
        return h[:, :8].reshape(h.shape[0], -1) @ p["w"]

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        h = F.conv1d(x, p["k1"], padding=1, dilation=2)
        h = F.conv_transpose1d(torch.tanh(h), p["k2"], stride=2, padding=1)
        return h[:, :, :8].transpose(1, 2).reshape(h.shape[0], -1) @ p["w"]


@_add("layer_norm", {"w": (4, 6), "scale": (6,), "shift": (6,), "v": (6, 3)}, _normal(3, 4))
class _LayerNorm:
    """Elementwise scale and shift, used at each of three positions."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        h = x @ p["w"]
        h = (h - h.mean(-1, keepdims=True)) * jax.lax.rsqrt(h.var(-1, keepdims=True) + 1e-5)
        return jnp.tanh(h * p["scale"] + p["shift"]).mean(1) @ p["v"]

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        h = F.layer_norm(x @ p["w"], (6,), p["scale"], p["shift"], eps=1e-5)
        return torch.tanh(h).mean(1) @ p["v"]


# ----------------------------------------------------------------------------------- weights used many times over


@_add("recurrent", {"w": (3, 4), "u": (4, 4), "b": (4,), "v": (4, 2)}, _normal(5, 3))
class _Recurrent:
    """A plain recurrent network over five steps: a scan in JAX, a loop in PyTorch."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        def step(h, at):
            return jnp.tanh(at @ p["w"] + h @ p["u"] + p["b"]), None

        h, _ = jax.lax.scan(step, jnp.zeros((x.shape[0], 4), x.dtype), x.swapaxes(0, 1))
        return h @ p["v"]

    def torch(p, x):
        import torch

        h = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = torch.tanh(x[:, t] @ p["w"] + h @ p["u"] + p["b"])
        return h @ p["v"]


@_add("loop", {"w": (4, 4), "b": (4,)}, _normal(4))
class _Loop:
    """One weight and one bias in an unrolled loop, residually."""

    def jax(p, x):
        import jax.numpy as jnp

        for _ in range(3):
            x = x + jnp.tanh(x @ p["w"] + p["b"])
        return x

    def torch(p, x):
        import torch

        for _ in range(3):
            x = x + torch.tanh(x @ p["w"] + p["b"])
        return x


@_add(
    "attention",
    {"qkv": (4, 12), "bias": (12,), "out": (4, 4), "scale": (4,), "up": (4, 5), "down": (5, 4), "head": (4, 2)},
    _normal(3, 4),
)
class _Attention:
    """A pre-norm block with two heads; queries, keys and values are slices of one fused weight."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        def norm(h):
            return (h - h.mean(-1, keepdims=True)) / jnp.sqrt(h.var(-1, keepdims=True) + 1e-5) * p["scale"]

        def heads(h):
            return h.reshape(*h.shape[:2], 2, 2).swapaxes(1, 2)

        q, k, v = (heads(part) for part in jnp.split(norm(x) @ p["qkv"] + p["bias"], 3, axis=-1))
        mixed = jax.nn.softmax(q @ k.swapaxes(-1, -2) / 2**0.5, axis=-1) @ v
        x = x + mixed.swapaxes(1, 2).reshape(x.shape) @ p["out"]
        x = x + jax.nn.gelu(norm(x) @ p["up"]) @ p["down"]
        return x.mean(1) @ p["head"]

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        def norm(h):
            return F.layer_norm(h, (4,)) * p["scale"]

        def heads(h):
            return h.reshape(*h.shape[:2], 2, 2).transpose(1, 2)

        q, k, v = (heads(part) for part in torch.chunk(norm(x) @ p["qkv"] + p["bias"], 3, dim=-1))
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, dim=-1) @ v
        x = x + mixed.transpose(1, 2).reshape(x.shape) @ p["out"]
        x = x + F.gelu(norm(x) @ p["up"], approximate="tanh") @ p["down"]
        return x.mean(1) @ p["head"]


@_add("tied", {"w": (5, 3), "b": (3,)}, _normal(5))
class _Tied:
    """One weight used three times: as is, transposed, and as is again; one bias used twice."""

    def jax(p, x):
        import jax.numpy as jnp

        h = jnp.tanh(x @ p["w"] + p["b"])
        return jnp.tanh(h @ p["w"].T) @ p["w"] + p["b"]

    def torch(p, x):
        import torch

        h = torch.tanh(x @ p["w"] + p["b"])
        return torch.tanh(h @ p["w"].T) @ p["w"] + p["b"]


@_add("tied_embedding", {"table": (6, 3), "w": (3, 3)}, _integers(6, 4))
class _TiedEmbedding:
    """Integer input; the table is read by index, and transposed as the output layer."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(p["table"][x].mean(1) @ p["w"]) @ p["table"].T

    def torch(p, x):
        import torch
        import torch.nn.functional as F

        return torch.tanh(F.embedding(x, p["table"]).mean(1) @ p["w"]) @ p["table"].T


@_add("integer_input", {"table": (7, 3), "w": (3, 2)}, _integers(7, 2))
class _IntegerInput:
    """An embedding read at two positions, which may hold the same index."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.sin(jnp.take(p["table"], x, axis=0, mode="clip")).sum(1) @ p["w"]

    def torch(p, x):
        import torch

        return torch.sin(p["table"][x]).sum(1) @ p["w"]


@_add("fused", {"w": (12, 6), "b": (6,)}, _normal(4))
class _Fused:
    """Slices and reshapes of one leaf, used by different operations; half of ``w`` is read twice."""

    def jax(p, x):
        import jax.numpy as jnp

        h = jnp.tanh(x @ p["w"][:4] + p["b"])
        h = h @ p["w"][4:].reshape(6, 8)[:, ::2] + x @ p["w"][:4, :4]
        return h * p["b"][1:5]

    def torch(p, x):
        import torch

        h = torch.tanh(x @ p["w"][:4] + p["b"])
        h = h @ p["w"][4:].reshape(6, 8)[:, ::2] + x @ p["w"][:4, :4]
        return h * p["b"][1:5]


@_add("squared", {"w": (4, 4), "g": (), "v": (4, 2)}, _normal(4))
class _Squared:
    """Products and norms of parameters, and a scalar parameter: nothing here is one matrix product with data."""

    def jax(p, x):
        import jax.numpy as jnp

        unit = p["w"] / jnp.linalg.norm(p["w"], axis=0, keepdims=True)
        return jnp.tanh(x @ (unit @ p["w"])) @ (p["g"] * p["v"])

    def torch(p, x):
        import torch

        unit = p["w"] / torch.linalg.norm(p["w"], dim=0, keepdim=True)
        return torch.tanh(x @ (unit @ p["w"])) @ (p["g"] * p["v"])


@_add("unused", {"w": (3, 2), "idle": (4, 4), "b": (2,)}, _normal(3))
class _Unused:
    """A parameter that no output depends on, and one whose gradient is stopped."""

    def jax(p, x):
        import jax

        return x @ p["w"] + jax.lax.stop_gradient(p["b"])

    def torch(p, x):
        return x @ p["w"] + p["b"].detach()


# ------------------------------------------------------------------------------------------------ trees and constants


def _dict_input(rng, n):
    return {"image": rng.standard_normal((n, 4)), "index": rng.integers(0, 5, (n,))}


@_add("dict_input", {"w": (4, 3), "table": (5, 3)}, _dict_input)
class _DictInput:
    """An input of two leaves, one of them integer."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(x["image"] @ p["w"] + p["table"][x["index"]])

    def torch(p, x):
        import torch

        return torch.tanh(x["image"] @ p["w"] + p["table"][x["index"]])


@_add("dict_output", {"w": (4, 3), "mean": (3, 2), "scale": (3,)}, _normal(4))
class _DictOutput:
    """Two output leaves of unlike rank, which share a weight."""

    def jax(p, x):
        import jax.numpy as jnp

        h = jnp.tanh(x @ p["w"])
        return {"mean": h @ p["mean"], "scale": h @ p["scale"]}

    def torch(p, x):
        import torch

        h = torch.tanh(x @ p["w"])
        return {"mean": h @ p["mean"], "scale": h @ p["scale"]}


@_add("constant_output", {"w": (4, 2)}, _normal(4))
class _ConstantOutput:
    """An output that depends on x and on no parameter: the kernel is zero."""

    def jax(p, x):
        return x[:, :2] * 2

    def torch(p, x):
        return x[:, :2] * 2


@_add("derivative", {"w1": (2, 5), "b1": (5,), "w2": (5, 1)}, _normal(2))
class _Derivative:
    """A residual that holds second derivatives of a network, so weights are used in backward passes too."""

    def jax(p, x):
        import jax
        import jax.numpy as jnp

        def u(at):
            return (jnp.tanh(at @ p["w1"] + p["b1"]) @ p["w2"])[0]

        return jax.vmap(lambda at: jnp.trace(jax.hessian(u)(at)) + jnp.sin(u(at)))(x)

    def torch(p, x):
        import torch

        def u(at):
            return (torch.tanh(at @ p["w1"] + p["b1"]) @ p["w2"])[0]

        return torch.func.vmap(lambda at: torch.func.hessian(u)(at).diagonal().sum() + torch.sin(u(at)))(x)


# --------------------------------------------------------------------------------------------------------- complex


@_add("complex_output", {"w": (4, 3), "v": (4, 3)}, _normal(4))
class _ComplexOutput:
    """Real parameters, complex output: J = ∂Re + i ∂Im."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.tanh(x @ p["w"]) * jnp.exp(1j * (x @ p["v"]))

    def torch(p, x):
        import torch

        return torch.tanh(x @ p["w"]) * torch.exp(1j * (x @ p["v"]))


@_add("holomorphic", {"w": (4, 3), "b": (3,)}, _normal(4), complex=("w", "b"))
class _Holomorphic:
    """Complex parameters, of which the output is a holomorphic function."""

    def jax(p, x):
        import jax.numpy as jnp

        return jnp.sin(x.astype(p["w"].dtype) @ p["w"] + p["b"])

    def torch(p, x):
        import torch

        return torch.sin(x.to(p["w"].dtype) @ p["w"] + p["b"])

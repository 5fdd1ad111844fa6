"""Real data and a small network: scikit-learn's digits, and a convolutional network trained on them in JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from sklearn.datasets import load_digits

CLASSES = 10
_BATCH = 64
_NUMBERS = ("NHWC", "HWIO", "NHWC")

Params = dict[str, dict[str, jax.Array]]


@dataclass(frozen=True, slots=True)
class Digits:
    """Images ``(n, 8, 8, 1)`` between 0 and 1 with their labels ``(n,)``, split for training and held out."""

    images: NDArray[Any]
    labels: NDArray[Any]
    held_out_images: NDArray[Any]
    held_out_labels: NDArray[Any]


def load(seed: int, *, train: int, held_out: int) -> Digits:
    """Digits in random order: the first ``train`` to train on, the next ``held_out`` to test on."""
    images, labels = cast(tuple[NDArray[Any], NDArray[Any]], load_digits(return_X_y=True))
    order = np.random.default_rng(seed).permutation(len(images))
    images = (images[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1)
    labels = labels[order]
    end = train + held_out
    return Digits(images[:train], labels[:train], images[train:end], labels[train:end])


def initialise(seed: int) -> Params:
    """Random parameters: two convolutions and a dense layer, about ten thousand numbers."""
    shapes = {"conv1": (3, 3, 1, 16), "conv2": (3, 3, 16, 32), "dense": (512, CLASSES)}
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {
        name: {"kernel": _he(key, shape), "bias": jnp.zeros(shape[-1], jnp.float32)}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def network(params: Params, images: jax.Array) -> jax.Array:
    """Logits ``(n, 10)`` of images ``(n, 8, 8, 1)``."""
    h = jax.nn.relu(_convolve(images, params["conv1"], stride=1))
    h = jax.nn.relu(_convolve(h, params["conv2"], stride=2))
    return h.reshape(h.shape[0], -1) @ params["dense"]["kernel"] + params["dense"]["bias"]


def train(params: Params, data: Digits, seed: int, epochs: int, progress: Callable[[float], None]) -> Params:
    """Adam on the cross entropy of batches of 64.

    Args:
        params: where to start.
        data: its training images are used.
        seed: decides the order of the images.
        epochs: passes over the data.
        progress: called after each pass with its mean loss.
    """
    optimiser = optax.adam(2e-3)
    images, labels = jnp.asarray(data.images), jnp.asarray(data.labels)
    state = optimiser.init(params)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        batches = rng.permutation(len(labels))[: len(labels) // _BATCH * _BATCH].reshape(-1, _BATCH)
        params, state, losses = _epoch(optimiser, params, state, images[batches], labels[batches])
        progress(float(losses.mean()))
    return params


def accuracy(scores: Any, labels: Any) -> float:
    """Share of rows whose largest score is at the label."""
    return float(np.mean(np.argmax(np.asarray(scores), axis=1) == np.asarray(labels)))


def _he(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    fan_in = int(np.prod(shape[:-1]))
    return jax.random.normal(key, shape, jnp.float32) * (2 / fan_in) ** 0.5


def _convolve(x: jax.Array, layer: dict[str, jax.Array], *, stride: int) -> jax.Array:
    y = jax.lax.conv_general_dilated(x, layer["kernel"], (stride, stride), "SAME", dimension_numbers=_NUMBERS)
    return y + layer["bias"]


@partial(jax.jit, static_argnums=0)
def _epoch(optimiser: Any, params: Params, state: Any, images: jax.Array, labels: jax.Array) -> Any:
    def loss(params: Params, batch: Any) -> jax.Array:
        logits = network(params, batch[0])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()

    def step(carry: Any, batch: Any) -> Any:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params, batch)
        updates, state = optimiser.update(gradient, state)
        return (optax.apply_updates(params, updates), state), value

    (params, state), losses = jax.lax.scan(step, (params, state), (images, labels))
    return params, state, losses

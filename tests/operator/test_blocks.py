"""Blocks of examples: read as needed, digested by content, and sent by path where they are files."""

from collections import namedtuple
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import pytest

import jacgram
from jacgram.operator.blocks import HeldExamples, ReadExamples, example_arrays, parameters_digest
from kit.native import array
from kit.writing import data, network


@pytest.fixture
def read(framework):
    f, params = network(framework)
    return lambda x: ReadExamples(framework, f, params, x, "x1")


def test_digests_are_of_the_content(tmp_path, framework, read):
    np.save(tmp_path / "x.npy", data())
    same = [data(), np.load(tmp_path / "x.npy", mmap_mode="r"), np.asfortranarray(data()), array(framework, data())]
    digests = {read(x).data_digest() for x in same}
    f, params = network(framework)
    digests.add(HeldExamples(jacgram.Jacobian(f, same[-1], params=params).stack.sides[0]).data_digest())
    assert len(digests) == 1
    changed = data()
    changed[-1, -1] += 1e-6
    others = [changed, data()[:-1], data().reshape(13, 10), data().astype(np.float64)]
    assert len({read(x).data_digest() for x in others} | digests) == 5


def test_digests_do_not_depend_on_how_much_is_read(read, monkeypatch):
    from jacgram.operator import blocks

    whole = read(data()).data_digest()
    monkeypatch.setattr(blocks, "_READ_BYTES", 100)
    assert read(data()).data_digest() == whole


def test_a_digest_of_half_precision(framework):
    if framework == "jax":
        import jax.numpy as jnp

        x, other = jnp.ones((3, 5), jnp.bfloat16), jnp.ones((3, 5), jnp.bfloat16) * 2
    else:
        import torch

        x, other = torch.ones(3, 5, dtype=torch.bfloat16), torch.ones(3, 5, dtype=torch.bfloat16) * 2
    digests = [ReadExamples(framework, None, None, v, "x1").data_digest() for v in (x, x, other)]
    assert digests[0] == digests[1] != digests[2]


def test_parameters_and_examples_are_told_apart(framework):
    f, params = network(framework)
    sides = [jacgram.Jacobian(f, array(framework, data(seed=k)), params=params).stack.sides[0] for k in (0, 1)]
    assert [tuple(a.shape) for a in example_arrays(sides[0])] == [(26, 5)]
    assert parameters_digest(sides[0]) == parameters_digest(sides[1])


Pair = namedtuple("Pair", "a b")


@dataclass
class Batch:
    x: Any
    label: str = "kept"


def test_trees(framework):
    x = data()
    tree = {"z": [x, None], "a": Pair(x, Batch(x))}
    examples = ReadExamples(framework, lambda p, t: t["z"][0] * p, array(framework, np.ones(5, np.float32)), tree, "x1")
    assert examples.n == 26 and isinstance(examples.data_digest(), str)


def test_a_memory_map_is_sent_by_its_path(tmp_path, framework, read):
    many = np.random.default_rng(0).standard_normal((20_000, 5)).astype(np.float32)
    np.save(tmp_path / "x.npy", many)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for x in (mapped, mapped[7:], mapped[7:][3:11]):
        payload = cloudpickle.dumps(read(x))
        assert len(payload) < 10_000
        again = cloudpickle.loads(payload)
        assert isinstance(again.x, np.memmap) and (again.x == x).all()
    turned = cloudpickle.loads(cloudpickle.dumps(read(mapped[:10, ::-1])))
    assert (turned.x == mapped[:10, ::-1]).all(), "what is no plain part of a file goes by value"


def test_both_sides_stay_one_when_sent(read):
    left = read(data())
    a, b = cloudpickle.loads(cloudpickle.dumps((left, left)))
    assert a is b

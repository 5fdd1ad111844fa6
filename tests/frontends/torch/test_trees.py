"""Containers taken apart and put together."""

import dataclasses
from collections import OrderedDict, defaultdict, namedtuple

import hypothesis.strategies as st
import pytest
from hypothesis import given

from jacgram.errors import StructureError
from jacgram.frontends.torch.trees import flatten, flatten_like, unflatten

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Record:
    a: object
    b: object = None


class Fields(OrderedDict):
    """A dict of its own kind, as libraries have for outputs."""


leaves = st.floats(allow_nan=False)
trees = st.recursive(
    leaves | st.none() | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(Record, inner, inner)
    ),
    max_leaves=8,
)


@given(trees)
def test_a_tree_comes_back(tree):
    paths, found, spec = flatten(tree)
    assert len(paths) == len(found)
    assert unflatten(spec, found) == tree
    assert flatten_like(spec, tree, "x") == found


@given(trees)
def test_paths_lead_to_leaves(tree):
    paths, found, _ = flatten(tree)
    for path, leaf in zip(paths, found, strict=True):
        at = tree
        for part in filter(None, path.split(".")):
            at = at[part] if isinstance(at, dict) else getattr(at, part) if hasattr(at, part) else at[int(part)]
        assert at == leaf


def test_plain_dicts_are_listed_by_key_and_others_in_order():
    assert flatten({"b": 1.0, "a": 2.0})[1] == [2.0, 1.0]
    assert flatten(defaultdict(list, {"b": 1.0, "a": 2.0}))[1] == [2.0, 1.0]
    assert flatten(OrderedDict(b=1.0, a=2.0))[1] == [1.0, 2.0]
    assert flatten({2: 1.0, 1: 2.0})[1] == [1.0, 2.0]


@pytest.mark.parametrize("tree", [Fields(a=1.0, b=2.0), OrderedDict(a=1.0, b=2.0), Record(1.0, 2.0), Pair(1.0, 2.0)])
def test_containers_keep_their_type_unless_plain_ones_are_wanted(tree):
    _, found, spec = flatten(tree)
    assert type(unflatten(spec, found)) is type(tree)
    plain = unflatten(spec, found, plain=True)
    assert type(plain) is (Pair if isinstance(tree, Pair) else dict)
    assert flatten_like(spec, plain, "v") == found


@pytest.mark.parametrize(
    ("like", "tree", "message"),
    [
        ([1.0], (1.0,), "x is tuple of 1, expected list of 1"),
        ([1.0], [1.0, 2.0], "x is list of 2, expected list of 1"),
        (Pair(1.0, [2.0]), Pair(1.0, 3.0), "x at 'right' is float, expected list of 1"),
        ({"a": 1.0}, {"b": 1.0}, r"x has keys \['b'\], expected a dict with keys \['a'\]"),
        ({"a": 1.0}, [1.0], r"x has list, expected a dict with keys \['a'\]"),
    ],
)
def test_other_structures_raise(like, tree, message):
    with pytest.raises(StructureError, match=message):
        flatten_like(flatten(like)[2], tree, "x")

import numpy as np
import pytest

from jacgram.core.uses import Conv, Einsum, Gather, Identity, Use
from jacgram.core.views import View


def test_weight_labels_must_come_from_an_operand():
    with pytest.raises(ValueError, match=r"weight labels \['q'\] are in neither operand"):
        Einsum(("t", "i"), ("t", "k"), ("i", "q"))


def test_labels_do_not_repeat():
    with pytest.raises(ValueError, match="labels repeat"):
        Einsum(("t", "t"), ("k",), ("k",))


@pytest.mark.parametrize(
    ("kind", "view", "activation", "cotangent", "message"),
    [
        (Einsum(("i",), ("k",), ("i", "k")), (3, 4), (2, 3, 1), (2, 5, 4), "activation of a Einsum use has rank 3"),
        (Einsum(None, ("k",), ("k",)), (4,), (2,), (2, 5, 4), "activation of a Einsum use has rank 1, expected None"),
        (Einsum(("i",), ("k",), ("i", "k")), (3,), (2, 3), (2, 5, 4), "names 2 axes of a view with 1"),
        (Gather(1), (6, 4), (2, 3), (2, 5, 3), "cotangent of a Gather use has rank 3, expected 4"),
        (Identity("test"), (3, 4), None, (2, 5, 12), "cotangent of a Identity use has rank 3, expected 4"),
        (
            Conv((3,), (1,), ((0, 0),), (1,), (1,), 1),
            (3, 2, 2),
            (2, 8, 2),
            (2, 5, 2),
            "cotangent of a Conv use has rank 3, expected 4",
        ),
    ],
)
def test_ranks_are_checked(kind, view, activation, cotangent, message):
    a = None if activation is None else np.zeros(activation)
    with pytest.raises(ValueError, match=message):
        Use(0, View.of(view), kind, a, np.zeros(cotangent))


def test_structured_is_all_but_identity():
    assert Use(0, View.of((4,)), Einsum(None, ("k",), ("k",)), None, np.zeros((2, 5, 4))).structured
    assert not Use(0, View.of((4,)), Identity("test"), None, np.zeros((2, 5, 4))).structured

"""Digests of programs: equal for what calls the same, in any process, and different for anything else."""

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from jacgram.frontends.torch import frontend
from jacgram.frontends.torch.compat import function_class

W = torch.ones(3, 2)
X = torch.ones(4, 3)
C = torch.arange(2.0)


def digest(f, x=X, params=W):
    return frontend().digest(frontend().side(f, x, params, argument="x"))


def base(w, x):
    return torch.tanh(x @ w) + C


def test_names_and_numbers_of_examples_do_not_count():
    def renamed(weight, data):
        return torch.tanh(data @ weight) + C

    assert digest(base) == digest(renamed) == digest(lambda w, x: base(w, x)) == digest(base, X[:2])
    assert digest(base, X * 2, W * 3) == digest(base), "content of parameters and data has digests of its own"


@pytest.mark.parametrize(
    "f",
    [
        lambda w, x: torch.tanh(x @ w) + C * 2,
        lambda w, x: torch.tanh(x @ w) + (C + 1),
        lambda w, x: torch.tanh(x @ w) - C,
        lambda w, x: torch.sinh(x @ w) + C,
        lambda w, x: torch.tanh(x @ (w * 2)) + C,
        lambda w, x: torch.tanh(x @ w).flip(1) + C,
        lambda w, x: torch.tanh(x @ w).detach() + x @ w - (x @ w).detach() + C,
    ],
)
def test_calls_and_closed_over_values_count(f):
    assert digest(f) != digest(base)


def test_modules():
    def module(p):
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softplus(beta=p), torch.nn.Linear(4, 2)).eval()

    assert digest(module(1.0), params=None) == digest(module(1.0), params=None)
    assert digest(module(1.0), params=None) != digest(module(2.0), params=None)
    held = {"0.weight": module(1.0)[0].weight}
    other = module(1.0)
    with torch.no_grad():
        other[2].bias += 1
    assert digest(other, params=None) == digest(module(1.0), params=None)
    assert digest(other, params=held) != digest(module(1.0), params=held), "what is held belongs to f"


def _custom(slope):
    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.sign()

        @staticmethod
        def backward(ctx, g):
            return slope * g

    return Step


def test_custom_derivatives_count():
    steps = [_custom(1), _custom(1), _custom(3)]
    first, again, other = (digest(lambda w, x, step=step: step.apply(x @ w)) for step in steps)
    assert first == again != other


def test_the_class_of_a_custom_node_is_known():
    """`compat.function_class` reads a name that PyTorch does not promise."""
    step = _custom(1)
    assert function_class(step.apply(torch.ones(1, requires_grad=True)).grad_fn) is step
    assert function_class(torch.ones(1, requires_grad=True).exp().grad_fn) is None


def test_equal_in_another_process():
    code = (
        "import torch\n"
        "from jacgram.frontends.torch import frontend\n"
        "torch.manual_seed(0)\n"
        "f = torch.nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()\n"
        "print(frontend().digest(frontend().side(f, torch.ones(3, 5, 4), None, argument='x')))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2)
    ]
    assert runs[0] == runs[1] and len(runs[0].strip()) == 64

"""The product with known figures: right by every method, in each framework, and measured."""

import numpy as np
import pytest

pytest.importorskip("psutil")

from jacgram.demo import seed
from jacgram.demo.measure import measure

CASES = [(framework, method) for framework, methods in seed.METHODS.items() for method in methods]


def test_inputs_are_those_of_the_printed_figures():
    F, x1, x2 = (array.astype(np.float64) for array in seed.inputs())
    J1, J2 = (F / (2 * np.sqrt(seed.N) * np.sqrt(F @ x))[:, None] for x in (x1, x2))
    np.testing.assert_allclose(J1 @ J2.T, seed.REFERENCE, rtol=0, atol=seed.TOLERANCE * seed.REFERENCE.max())


@pytest.mark.parametrize(("framework", "method"), CASES)
def test_every_method_is_right(framework, method):
    pytest.importorskip(framework)
    result = seed.run(framework, method)
    assert result.right, result
    assert result.first_s > 0
    assert result.again_s > 0


def test_a_process_of_its_own(framework):
    result = seed.run_apart(framework, seed.OPERATOR)
    assert result.right
    assert (result.framework, result.method) == (framework, seed.OPERATOR)


def test_a_failure_there_is_shown_here():
    with pytest.raises(RuntimeError, match=r"jax, no such method failed:(.|\n)*KeyError"):
        seed.run_apart("jax", "no such method")


def test_memory_is_what_the_call_held():
    grown = measure(lambda: np.ones(2**24))  # 128 MiB
    assert 0.9 * 2**27 <= grown.peak_bytes <= 1.3 * 2**27
    assert grown.value.size == 2**24

"""Products of two JAX arrays: as NumPy's, and without copies where both lie as matrices."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

from jacgram.arrays.jax_products import contract

RNG = np.random.default_rng(0)
SIZES = dict(zip("nmopqik", (2, 3, 4, 5, 6, 7, 8), strict=True))


def draw(term):
    return RNG.standard_normal([SIZES[x] for x in term])


@pytest.mark.parametrize(
    "spec",
    [
        "npi,nqi->npq",
        "npq,nokp->nokq",
        "nokp,npq->nokq",
        "nok,mqk->nomq",
        "nopk,npi->noki",
        "nokq,qk->no",
        "npi,mqi->qmpn",
        "nop,nk->kopn",
    ],
)
def test_as_numpy(spec):
    left, right = (draw(term) for term in spec.split("->")[0].split(","))
    np.testing.assert_allclose(contract(spec, left, right), np.einsum(spec, left, right), rtol=1e-12)


@pytest.mark.parametrize("spec", ["nokp,npq->nokq", "npq,nokp->nokq", "npi,nqi->npq", "npi,nqi->nqp"])
def test_matrices_meet_as_they_lie(spec):
    """A result that lists the second operand's axes first is their product, not the other's transposed."""
    traced = str(jax.make_jaxpr(lambda a, b: contract(spec, a, b))(*(draw(x) for x in spec.split("->")[0].split(","))))
    assert "dot_general" in traced
    assert "transpose[" not in traced

"""Convolutions of the live pass are what they were, and so are their transposes, whatever is done to make these fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jacgram.frontends.jax.compat import bind
from jacgram.frontends.jax.linear.transposable import live_outputs

NHWC = ("NHWC", "HWIO", "NHWC")
SAME, UNPADDED = ((1, 1), (1, 1)), ((0, 0), (0, 0))


def normal(*shape, dtype=np.float32):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)


def made(x, kernel, **params):
    """The convolution as JAX does it, and as the live pass does, as functions of x."""

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, **params)

    (equation,) = jax.make_jaxpr(plain)(x, kernel).eqns
    return (lambda x: plain(x, kernel)), (lambda x: live_outputs(equation, [False, True], [x, kernel], bind)[0])


def columns(function, x):
    """Sizes of the last axis but one of what the transpose's convolution makes."""
    y = jax.eval_shape(function, x)
    program = jax.make_jaxpr(lambda ct: jax.linear_transpose(function, x)(ct))(normal(*y.shape, dtype=y.dtype))
    return [e.outvars[0].aval.shape[-2] for e in program.eqns if e.primitive.name == "conv_general_dilated"]


CASES = {
    "same": ((2, 9, 10, 4), (3, 3, 4, 5), {"padding": SAME}),
    "uneven padding": ((2, 9, 12, 4), (3, 4, 4, 5), {"padding": ((1, 1), (1, 2))}),
    "larger than what is read": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": ((2, 2), (2, 3))}),
    "valid": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": UNPADDED}),
    "nothing after the columns": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": ((1, 1), (2, 0))}),
    "strides": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": SAME, "window_strides": (2, 1)}),
    "spread out": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": SAME, "lhs_dilation": (1, 2)}),
    "wide window": ((2, 9, 12, 4), (3, 3, 4, 5), {"padding": ((2, 2), (2, 2)), "rhs_dilation": (2, 2)}),
    "groups": ((2, 9, 12, 4), (3, 3, 2, 6), {"padding": SAME, "feature_group_count": 2}),
    "few columns": ((2, 9, 5, 4), (3, 3, 4, 5), {"padding": SAME}),
    "one by one": ((2, 9, 12, 4), (1, 1, 4, 5), {"padding": UNPADDED}),
    "one by one, strides": ((2, 9, 12, 4), (1, 1, 4, 5), {"padding": UNPADDED, "window_strides": (2, 3)}),
    "one by one, channels first, all axes mixed": (
        (9, 2, 12, 4),
        (5, 1, 4, 1),
        {"padding": UNPADDED, "window_strides": (3, 2), "dimension_numbers": ("HNWC", "OHIW", "WCHN")},
    ),
    "one by one, one axis": (
        (4, 2, 12),
        (5, 4, 1),
        {"padding": ((0, 0),), "window_strides": (5,), "dimension_numbers": ("CNW", "OIW", "NCW")},
    ),
    "one by one, padded": ((2, 9, 12, 4), (1, 1, 4, 5), {"padding": ((0, 1), (-1, 0))}),
    "one by one, spread out": ((2, 9, 12, 4), (1, 1, 4, 5), {"padding": UNPADDED, "lhs_dilation": (1, 2)}),
    "one by one, groups": ((2, 9, 12, 4), (1, 1, 2, 6), {"padding": UNPADDED, "feature_group_count": 2}),
    "channels first": (
        (2, 4, 9, 12),
        (5, 4, 3, 3),
        {"padding": SAME, "dimension_numbers": ("NCHW", "OIHW", "NCHW")},
    ),
    "one axis": ((2, 12, 4), (3, 4, 5), {"padding": ((1, 1),), "dimension_numbers": ("NWC", "WIO", "NWC")}),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", CASES)
def test_convolutions_and_their_transposes_are_unchanged(case, dtype):
    shape, window, params = CASES[case]
    params = {"window_strides": (1,) * (len(shape) - 2), "dimension_numbers": NHWC} | params
    x, kernel = normal(*shape, dtype=dtype), normal(*window, dtype=dtype)
    plain, live = made(x, kernel, **params)
    np.testing.assert_allclose(live(x), plain(x), atol=1e-5)
    cotangent = jnp.cos(plain(x))
    (found,), (expected,) = (jax.linear_transpose(f, x)(cotangent) for f in (live, plain))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="what is gained is gained on CPUs")
def test_a_transpose_that_gains_by_it_has_one_more_column():
    params = {"window_strides": (1, 1), "padding": SAME, "dimension_numbers": NHWC}
    narrow, wide = normal(3, 3, 16, 24), normal(3, 3, 128, 128)
    assert columns(made(normal(2, 8, 10, 16), narrow, **params)[1], normal(2, 8, 10, 16)) == [11]
    assert columns(made(normal(2, 8, 10, 128), wide, **params)[1], normal(2, 8, 10, 128)) == [10]


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("one by one")])
def test_windows_of_one_entry_are_products_unless_something_is_put_around_them(case):
    shape, window, params = CASES[case]
    params = {"window_strides": (1,) * (len(shape) - 2), "dimension_numbers": NHWC} | params
    x = normal(*shape)
    names = {e.primitive.name for e in jax.make_jaxpr(made(x, normal(*window), **params)[1])(x).eqns}
    as_convolution = case.endswith(("padded", "spread out", "groups"))
    assert ("dot_general" in names, "conv_general_dilated" in names) == (not as_convolution, as_convolution)

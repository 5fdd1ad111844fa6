"""J and Jᵀ applied to vectors, as complex-linear maps whatever mix of real and complex f is made of.

With real parameters and complex outputs J = ∂Re + i ∂Im. JAX transposes real maps into complex spaces by taking a real
part, ``A(v) = Re(Jᵀ v)``; with ``A(-i v) = Im(Jᵀ v)`` the whole of ``Jᵀ v`` is two pullbacks, and the same two serve
complex v on real outputs. Nothing is conjugated here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from jacgram.errors import UnsupportedError
from jacgram.frontends.jax.trees import is_complex

Flat = Callable[[list[Any]], list[Any]]


def pushforward(fun: Flat, primals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """J applied to tangents shaped as the primals. One forward pass, two where a real primal has a complex tangent.

    Where a ``custom_vjp`` leaves no forward derivative, it is the transpose of the backward pass.
    """

    def push(part: list[Any]) -> list[Any]:
        cast = [t.astype(p.dtype) for t, p in zip(part, primals, strict=True)]
        if _has_forward_mode(fun, primals, cast):
            return jax.jvp(fun, (list(primals),), (cast,))[1]
        return _pushed_back_to_back(fun, primals, cast)

    split = [is_complex(t.dtype) and not is_complex(p.dtype) for t, p in zip(tangents, primals, strict=True)]
    if not any(split):
        return push(list(tangents))
    real = push([t.real if s else t for t, s in zip(tangents, split, strict=True)])
    imag = push([t.imag if s else jnp.zeros_like(t) for t, s in zip(tangents, split, strict=True)])
    return [r + 1j * i for r, i in zip(real, imag, strict=True)]


def _has_forward_mode(fun: Flat, primals: Sequence[Any], tangents: list[Any]) -> bool:
    """Whether no ``custom_vjp`` is in the way, which JAX says of a batch at once, and else only when it compiles."""
    batch = [jax.ShapeDtypeStruct((1, *t.shape), t.dtype) for t in tangents]
    try:
        jax.eval_shape(jax.vmap(lambda part: jax.jvp(fun, (list(primals),), (part,))[1]), batch)
    except TypeError as error:
        if "custom_vjp" not in str(error):
            raise
        return False
    return True


def _pushed_back_to_back(fun: Flat, primals: Sequence[Any], tangents: list[Any]) -> list[Any]:
    """J applied as the transpose of Jᵀ, for a function that says how it is taken backward and no more."""
    outputs, pull = jax.vjp(fun, list(primals))
    structs = [jax.ShapeDtypeStruct(y.shape, y.dtype) for y in outputs]
    return jax.linear_transpose(lambda *v: pull(list(v))[0], *structs)(tangents)


def pullback(fun: Flat, primals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
    """Jᵀ, not conjugated, applied to cotangents shaped as the outputs. One backward pass, or two (module docstring)."""
    outputs, pull = jax.vjp(fun, list(primals))
    first = pull([project(v, y.dtype) for v, y in zip(cotangents, outputs, strict=True)])[0]
    if not needs_second_pull(primals, outputs) and not _complex_on_real(cotangents, outputs):
        return first
    second = pull([project(-1j * v, y.dtype) for v, y in zip(cotangents, outputs, strict=True)])[0]
    holomorphic = any(is_complex(y.dtype) for y in outputs)
    return [
        a if holomorphic and is_complex(p.dtype) else a + 1j * b for a, b, p in zip(first, second, primals, strict=True)
    ]


def needs_second_pull(primals: Sequence[Any], outputs: Sequence[Any]) -> bool:
    """Whether rows are ``A(v) + i A(-i v)`` for some leaf: a real primal and a complex output."""
    return any(is_complex(y.dtype) for y in outputs) and not all(is_complex(p.dtype) for p in primals)


@contextmanager
def naming_leaves(names: Sequence[str]) -> Generator[None]:
    """What JAX cannot take backward raises `UnsupportedError`, which names the leaves it may depend on.

    Raises:
        UnsupportedError: an operation has no transpose, or none of arrays that differ along axes of a mesh.
    """
    leaves = ", ".join(repr(name) for name in names)
    try:
        yield
    except NotImplementedError as error:
        if isinstance(error, UnsupportedError):
            raise
        raise UnsupportedError(
            f"an operation on what {leaves} feed into cannot be taken backward by JAX ({error}); give it a custom_vjp."
        ) from error
    except ValueError as error:
        if "lax.while_loop" not in str(error):
            raise
        raise UnsupportedError(while_loop_message(leaves)) from error
    except TypeError as error:
        if "{V:" not in str(error):  # how JAX writes a type that says along which axes of a mesh an array differs
            raise
        raise UnsupportedError(
            "x or params differ along axes of a mesh by their types, within a jax.shard_map that checks these; pass "
            "check_vma=False to it, which leaves axes out of types."
        ) from error


def while_loop_message(leaves: str) -> str:
    """Why a ``while_loop`` that depends on these leaves raises, and what to do."""
    return (
        f"a while_loop of unknown length depends on {leaves}, and has no transpose: its derivative cannot be taken "
        "backward. Use jax.lax.fori_loop or scan with a fixed length, or products J @ u, which need forward mode only."
    )


def project(vector: Any, dtype: Any) -> Any:
    """The vector in an output's dtype: its real part where that is real."""
    return (vector if is_complex(dtype) else vector.real).astype(dtype)


def _complex_on_real(cotangents: Sequence[Any], outputs: Sequence[Any]) -> bool:
    pairs = zip(cotangents, outputs, strict=True)
    return any(is_complex(v.dtype) and not is_complex(y.dtype) for v, y in pairs)

"""The product that started it: J(x1) J(x2)ᵀ of ``f(x) = sqrt(F x / N)``, by every method, against printed figures.

``dense`` forms both Jacobians; the known answer is jvp after vjp, vmapped over the identity; in JAX both are compiled.
The others are ours: ``gram`` as one would call it, with each strategy, and as operators.

Each method runs in a process of its own, ``python -m jacgram.demo.seed FRAMEWORK METHOD``, so that none finds memory
or compiled code that another left behind.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

import jacgram
from jacgram.demo.measure import measure

N, M = 10_000, 5
# As printed in the public answer, from float32.
REFERENCE = np.array(
    [
        [3.3123782e-05, 2.5001222e-05, 2.4946943e-05, 2.5180108e-05, 2.4940484e-05],
        [2.5084497e-05, 3.3233835e-05, 2.4956826e-05, 2.5108084e-05, 2.5048916e-05],
        [2.4969209e-05, 2.4896170e-05, 3.3232871e-05, 2.5006309e-05, 2.4947023e-05],
        [2.5102483e-05, 2.4947576e-05, 2.4906987e-05, 3.3327218e-05, 2.4958186e-05],
        [2.4981882e-05, 2.5007204e-05, 2.4966144e-05, 2.5076926e-05, 3.3595043e-05],
    ]
)
TOLERANCE = 2e-6
ROUNDING = 1e-5  # of the frameworks' own single-precision products, which on some machines add up one by one
_METHODS = {
    "Auto()": jacgram.Auto(),
    "Structured()": jacgram.Structured(),
    "MatrixFree()": jacgram.MatrixFree(),
    "Materialize()": jacgram.Materialize(),
}
DENSE, KNOWN, OPERATOR, COMPILED = "dense", "known answer", "J1 @ J2.T", "jit of gram"
METHODS = {
    "jax": (DENSE, KNOWN, COMPILED, *_METHODS, OPERATOR),
    "torch": (DENSE, KNOWN, *_METHODS, OPERATOR),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One method's figures.

    Attributes:
        framework: ``"jax"`` or ``"torch"``.
        method: one of `METHODS` of the framework.
        first_s: first call, tracing and compilation included.
        again_s: median of later calls.
        peak_bytes: growth of resident memory during the first call.
        error: largest difference from `REFERENCE`, relative to its largest entry.
    """

    framework: str
    method: str
    first_s: float
    again_s: float
    peak_bytes: int
    error: float

    @property
    def right(self) -> bool:
        """Whether the product agrees with the printed figures."""
        return self.error <= (ROUNDING if self.method in (DENSE, KNOWN) else TOLERANCE)


def run_apart(framework: str, method: str) -> Result:
    """`run` in a process of its own."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "jacgram.demo.seed",
        framework,
        method,
    ]  # -P: nothing from the working folder
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{framework}, {method} failed:\n{done.stderr}")
    return Result(**json.loads(done.stdout.splitlines()[-1]))


def run(framework: str, method: str) -> Result:
    """Compute the product by one method in one framework, and measure."""
    make = {"jax": _jax_calls, "torch": _torch_calls}[framework]
    small = make(*inputs(n=10))
    np.asarray(small[method]())  # loads what the frameworks load late, so that it is not counted
    call = make(*inputs())[method]
    cost = measure(lambda: np.asarray(call()))
    error = float(np.abs(cost.value - REFERENCE).max() / REFERENCE.max())
    return Result(framework, method, cost.first_s, cost.again_s, cost.peak_bytes, error)


def inputs(n: int = N) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """F, x1 and x2 in float32, as the public answer draws them."""
    random = np.random.RandomState(1701)  # the generator of the figures
    F, x1, x2 = random.rand(M, n), random.rand(n), random.rand(n)
    return F.astype(np.float32), x1.astype(np.float32), x2.astype(np.float32)


def _jax_calls(*arrays: NDArray[np.float32]) -> dict[str, Callable[[], Any]]:
    import jax
    import jax.numpy as jnp

    F, x1, x2 = map(jnp.asarray, arrays)

    def f(x: Any, F: Any = F) -> Any:
        return jnp.sqrt(F @ x / len(x))

    @jax.jit
    def dense(F: Any, x1: Any, x2: Any) -> Any:
        return jax.jacfwd(f)(x1, F) @ jax.jacfwd(f)(x2, F).T

    @jax.jit
    def known(F: Any, x1: Any, x2: Any) -> Any:
        y, pull = jax.vjp(lambda x: f(x, F), x2)
        column = lambda v: jax.jvp(lambda x: f(x, F), (x1,), pull(v))[1]  # noqa: E731
        return jax.vmap(column, out_axes=1)(jnp.eye(len(y), dtype=y.dtype))

    @jax.jit
    def compiled(F: Any, x1: Any, x2: Any) -> Any:
        return jacgram.gram(lambda x: f(x, F), x1, x2)

    # What is compiled has F as an argument: the baselines are at their best.
    own = {COMPILED: lambda: compiled(F, x1, x2), **_jacgram_calls(f, x1, x2)}
    return {DENSE: lambda: dense(F, x1, x2), KNOWN: lambda: known(F, x1, x2), **own}


def _torch_calls(*arrays: NDArray[np.float32]) -> dict[str, Callable[[], Any]]:
    import torch
    from torch.func import jacrev, jvp, vjp, vmap

    F, x1, x2 = map(torch.from_numpy, arrays)

    def f(x: Any) -> Any:
        return torch.sqrt(F @ x / len(x))

    def dense() -> Any:
        return jacrev(f)(x1) @ jacrev(f)(x2).T

    def known() -> Any:
        y, pull = cast(tuple[Any, Callable[[Any], Any]], vjp(f, x2))
        return vmap(lambda v: jvp(f, (x1,), pull(v))[1], out_dims=1)(torch.eye(len(y)))

    return {DENSE: dense, KNOWN: known, **_jacgram_calls(f, x1, x2)}


def _jacgram_calls(f: Callable[[Any], Any], x1: Any, x2: Any) -> dict[str, Callable[[], Any]]:
    by_name = {name: partial(jacgram.gram, f, x1, x2, method=method) for name, method in _METHODS.items()}
    return {**by_name, OPERATOR: lambda: (jacgram.Jacobian(f, x1) @ jacgram.Jacobian(f, x2).T).dense()}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(run(*sys.argv[1:]))) + "\n")

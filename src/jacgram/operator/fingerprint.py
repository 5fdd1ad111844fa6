"""What determines a kernel's numbers, as digests: a stored kernel is gone on with only where all of them agree."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version

from jacgram.errors import StoreError
from jacgram.frontends.select import load
from jacgram.operator.blocks import parameters_digest
from jacgram.operator.tiles import LazyKernel
from jacgram.plan.plan import Plan
from jacgram.store.header import Header

_SAME = "as of side 1"
_PACKAGES = ("jacgram", "numpy", "zarr")


def fingerprint(kernel: LazyKernel, plan: Plan) -> dict[str, str]:
    """Digests by what they are of. Reads all examples once, in blocks; f is traced, or called on one example.

    Names of functions do not count: their traced programs do.
    """
    request = kernel.request()
    side1, side2 = request.sides
    frontend = load(kernel.framework)
    return {
        "f": frontend.digest(side1),
        "parameters": parameters_digest(side1),
        "x1": kernel.left.data_digest(),
        "f of side 2": _SAME if kernel.same else frontend.digest(side2),
        "parameters of side 2": _SAME if kernel.same else parameters_digest(side2),
        "x2": _SAME if kernel.same else kernel.right.data_digest(),
        "pattern": _text(str((kernel.labels, kernel.conjugate, kernel.outer))),
        "precision": f"{request.result_dtype}, summed in {kernel.accumulate or 'the same'}",
        "method": repr(kernel.method),
        "plan": _text(plan.to_json()),
    }


def versions(framework: str) -> dict[str, str]:
    """Versions of the packages at work."""
    found: dict[str, str] = {}
    for package in (*_PACKAGES, framework):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def require_same(header: Header, kernel: LazyKernel, plan: Plan, where: str) -> None:
    """`StoreError` that says what differs, unless a stored kernel is this one."""
    examples = (kernel.left.n, kernel.right.n)
    if header.examples != examples:
        raise StoreError(
            f"{where} holds a kernel of {header.examples[0]} × {header.examples[1]} examples, and this one has "
            f"{examples[0]} × {examples[1]}. {_FIX}"
        )
    mine = fingerprint(kernel, plan)
    differ = [name for name in mine if mine[name] != header.fingerprint.get(name)]
    if differ:
        raise StoreError(f"{where} holds another kernel, which differs from this one in: {', '.join(differ)}. {_FIX}")


_FIX = "Fix: write to another path, or pass overwrite=True to replace what is there."


def _text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

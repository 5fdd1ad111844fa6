"""Optional packages: one clear error, with the install line, where one is missing."""

from __future__ import annotations

from importlib.util import find_spec

from jacgram.errors import MissingDependencyError


def require(extra: str, *packages: str) -> None:
    """`MissingDependencyError` unless every package can be imported.

    Args:
        extra: the extra of jacgram that brings them.
        packages: import names.

    Example:
        >>> require("jax", "numpy")
    """
    if missing := [package for package in packages if not installed(package)]:
        verb = "is" if len(missing) == 1 else "are"
        raise MissingDependencyError(
            f"{' and '.join(missing)} {verb} not installed. Fix: pip install 'jacgram[{extra}]'."
        )


def installed(package: str) -> bool:
    """Whether a package can be imported, found without importing it."""
    return find_spec(package) is not None

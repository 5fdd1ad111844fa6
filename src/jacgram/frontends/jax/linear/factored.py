"""Cotangents as a small core times a scale.

Near the outputs a cotangent is often the same at every position, or the same up to factors that no seed has a part in:
behind a mean over positions, say. Seeds are the business of ``vmap`` around all of it: to it the scale, having none,
stays one array.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp


@dataclass(frozen=True, slots=True, eq=False)
class Factored:
    """A value ``core · scale``.

    Attributes:
        shape: sizes of its axes.
        core: of these axes, or of size one where it is repeated.
        scale: likewise; None for one.
        is_plain: whether the core is finite where weights are: it has met no known array but in products with matrices.
    """

    shape: tuple[int, ...]
    core: Any
    scale: Any | None = None
    is_plain: bool = True

    @property
    def is_small(self) -> bool:
        """Whether the core is smaller than the value."""
        return self.core.shape != self.shape

    @property
    def whole(self) -> Any:
        """The value as one array."""
        if not self.is_small and self.scale is None:
            return self.core
        return jnp.broadcast_to(self.core if self.scale is None else self.core * self.scale, self.shape)

    @property
    def one(self) -> Any:
        """The scale, an array in any case."""
        return jnp.ones((1,) * len(self.shape), self.core.dtype) if self.scale is None else self.scale

    def times(self, factor: Any) -> Factored:
        """Times a known array of the same axes, or with axes of size one, or a scalar."""
        factor = factor.reshape((1,) * len(self.shape)) if factor.ndim == 0 else factor
        return replace(self, scale=factor if self.scale is None else self.scale * factor)

    def both(self, shape: tuple[int, ...], function: Callable[[Any], Any]) -> Factored:
        """The value of this shape that a function of the axes of core and scale alike makes of them."""
        scale = None if self.scale is None else function(self.scale)
        return Factored(shape, function(self.core), scale, self.is_plain)

    def plus(self, other: Factored) -> Factored | None:
        """The sum of two values of one core, or of two whose scales are numbers."""
        if self.core is other.core:
            return replace(self, scale=self.one + other.one)
        if self.one.size == other.one.size == 1:
            core = self.core * self.one + other.core * other.one
            return Factored(self.shape, core, None, self.is_plain and other.is_plain)
        return None

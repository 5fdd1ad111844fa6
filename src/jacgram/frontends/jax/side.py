"""One side of a Gram matrix in JAX: f at a point, its uses, and products with its Jacobian.

Everything is made of JAX operations on the arrays the side holds, and so can be traced, compiled and differentiated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any, Self, final

import jax
import jax.numpy as jnp

from jacgram.core.frontend import UNCHECKED, Struct
from jacgram.core.uses import Use
from jacgram.errors import StructureError
from jacgram.frontends.jax.checks import check_examples, check_holomorphic
from jacgram.frontends.jax.identity import identity_recording
from jacgram.frontends.jax.linear.structured import structured_recording
from jacgram.frontends.jax.products import naming_leaves, needs_second_pull, pullback, pushforward
from jacgram.frontends.jax.program import Program, output_leaves, same_program
from jacgram.frontends.jax.recording import complete, record_batch, stacked_seeds
from jacgram.frontends.jax.records import Record, Recording
from jacgram.frontends.jax.traced_uses import TracedUses
from jacgram.frontends.jax.trees import checked_vector, is_complex, is_weak, named_leaves, spec_of, struct_of, type_of


@final
@dataclass(eq=False, slots=True)
class JaxSide:
    """f at one point; see `jacgram.core.frontend.Side` for the attributes that all frontends share.

    Attributes:
        program: f on flat lists.
        leaves: the variable's arrays.
        held: arrays that f needs and that are not differentiated.
        x: the examples' arrays; empty where x is the variable.
        output_treedef: structure of y.
        traced: the uses as they were described, for whatever asks for them at the same shapes.
    """

    program: Program
    leaves: list[Any]
    held: list[Any]
    x: list[Any]
    paths: tuple[str, ...]
    variable: tuple[Struct, ...]
    outputs: tuple[Struct, ...]
    output_paths: tuple[str, ...]
    output_treedef: Any
    n: int
    checked: str = UNCHECKED
    notes: tuple[str, ...] = ()
    framework: str = "jax"
    traced: TracedUses | None = None

    @property
    def has_examples(self) -> bool:
        """Whether axis 0 of y counts examples."""
        return self.program.has_examples

    @property
    def doubtful(self) -> bool:
        """Whether outputs are those of an earlier side of f: never, f is traced for them."""
        return False

    @property
    def real_part(self) -> bool:
        """Whether ẏ is the real part of rows times θ̇, so that a Gram matrix is the real part of rows times rowsᴴ.

        So it is for real outputs of complex parameters: two real directions per parameter, held as one complex row.
        """
        complex_variable = any(is_complex(struct.dtype) for struct in self.variable)
        return complex_variable and not any(is_complex(struct.dtype) for struct in self.outputs)

    @property
    def example_bytes(self) -> int:
        """Bytes of all examples."""
        return sum(leaf.size * leaf.dtype.itemsize for leaf in self.x)

    def arrays(self) -> list[Any]:
        """The variable's leaves, held arrays and examples, in this order."""
        return [*self.leaves, *self.held, *self.x]

    def with_arrays(self, arrays: Sequence[Any]) -> Self:
        """The same side holding other arrays, listed as `arrays` lists them."""
        first, second = len(self.leaves), len(self.leaves) + len(self.held)
        parts = {"leaves": arrays[:first], "held": arrays[first:second], "x": arrays[second:]}
        return replace(self, **{name: list(part) for name, part in parts.items()})

    def same_point(self, other: Self) -> bool:
        """Whether f is the same object and every array is."""
        mine, theirs = self.arrays(), other.arrays()
        if self.program.f is not other.program.f or type(self.program) is not type(other.program):
            return False
        return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))

    def like(self, other: Self) -> bool:
        """Whether f and every array but the examples are the same objects, and examples have the same shapes."""
        mine, theirs = ([*side.leaves, *side.held] for side in (self, other))
        same = len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))
        if not (same and self.has_examples and same_program(self.program, other.program)):
            return False
        kinds = ([(leaf.shape[1:], leaf.dtype, is_weak(leaf)) for leaf in side.x] for side in (self, other))
        return next(kinds) == next(kinds)

    def moved(self, program: Program, leaves: list[Any], held: list[Any], x: list[Any], n: int) -> Self | None:
        """The side of a program at these arrays, where it is like this one and has as many examples; else None."""
        other = replace(self, program=program, leaves=leaves, held=held, x=x, checked=UNCHECKED, notes=(), traced=None)
        return other if n == self.n and self.like(other) else None

    @property
    def steady(self) -> bool:
        """True: what is traced has no values yet."""
        return True

    def adopt(self, other: Self) -> None:
        """Takes over what a side that is `like` this one was described by."""
        self.traced = other.traced

    def forget(self) -> None:
        """Drops the uses as they were traced."""
        self.traced = None

    def joined(self, other: Self) -> Self | None:
        """The examples of this side and then those of another, as one side; None unless it is `like` this one."""
        if not self.like(other):
            return None
        x = [jnp.concatenate(pair) for pair in zip(self.x, other.x, strict=True)]
        n = self.n + other.n
        outputs = tuple(Struct((n, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        return replace(self, x=x, n=n, outputs=outputs)

    def examples(self, start: Any, size: int) -> Self:
        """The side of ``size`` examples from ``start``; clamped to the end, as `jax.lax.dynamic_slice_in_dim` is."""
        if not self.has_examples:
            return self
        x = [jax.lax.dynamic_slice_in_dim(leaf, start, size) for leaf in self.x]
        outputs = tuple(Struct((size, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        return replace(self, x=x, n=size, outputs=outputs)

    def jvp(self, tangents: Sequence[Any]) -> list[Any]:
        """J applied to tangents shaped as the variable: one forward pass of the whole batch.

        Complex tangents of real leaves are two passes, for J is linear over the complex numbers. Where `real_part`, it
        is linear over the real ones only, and complex leaves take complex tangents.
        """
        if self.n == 0:
            return [jnp.zeros(struct.shape, struct.dtype) for struct in self.outputs]
        return pushforward(self._flat_batch, self.leaves, tangents)

    def vjp(self, cotangents: Sequence[Any]) -> list[Any]:
        """Jᵀ, not conjugated, applied to cotangents shaped as the outputs: one backward pass of the whole batch.

        Real leaves get complex results, in two passes, where outputs or cotangents are complex.
        """
        if self.n == 0:
            return [jnp.zeros(struct.shape, struct.dtype) for struct in self.variable]
        with naming_leaves(self.paths):
            return pullback(self._flat_batch, self.leaves, cotangents)

    def uses(self, seeds: Sequence[Any], *, structured: bool) -> list[Use]:
        """Uses with activations ``(n, …)`` and cotangents ``(n, s, …)``: one batched backward pass.

        Args:
            seeds: per output leaf ``(s_leaf, *output)``, real.
            structured: false asks for one identity use per leaf.
        """
        if self.n == 0:
            described = self.describe([struct_of(seed) for seed in seeds], structured=structured)
            return [_of_no_example(use) for use in described]
        return self._recording(seeds, structured=structured).uses()

    def describe(self, seeds: Sequence[Struct], *, structured: bool, recall: bool = False) -> list[Use]:
        """The uses of one example as `Struct`s, by tracing shapes: no value is computed, and nothing recalled."""
        del recall
        twice = self._twice
        seed_specs = [spec_of(seed) for seed in seeds]
        stacked = jax.eval_shape(lambda given: stacked_seeds(given, self._dtypes, twice=twice), seed_specs)
        points = [type_of(leaf) for leaf in (*self.leaves, *self.held)]
        example = [type_of(leaf, leaf.shape[1:]) for leaf in self.x]

        def record(*arrays: Any) -> Recording:
            return self._record(arrays, structured=structured)

        self.traced = TracedUses.of(record, [*points, *example, *stacked], structured=structured)
        batch = self.traced.shapes()

        found: list[tuple[Record, ...]] = []

        def operands(activations: list[Any], cotangents: list[Any]) -> tuple[list[Any], list[Any]]:
            completed = complete(batch.with_operands(activations, cotangents), self.leaves, twice=twice)
            found.append(completed.records)
            return completed.activations, completed.cotangents

        shapes = jax.eval_shape(operands, batch.activations, batch.cotangents)
        return Recording(found[-1], *([struct_of(array) for array in arrays] for arrays in shapes)).uses()

    def largest_bytes(self, n_seeds: int) -> int:
        """Bytes of the largest array of one example that the uses last described take to make."""
        del n_seeds  # which the traced program has
        return 0 if self.traced is None else self.traced.largest_bytes

    def check_examples(self, beside: Self | None = None) -> None:
        """Compare the batch with each example alone, and a holomorphic J with itself; once per f and shapes.

        Raises:
            InteractingExamplesError: an example's output depends on another example.
            StructureError: parameters and outputs are complex and f is not holomorphic.
        """
        check_holomorphic(self)
        self.checked = check_examples(self, beside)

    def flatten_variable(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as the variable; whatever is not differentiated may be there or None."""
        named_leaves(tree, argument)
        leaves = self.program.partition.variable_leaves(tree)
        if leaves is None:
            wanted = jax.tree.structure(self.unflatten_variable([0] * len(self.leaves)))
            raise StructureError(f"{argument} is {jax.tree.structure(tree)}, expected {wanted}, as the variable.")
        return checked_vector(leaves, self.variable, self.paths, argument)

    def unflatten_variable(self, leaves: Sequence[Any]) -> Any:
        """The variable's tree around these leaves, None in place of what is not differentiated."""
        return self.program.partition.around(leaves)

    def flatten_output(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as y."""
        _, leaves, treedef = named_leaves(tree, argument)
        if treedef != self.output_treedef:
            raise StructureError(f"{argument} is {treedef}, expected {self.output_treedef}, as the output of f.")
        return checked_vector(leaves, self.outputs, self.output_paths, argument)

    def unflatten_output(self, leaves: Sequence[Any]) -> Any:
        """y's tree around these leaves."""
        return jax.tree.unflatten(self.output_treedef, list(leaves))

    def _flat_batch(self, leaves: list[Any]) -> list[Any]:
        return output_leaves(self.program.batch(leaves, self.held, self.x))[1]

    @property
    def _dtypes(self) -> list[Any]:
        return [jnp.dtype(struct.dtype) for struct in self.outputs]

    @property
    def _twice(self) -> bool:
        return needs_second_pull(self.variable, self.outputs)

    def _recording(self, seeds: Sequence[Any], *, structured: bool) -> Recording:
        def recorder(x: list[Any], stacked: list[Any]) -> Recording:
            arrays = [*self.leaves, *self.held, *x, *stacked]
            if self.traced is not None and self.traced.fits(arrays, structured=structured):
                return self.traced(arrays)
            return self._record(arrays, structured=structured)

        stacked = stacked_seeds(seeds, self._dtypes, twice=self._twice)
        recording = record_batch(recorder, self.x, stacked, has_examples=self.has_examples)
        return complete(recording, self.leaves, twice=self._twice)

    def _record(self, arrays: Sequence[Any], *, structured: bool) -> Recording:
        """The uses of one example, traced anew from leaves, held arrays, the example and its stacked seeds."""
        counts = len(self.leaves), len(self.held), len(self.x)
        first, second, third = accumulate(counts)
        leaves, held, x = list(arrays[:first]), arrays[first:second], arrays[second:third]
        seeds = list(arrays[third:])

        def fun(leaves: list[Any]) -> list[Any]:
            return output_leaves(self.program.one(leaves, held, x))[1]

        with naming_leaves(self.paths):
            if structured:
                return structured_recording(fun, leaves, seeds, self.paths)
            return identity_recording(fun, leaves, seeds)


def _of_no_example(use: Use) -> Use:
    def empty(struct: Struct) -> Any:
        return jnp.zeros((0, *struct.shape[1:]), struct.dtype)

    return replace(
        use, activation=None if use.activation is None else empty(use.activation), cotangent=empty(use.cotangent)
    )

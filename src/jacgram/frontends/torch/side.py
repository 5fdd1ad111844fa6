"""One side of a Gram matrix in PyTorch: f at a point, its uses, and products with its Jacobian."""

from __future__ import annotations

import operator
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import torch

from jacgram.core.frontend import UNCHECKED, Struct
from jacgram.core.uses import Use
from jacgram.errors import StructureError
from jacgram.frontends.torch.calling import RefuseBatchStatistics, exact_calls
from jacgram.frontends.torch.checks import check_examples, check_holomorphic, state_of
from jacgram.frontends.torch.identity import ASKED, identity_shapes, identity_uses, stacked_seeds
from jacgram.frontends.torch.levels import find_level, is_blind
from jacgram.frontends.torch.merging import Layout
from jacgram.frontends.torch.outputs import OtherOutputsError, Recollection, held_to_outputs, now_batch_statistics
from jacgram.frontends.torch.products import constants, detached, fresh, pullback
from jacgram.frontends.torch.program import OfParams, Program, same_program
from jacgram.frontends.torch.pushing import pushed
from jacgram.frontends.torch.recalling import held_to_descriptions, recalled
from jacgram.frontends.torch.recorder import OpenCalls
from jacgram.frontends.torch.recording import Level
from jacgram.frontends.torch.structured import structured_shapes, structured_uses
from jacgram.frontends.torch.trees import Tree, flatten_like, unflatten
from jacgram.frontends.torch.values import checked_vector, dtype_of, struct_of


@final
@dataclass(slots=True)
class Shared:
    """What all sides made of one have in common: blocks of its examples, the same side with its arrays replaced.

    Attributes:
        layout: of uses of examples recorded one at a time.
        described: descriptions by what was asked.
        recalled: those taken over from an earlier side of f, which hold only if the uses say so; see `recalling`.
        level: how uses are found; see `levels`.
        largest_bytes: of one example's largest array within f, as far as calls tell.
        folded_bytes: of what folding one example of a use takes.
    """

    layout: Layout = field(default_factory=Layout)
    described: dict[Any, list[Use]] = field(default_factory=dict[Any, list[Use]])
    recalled: dict[Any, list[Use]] = field(default_factory=dict[Any, list[Use]])
    level: Level | None = None
    largest_bytes: int = 0
    folded_bytes: int = 0

    def forget(self) -> None:
        """Drops all of it."""
        self.layout.slots.clear()
        self.described.clear()
        self.recalled.clear()
        self.level = None


@final
@dataclass(eq=False, slots=True)
class TorchSide:
    """f at one point; see `jacgram.core.frontend.Side` for the attributes that all frontends share.

    Attributes:
        program: f on flat lists.
        leaves: the variable's tensors.
        x: the examples' tensors; empty where x is the variable.
        spec: structure of the variable.
        output_spec: structure of y.
        create_graph: whether results can be differentiated with respect to what the leaves and x were made of.
        recollection: where outputs are those that an earlier side of f had, see `recalling`.
        notes: what a plan should say of how uses were found: which fallbacks were taken, and why.
        shared: see `Shared`.
    """

    program: Program
    leaves: list[torch.Tensor]
    x: list[torch.Tensor]
    paths: tuple[str, ...]
    spec: Tree
    variable: tuple[Struct, ...]
    outputs: tuple[Struct, ...]
    output_paths: tuple[str, ...]
    output_spec: Tree
    n: int
    create_graph: bool = False
    recollection: Recollection | None = None
    checked: str = UNCHECKED
    framework: str = "torch"
    notes: list[str] = field(default_factory=list[str])
    shared: Shared = field(default_factory=Shared)

    @property
    def doubtful(self) -> bool:
        """Whether outputs are those of an earlier side of f, and f has not given them since."""
        return self.recollection is not None and self.recollection.doubtful

    @property
    def has_examples(self) -> bool:
        """Whether axis 0 of y counts examples."""
        return self.program.has_examples

    @property
    def real_part(self) -> bool:
        """Whether ẏ is the real part of rows times θ̇, so that a Gram matrix is the real part of rows times rowsᴴ.

        So it is for real outputs of complex parameters: two real directions per parameter, held as one complex row.
        """
        complex_variable = any(dtype_of(struct).is_complex for struct in self.variable)
        return complex_variable and not any(dtype_of(struct).is_complex for struct in self.outputs)

    @property
    def device(self) -> torch.device:
        """Where the variable is."""
        return self.leaves[0].device

    @property
    def example_bytes(self) -> int:
        """Bytes of all examples."""
        return sum(leaf.numel() * leaf.element_size() for leaf in self.x)

    def largest_bytes(self, n_seeds: int) -> int:
        """Bytes of the largest array within f of one example, of its cotangents for so many seeds, or to fold a use."""
        return max(self.shared.largest_bytes * max(n_seeds, 1), self.shared.folded_bytes)

    def arrays(self) -> list[torch.Tensor]:
        """The variable's leaves and the examples, in this order; what is held fixed stays in f."""
        return [*self.leaves, *self.x]

    def with_arrays(self, arrays: Sequence[Any]) -> Self:
        """The same side holding other tensors, listed as `arrays` lists them."""
        count = len(self.leaves)
        return replace(self, leaves=list(arrays[:count]), x=list(arrays[count:]))

    def same_point(self, other: Self) -> bool:
        """Whether f is the same object and every tensor is."""
        mine, theirs = self.arrays(), other.arrays()
        if self.program.f is not other.program.f or type(self.program) is not type(other.program):
            return False
        return len(mine) == len(theirs) and all(a is b for a, b in zip(mine, theirs, strict=True))

    def like(self, other: Self) -> bool:
        """Whether f and the variable are the same objects, examples have one shape, and f is known to be `steady`.

        Elsewhere values may decide what f does, and no side is like another.
        """
        same = len(self.leaves) == len(other.leaves) and all(map(operator.is_, self.leaves, other.leaves))
        if not (same and self.n and other.n and self.has_examples and self.create_graph == other.create_graph):
            return False
        if not (same_program(self.program, other.program) and state_of(self) == state_of(other)):
            return False
        return is_blind(self)

    def moved(self, program: Program, leaves: list[torch.Tensor], x: list[torch.Tensor], n: int) -> Self | None:
        """The side of a program at these leaves and examples, where that is known to be like this one; else None."""
        outputs = tuple(Struct((n, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        other = replace(
            self,
            program=program,
            leaves=leaves,
            x=x,
            n=n,
            outputs=outputs,
            notes=[],
            shared=Shared(),
            checked=UNCHECKED,
        )
        return other if self.like(other) else None

    @property
    def steady(self) -> bool:
        """Whether f runs under ``vmap``, where values can decide nothing."""
        return find_level(self).blind

    def adopt(self, other: Self) -> None:
        """Takes over what a side that is `like` this one was described by."""
        self.shared = other.shared

    def forget(self) -> None:
        """Drops descriptions of this side and all that are made of it."""
        self.shared.forget()

    def joined(self, other: Self) -> Self | None:
        """The examples of this side and then those of another, as one side; None unless it is `like` this one."""
        if not self.like(other):
            return None
        x = [torch.cat(pair) for pair in zip(self.x, other.x, strict=True)]
        n = self.n + other.n
        outputs = tuple(Struct((n, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        return replace(self, x=x, n=n, outputs=outputs)

    def examples(self, start: int, size: int) -> Self:
        """The side of ``size`` examples from ``start``: views of the same tensors."""
        if not self.has_examples:
            return self
        x = [leaf[start : start + size] for leaf in self.x]
        outputs = tuple(Struct((size, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        return replace(self, x=x, n=size, outputs=outputs)

    def jvp(self, tangents: Sequence[Any]) -> list[Any]:
        """J applied to tangents shaped as the variable: one forward pass of the whole batch.

        Where an operation has no forward derivative, or a wrong one, it is a backward pass of the backward pass.
        Complex tangents of real leaves are two passes.

        Raises:
            UnsupportedError: an operation has neither a forward derivative nor a second backward one.
        """
        return pushed(self, tangents) if self.n else self._zeros(self.outputs)

    def vjp(self, cotangents: Sequence[Any]) -> list[Any]:
        """Jᵀ, not conjugated, applied to cotangents shaped as the outputs: one backward pass of the whole batch.

        Real leaves get complex results, in two passes, where outputs or cotangents are complex.
        """
        if self.n == 0:
            return self._zeros(self.variable)
        with self.calling():
            leaves = fresh(self.leaves, create_graph=self.create_graph)
            with OpenCalls(higher_orders=True) if self.create_graph else nullcontext():
                outputs = self.flat(leaves)
            pulled = pullback(outputs, leaves, cotangents, create_graph=self.create_graph)
            return detached(pulled, create_graph=self.create_graph)

    def uses(self, seeds: Sequence[Any], *, structured: bool) -> list[Use]:
        """Uses with activations ``(n, …)`` and cotangents ``(n, s, …)``: one backward pass for all seeds, or one each.

        Args:
            seeds: per output leaf ``(s_leaf, *output)``, real.
            structured: false asks for one identity use per leaf.

        Raises:
            DescriptionChanged: the description recalled, or made before, is not that of these uses.
        """
        stacked = stacked_seeds(self, seeds)
        if not self.n:
            shapes = [struct_of(seed) for seed in seeds]
            return _of_no_example(self.describe(shapes, structured=structured), self.device)
        if not structured:
            return identity_uses(self, stacked, dict.fromkeys(range(len(self.leaves)), ASKED))
        return held_to_descriptions(self, lambda: structured_uses(self, stacked))

    def describe(self, seeds: Sequence[Struct], *, structured: bool, recall: bool = False) -> list[Use]:
        """The uses of one example with a `Struct` in place of each array.

        f is run on one example, or on each where they are recorded one at a time; the first time also what it takes to
        find out how: see `levels`. Nothing is remembered that depends on values but which calls are made. With
        ``recall``, f need not be run: see `recalling`.
        """
        key = tuple(seed.shape[0] for seed in seeds), structured
        if key in self.shared.described:
            return self.shared.described[key]
        if recall and structured and (known := recalled(self, key)) is not None:
            return known
        self.shared.recalled.clear()
        self.shared.described[key] = self._describe(sum(key[0]), structured=structured)
        return self.shared.described[key]

    def _describe(self, n_seeds: int, *, structured: bool) -> list[Use]:
        if structured:
            found = structured_shapes(self, n_seeds)
            self.note("planned by a forward pass of f, whose shapes cannot be told without its values")
        else:
            found = identity_shapes(self, n_seeds, dict.fromkeys(range(len(self.leaves)), ASKED))
        structs: dict[int, Struct] = {}

        def struct(array: Any) -> Any:
            if array is None:
                return None
            whole = struct_of(array)
            return structs.setdefault(id(array), Struct((1, *whole.shape[1:]), whole.dtype))

        return [replace(u, activation=struct(u.activation), cotangent=struct(u.cotangent)) for u in found]

    def check_examples(self, beside: Self | None = None) -> None:
        """Compare the batch with each example alone, and a holomorphic J with itself; once per f and shapes.

        Raises:
            InteractingExamplesError: an example's output depends on another example.
            StructureError: parameters and outputs are complex and f is not holomorphic.
        """
        del beside  # what was checked is remembered with f
        check_holomorphic(self)
        self.checked = check_examples(self)

    def flatten_variable(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as the variable; of a tensor that stands in two places, the first entry counts."""
        found = flatten_like(self.spec, tree, argument)
        return checked_vector(_first_of_each(self.program, found), self.variable, self.paths, argument, self.device)

    def unflatten_variable(self, leaves: Sequence[Any]) -> Any:
        """The variable's tree around these leaves, None in the further places of a tensor that stands in several."""
        if not isinstance(self.program, OfParams):
            return unflatten(self.spec, leaves, plain=True)
        seen: set[int] = set()
        placed = [None if place in seen or seen.add(place) else leaves[place] for place in self.program.places]
        return unflatten(self.spec, placed, plain=True)

    def flatten_output(self, tree: Any, argument: str) -> list[Any]:
        """Leaves of a tree shaped as y."""
        found = flatten_like(self.output_spec, tree, argument)
        return checked_vector(found, self.outputs, self.output_paths, argument, self.device)

    def unflatten_output(self, leaves: Sequence[Any]) -> Any:
        """y's tree around these leaves; data classes and special dicts come back as dicts."""
        return unflatten(self.output_spec, leaves, plain=True)

    @contextmanager
    def calling(self) -> Generator[None]:
        """Around every call of f: exact, and leaving the user's state as it is."""
        devices = {tensor.device for tensor in (*self.leaves, *self.x)}
        with exact_calls(self.program.modules(), sorted(devices, key=str)):
            yield

    def flat(self, leaves: Sequence[torch.Tensor], x: Sequence[torch.Tensor] | None = None) -> list[torch.Tensor]:
        """Leaves of y, for these examples or the side's own. Call it within `calling`."""
        x = self.inputs() if x is None else x
        with RefuseBatchStatistics(now_batch_statistics):
            y = self.program(leaves, x)
        return held_to_outputs(self, y, len(x[0]) if x else 1)

    def require_shapes(self, outputs: Sequence[torch.Tensor]) -> None:
        """`OtherOutputsError` unless outputs ``(n, *output)`` are of the shapes that f had when this side was made."""
        found = [tuple(y.shape[1:]) for y in outputs]
        known = [struct.shape[1:] if self.has_examples else struct.shape for struct in self.outputs]
        if found != known:
            raise OtherOutputsError(
                f"f gives an example outputs of shapes {found}, and gave {known} when its Jacobian was made: f has "
                "changed, or their shape depends on values. Fix: try again, and make a Jacobian that is kept anew."
            )

    def inputs(self) -> list[torch.Tensor]:
        """The examples as f may be called on them."""
        return constants(self.x, self.create_graph)

    def one_example(self) -> TorchSide:
        """The side of the first example; of zeros where there is none."""
        if not self.has_examples:
            return self
        if self.n:
            return self.examples(0, 1)
        x = [leaf.new_zeros((1, *leaf.shape[1:])) for leaf in self.x]
        outputs = tuple(Struct((1, *struct.shape[1:]), struct.dtype) for struct in self.outputs)
        return replace(self, x=x, n=1, outputs=outputs)

    def note(self, text: str) -> None:
        """Add to the notes what is not there yet."""
        if text not in self.notes:
            self.notes.append(text)

    def _zeros(self, structs: Sequence[Struct]) -> list[torch.Tensor]:
        return [torch.zeros(struct.shape, dtype=dtype_of(struct), device=self.device) for struct in structs]


def _of_no_example(uses: Sequence[Use], device: torch.device) -> list[Use]:
    """Described uses with arrays of no example, shared where their shapes are."""
    structs = {id(array): array for use in uses for array in (use.activation, use.cotangent) if array is not None}
    empty = {
        key: torch.zeros((0, *struct.shape[1:]), dtype=dtype_of(struct), device=device)
        for key, struct in structs.items()
    }
    return [
        replace(
            use,
            activation=None if use.activation is None else empty[id(use.activation)],
            cotangent=empty[id(use.cotangent)],
        )
        for use in uses
    ]


def _first_of_each(program: Program, found: list[Any]) -> list[Any]:
    """One entry per leaf; further entries of a tensor in several places are None or equal the first.

    Raises:
        StructureError: two entries of one tensor differ.
    """
    if not isinstance(program, OfParams):
        return found
    first: dict[int, Any] = {}
    for place, value in zip(program.places, found, strict=True):
        held = first.setdefault(place, value)
        if value is None or held is value:
            continue
        if not (isinstance(held, torch.Tensor) and isinstance(value, torch.Tensor) and torch.equal(held, value)):
            raise StructureError(
                "a tensor stands in several places of params and is one leaf; give the same value, or None, in all "
                "places but the first."
            )
    return [first[leaf] for leaf in range(len(first))]

"""A factored cotangent on its way back through autograd's graph, its axes cut into atoms.

Nodes merge axes and split them again: a product with a matrix has examples and positions in one axis. Here an axis is a
group of atoms, which are never merged. So what is repeated along positions stays so when these are merged with
examples, and nothing depends on how many examples there are: the uses of one, by which plans are made, are those of
many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from jacgram.frontends.torch.factored import compact, repeats

Groups = tuple[tuple[int, ...], ...]
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class InAtoms:
    """A cotangent ``core · scale · number``.

    Attributes:
        groups: per axis of the node's output, the sizes of its atoms, none of which is one.
        core: ``(s, *atoms)``, expanded where it is repeated.
        scale: ``(*atoms)``, expanded where it is repeated; None for one.
        number: what is the same for all. A scale of one example would not tell what is the same for all of them.
    """

    groups: Groups
    core: torch.Tensor
    scale: torch.Tensor | None = None
    number: float = 1.0

    @staticmethod
    def of(core: torch.Tensor) -> InAtoms:
        """Of a cotangent ``(s, *shape)``, an atom for each axis."""
        groups = tuple(_atom(size) for size in core.shape[1:])
        return InAtoms(groups, core.reshape(len(core), *_atoms(groups)))

    @property
    def shape(self) -> Shape:
        """Sizes of the axes."""
        return tuple(math.prod(group) for group in self.groups)

    @property
    def atoms(self) -> Shape:
        """Sizes of the atoms."""
        return _atoms(self.groups)

    @property
    def scale_in_axes(self) -> torch.Tensor | None:
        """The scale in the node's axes."""
        return None if self.scale is None else self.scale.reshape(self.shape)

    def with_scale(self, scale: torch.Tensor) -> InAtoms:
        """Another scale, in the node's axes."""
        return replace(self, scale=scale.reshape(self.atoms))

    def times(self, factor: torch.Tensor | float) -> InAtoms:
        """Times a number, or a tensor in the node's axes."""
        if not isinstance(factor, torch.Tensor):
            return replace(self, number=self.number * factor)
        factor = factor.reshape(self.atoms)
        if self.scale is not None:
            factor = (compact(self.scale) * compact(factor)).expand(self.atoms)
        return replace(self, scale=factor)

    def plus(self, other: InAtoms) -> InAtoms | None:
        """The sum of two of one core, or of two without scales."""
        if self.groups != other.groups:
            return None
        if self.scale is None and other.scale is None:
            cores = [compact(part.core) * part.number for part in (self, other)]
            return InAtoms(self.groups, torch.add(*cores).expand(self.core.shape))
        if self.core is not other.core:
            return None
        one = self.core.new_ones(())
        scales = [part.number * (one if part.scale is None else compact(part.scale)) for part in (self, other)]
        return InAtoms(self.groups, self.core, torch.add(*scales).expand(self.atoms))

    def regrouped(self, shape: Shape) -> InAtoms | None:
        """The cotangent reshaped; None where an axis would take a part of an atom that does not divide."""
        groups = _cut(self.atoms, shape)
        if groups is None:
            return None
        scale = None if self.scale is None else self.scale.reshape(_atoms(groups))
        return InAtoms(groups, self.core.reshape(len(self.core), *_atoms(groups)), scale, self.number)

    def moved(self, order: Sequence[int]) -> InAtoms:
        """Axes in another order."""
        starts = [sum(len(group) for group in self.groups[:axis]) for axis in range(len(self.groups))]
        atoms = [starts[axis] + k for axis in order for k in range(len(self.groups[axis]))]
        scale = None if self.scale is None else self.scale.permute(atoms)
        core = self.core.permute(0, *(1 + atom for atom in atoms))
        return InAtoms(tuple(self.groups[axis] for axis in order), core, scale, self.number)

    def repeated(self, axis: int, size: int, *, is_new: bool) -> InAtoms:
        """Repeated along a new axis, or along one of size one."""
        at = sum(len(group) for group in self.groups[:axis])
        groups = (*self.groups[:axis], _atom(size), *self.groups[axis + (not is_new) :])

        def spread(tensor: torch.Tensor, lead: int) -> torch.Tensor:
            return tensor.unsqueeze(lead + at).expand(*tensor.shape[:lead], *_atoms(groups)) if size != 1 else tensor

        scale = None if self.scale is None else spread(self.scale, 0)
        return InAtoms(groups, spread(self.core, 1), scale, self.number)

    def times_matrix(self, matrix: torch.Tensor) -> InAtoms | None:
        """``(r, k) @ (k, i)``; None where the core is repeated along k, or the scale is not."""
        rows, summed = self.groups
        if any(repeats(self.core)[1 + len(rows) :]):
            return None
        if self.scale is not None and not all(repeats(self.scale)[len(rows) :]):
            return None
        core = compact(self.core)
        held, i = core.shape[: 1 + len(rows)], matrix.shape[1]
        product = core.reshape(len(core), -1, math.prod(summed)) @ matrix
        groups = (rows, _atom(i))
        core = product.reshape((*held, *_atom(i))).expand((len(core), *_atoms(groups)))
        scale = self.scale
        if scale is not None:
            scale = scale[(..., *(0 for _ in summed))]
            scale = scale.reshape((*scale.shape, *(1 for _ in _atom(i)))).expand(_atoms(groups))
        return InAtoms(groups, core, scale, self.number)

    def whole(self) -> torch.Tensor:
        """The cotangent ``(s, *shape)`` as one tensor."""
        core = compact(self.core) * self.number
        core = core if self.scale is None else core * compact(self.scale)
        return core.expand(self.core.shape).reshape(len(core), *self.shape)


def _atom(size: int) -> tuple[int, ...]:
    return () if size == 1 else (size,)


def _atoms(groups: Groups) -> Shape:
    return tuple(size for group in groups for size in group)


def _cut(atoms: Shape, shape: Shape) -> Groups | None:
    """The same atoms in groups of these sizes, some of them split."""
    if 0 in (*atoms, *shape):
        return None
    left, groups = list(reversed(atoms)), list[tuple[int, ...]]()
    for size in shape:
        group: list[int] = []
        while size > 1:
            atom = left.pop()
            if size % atom and atom % size:
                return None
            taken = min(atom, size)
            group.append(taken)
            if atom > taken:
                left.append(atom // taken)
            size //= taken
        groups.append(tuple(group))
    return tuple(groups)

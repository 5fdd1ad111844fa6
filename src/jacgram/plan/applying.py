"""Whether a choice computes what is wanted: a plan may be given to a kernel of the same shapes and another pattern."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jacgram.plan.assembly import assemble
from jacgram.plan.choice import Choice
from jacgram.plan.components import Component, Form
from jacgram.plan.network import Label, Network, Tree
from jacgram.plan.problem import goes_by_example
from jacgram.plan.wanted import Wanted


def applies(choice: Choice, component: Component, wanted: Wanted) -> bool:
    """Whether a choice, for which pattern it may have been made, gives this component's part of ``wanted``.

    An order fits where it has the operands. What is sliced or cut into parts has to be summed, since its blocks are
    added up, and side 2's examples can be taken one at a time where they are an axis of the result and of side 2 alone.
    """
    if choice.tree is None:
        weights = {f"w{axis}" for axis in range(len(component.view.shape))} if component.view else set[str]()
        return component.form is not Form.NETWORK and choice.slice_label in {None, *weights}
    if component.form is Form.ROWS:
        return False
    assembly = assemble(component, wanted, loop_windows=choice.loop_windows)
    network = assembly.network
    if sorted(_leaves(choice.tree)) != list(range(len(network.operands))):
        return False
    if choice.by_example and not goes_by_example(component, wanted):
        return False
    summed = {x for labels in network.operands for x in labels} - {*network.out, wanted.example1, wanted.example2}
    if not {choice.slice_label, choice.parted} <= {None, *summed}:
        return False
    if choice.parted is not None and (choice.parted == choice.slice_label or component.form is Form.TABLE):
        return False  # what is cut has to be an operand as it is given, and a table's indices meet first
    return choice.dealt is None or _can_be_dealt(network, choice, dict(assembly.sizes))


def _leaves(tree: Tree) -> Iterator[int]:
    if isinstance(tree, int):
        yield tree
    else:
        yield from (leaf for branch in tree for leaf in _leaves(branch))


def _can_be_dealt(network: Network, choice: Choice, sizes: Mapping[Label, int]) -> bool:
    """Whether what is dealt out is an axis of the cotangents alone, in equal shares of the whole and of each slice."""
    label = choice.dealt
    where = [name for name, labels in zip(network.names, network.operands, strict=True) if label in labels]
    if label is None or network.names != ("a1", "g1", "a2", "g2") or where != ["g1", "g2"] or label in network.out:
        return False
    slices = choice.slice_size if choice.slice_label == label else 0
    return sizes[label] % choice.shares == slices % choice.shares == 0

"""The rule of conv_general_dilated: a leaf as the kernel of a convolution, in any layout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jacgram.core.uses import Conv
from jacgram.frontends.jax.linear.rules.site import Site
from jacgram.frontends.jax.linear.terms import Deferred, Term, fresh


def conv_general_dilated(term: Term, site: Site) -> Term | None:
    """``a * K̇``. A batch within one example is one more spatial axis, along which the kernel has size one."""
    image = site.known(0) if site.position == 1 else None
    whole = term.bare and term.whole and set(term.value) == set(term.weight)
    if image is None or not whole or site.params["batch_group_count"] != 1:
        return None
    numbers = site.params["dimension_numbers"]
    out_axis, in_axis, *space = numbers.rhs_spec
    order = [term.weight.index(term.value[axis]) for axis in (*space, in_axis, out_axis)]
    view = term.view.transpose(order)
    labels = fresh(len(site.out_shape))
    batch, channel, *out_space = (labels[axis] for axis in numbers.out_spec)
    batched = site.out_shape[numbers.out_spec[0]] != 1
    kind = _kind(site.params, tuple(site.shape[axis] for axis in space), batched=batched)
    return replace(
        term,
        view=view.expand(0) if batched else view,
        weight=(),
        value=labels,
        windows=(None,) * len(labels),
        activation=_channels_last(image, numbers.lhs_spec, term.activation, batched=batched),
        kind=kind,
        canonical=(batch, *out_space, channel) if batched else (*out_space, channel),
    )


def _kind(params: Any, window: tuple[int, ...], *, batched: bool) -> Conv:
    one, none = ((1,), ((0, 0),)) if batched else ((), ())
    return Conv(
        window=(*one, *window),
        strides=(*one, *params["window_strides"]),
        padding=(*none, *(tuple(pair) for pair in params["padding"])),
        input_dilation=(*one, *params["lhs_dilation"]),
        dilation=(*one, *params["rhs_dilation"]),
        groups=params["feature_group_count"],
    )


def _channels_last(image: Deferred, spec: Any, scale: Deferred | None, *, batched: bool) -> Deferred:
    batch, channel, *space = spec
    scaled = image if scale is None else image.with_other(scale, lambda a, b: a * b)

    def arrange(array: Any) -> Any:
        moved = array.transpose((batch, *space, channel))
        return moved if batched else moved[0]

    return scaled.map(arrange)

"""Recurrent networks written out step by step: LSTM, GRU and plain ones, their layers, directions and cells.

The products with the input are one per layer and direction, for all steps at once; those with the state one per step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

State = tuple[torch.Tensor, ...]
Step = Callable[[torch.Tensor, torch.Tensor, State], State]
"""``(input part, state part, state) -> state``, both parts before any nonlinearity."""


class CannotOpenError(Exception):
    """A call that cannot be written out; it is made as it is."""


def _lstm_step(from_input: torch.Tensor, from_state: torch.Tensor, state: State) -> State:
    i, f, g, o = (from_input + from_state).chunk(4, -1)
    cell = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(cell), cell


def _gru_step(from_input: torch.Tensor, from_state: torch.Tensor, state: State) -> State:
    r, z, n = from_input.chunk(3, -1)
    state_r, state_z, state_n = from_state.chunk(3, -1)
    update = torch.sigmoid(z + state_z)
    new = torch.tanh(n + torch.sigmoid(r + state_r) * state_n)
    return (new + update * (state[0] - new),)


def _tanh_step(from_input: torch.Tensor, from_state: torch.Tensor, _: State) -> State:
    return (torch.tanh(from_input + from_state),)


def _relu_step(from_input: torch.Tensor, from_state: torch.Tensor, _: State) -> State:
    return (torch.relu(from_input + from_state),)


def _layers(
    step: Step,
    x: torch.Tensor,
    initial: State,
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    bidirectional: bool,
    batch_first: bool,
    has_projection: bool,
) -> tuple[torch.Tensor, State]:
    """All layers and directions.

    Args:
        x: ``(t, batch, features)``, or batch first.
        initial: per kind of state, ``(layers · directions, batch, features)``.
        params: per layer and direction the weights from input and state, their biases, and a projection of the state.
    """
    x = x.transpose(0, 1) if batch_first and x.ndim == 3 else x
    directions = 2 if bidirectional else 1
    count = 2 + 2 * has_biases + has_projection
    finals: list[State] = []
    for layer in range(num_layers):
        outputs: list[torch.Tensor] = []
        for direction in range(directions):
            at = layer * directions + direction
            weights = params[count * at : count * (at + 1)]
            state = tuple(part[at] for part in initial)
            output, final = _direction(step, x, state, weights, has_biases, has_projection, backwards=direction == 1)
            outputs.append(output)
            finals.append(final)
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
    states = tuple(torch.stack(part) for part in zip(*finals, strict=True))
    return (x.transpose(0, 1) if batch_first and x.ndim == 3 else x), states


def _direction(
    step: Step, x: torch.Tensor, state: State, weights: Sequence[torch.Tensor], has_biases: bool, has_projection: bool,
    *, backwards: bool,
) -> tuple[torch.Tensor, State]:  # fmt: skip
    of_input, of_state = weights[0], weights[1]
    bias_input, bias_state = (weights[2], weights[3]) if has_biases else (None, None)
    # Taken apart at once: the gradient of each part by itself would be an array as large as the whole.
    from_input = functional.linear(x, of_input, bias_input).unbind(0)
    outputs: list[torch.Tensor] = []
    for part in reversed(from_input) if backwards else from_input:
        state = step(part, functional.linear(state[0], of_state, bias_state), state)
        if has_projection:
            state = (functional.linear(state[0], weights[-1]), *state[1:])
        outputs.append(state[0])
    return torch.stack(outputs[::-1] if backwards else outputs), state


def lstm(
    input: torch.Tensor,  # noqa: A002  (the name in PyTorch)
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`torch.lstm`."""
    _check(hx if isinstance(hx, torch.Tensor) else None, params, dropout if train else 0.0)
    has_projection = len(params) != num_layers * (2 if bidirectional else 1) * (2 + 2 * has_biases)
    output, (h, c) = _layers(
        _lstm_step, input, tuple(hx), params, has_biases, num_layers, bidirectional, batch_first, has_projection
    )
    return output, h, c


def _check(packed: torch.Tensor | None, params: Any, dropout: float) -> None:
    """Raise for packed sequences (whose second argument is a tensor of sizes) and for dropout."""
    if packed is not None or isinstance(params, torch.Tensor) or dropout:
        raise CannotOpenError


def _one_state(step: Step) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    def layers(
        input: torch.Tensor,  # noqa: A002
        hx: torch.Tensor,
        params: Sequence[torch.Tensor],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`torch.gru`, `torch.rnn_tanh` or `torch.rnn_relu`."""
        _check(None, params, dropout if train else 0.0)
        output, (h,) = _layers(
            step, input, (hx,), params, has_biases, num_layers, bidirectional, batch_first, has_projection=False
        )
        return output, h

    return layers


gru = _one_state(_gru_step)
rnn_tanh = _one_state(_tanh_step)
rnn_relu = _one_state(_relu_step)


def _cell(step: Step) -> Callable[..., State]:
    def cell(
        input: torch.Tensor,  # noqa: A002
        hx: Any,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor | None = None,
        b_hh: torch.Tensor | None = None,
    ) -> State:
        state = (hx,) if isinstance(hx, torch.Tensor) else tuple(hx)
        return step(functional.linear(input, w_ih, b_ih), functional.linear(state[0], w_hh, b_hh), state)

    return cell


lstm_cell = _cell(_lstm_step)


def _only(cell: Callable[..., State]) -> Callable[..., torch.Tensor]:
    return lambda *args, **kwargs: cell(*args, **kwargs)[0]


gru_cell = _only(_cell(_gru_step))
rnn_cell = _only(_cell(_tanh_step))
rnn_relu_cell = _only(_cell(_relu_step))

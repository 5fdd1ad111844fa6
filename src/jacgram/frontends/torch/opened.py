"""Calls that hold weights within and are opened: written out in calls that have rules of their own.

Each function here has the signature of the one it stands for, and equals it to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from jacgram.frontends.torch.callables import named
from jacgram.frontends.torch.recurrent import (
    CannotOpenError,
    gru,
    gru_cell,
    lstm,
    lstm_cell,
    rnn_cell,
    rnn_relu,
    rnn_relu_cell,
    rnn_tanh,
)


def prelu(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``x`` where positive, ``weight · x`` elsewhere; the fused one is wrong under two levels of ``vmap``."""
    along_channels = weight.reshape([-1 if axis == 1 else 1 for axis in range(x.ndim)]) if x.ndim > 1 else weight
    return torch.where(x > 0, x, along_channels * x)


def bilinear(
    input1: torch.Tensor, input2: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """A linear layer of products of entries; the fused one has no batching rule."""
    pairs = input1[..., :, None] * input2[..., None, :]
    return functional.linear(pairs.flatten(-2), weight.flatten(1), bias)


def embedding(
    input: torch.Tensor,  # noqa: A002  (the name in PyTorch)
    weight: torch.Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> torch.Tensor:
    """Rows of a table, those at ``padding_idx`` constant, which PyTorch forgets in forward mode."""
    del norm_type, sparse
    if padding_idx is None or max_norm is not None or scale_grad_by_freq:
        raise CannotOpenError
    rows = functional.embedding(input, weight)
    is_padding = (input == padding_idx % weight.shape[0])[..., None]
    return torch.where(is_padding, rows.detach(), rows)


def embedding_bag(
    input: torch.Tensor,  # noqa: A002  (the name in PyTorch)
    weight: torch.Tensor,
    offsets: torch.Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> torch.Tensor:
    """Sum, mean or maximum of each bag's rows."""
    del norm_type, sparse, include_last_offset
    if input.ndim != 2 or offsets is not None or max_norm is not None or scale_grad_by_freq:
        raise CannotOpenError
    rows = functional.embedding(input, weight, padding_idx)
    kept = torch.ones_like(input, dtype=torch.bool) if padding_idx is None else input != padding_idx % weight.shape[0]
    counted = kept[..., None].to(rows.dtype)
    if mode == "max":
        lowest = torch.where(kept[..., None], rows, torch.full_like(rows, -math.inf)).amax(1)
        return torch.where(kept.any(1)[:, None], lowest, torch.zeros_like(lowest))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[..., None]
    total = (rows * counted).sum(1)
    return total if mode == "sum" else total / counted.sum(1).clamp(min=1)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: torch.Tensor | None,
    in_proj_bias: torch.Tensor | None,
    bias_k: torch.Tensor | None,
    bias_v: torch.Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: torch.Tensor,
    out_proj_bias: torch.Tensor | None,
    training: bool = True,
    key_padding_mask: torch.Tensor | None = None,
    need_weights: bool = True,
    attn_mask: torch.Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: torch.Tensor | None = None,
    k_proj_weight: torch.Tensor | None = None,
    v_proj_weight: torch.Tensor | None = None,
    static_k: torch.Tensor | None = None,
    static_v: torch.Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """`torch.nn.functional.multi_head_attention_forward`, sequence first."""
    del embed_dim_to_check
    if static_k is not None or static_v is not None or (dropout_p and training):
        raise CannotOpenError
    has_batch = query.ndim == 3
    if not has_batch:
        query, key, value = (part.unsqueeze(1) for part in (query, key, value))
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    if use_separate_proj_weight:
        weights: list[Any] = [q_proj_weight, k_proj_weight, v_proj_weight]
    else:
        assert in_proj_weight is not None
        weights = list(in_proj_weight.chunk(3))
    biases: list[Any] = [None] * 3 if in_proj_bias is None else list(in_proj_bias.chunk(3))
    if not use_separate_proj_weight and query is key and key is value:
        assert in_proj_weight is not None
        q, k, v = functional.linear(query, in_proj_weight, in_proj_bias).chunk(3, -1)
    else:
        parts = zip((query, key, value), weights, biases, strict=True)
        q, k, v = (functional.linear(x, w, b) for x, w, b in parts)
    if is_causal and attn_mask is None:
        raise CannotOpenError
    bias = _mask(attn_mask, key_padding_mask, q, num_heads)
    k, v, bias = _extended(k, v, bias, bias_k, bias_v, add_zero_attn)
    mixed, scores = _attend(q, k, v, bias, num_heads)
    output = functional.linear(mixed, out_proj_weight, out_proj_bias)
    if not need_weights:
        return (output if has_batch else output.squeeze(1)), None
    scores = scores.mean(1) if average_attn_weights else scores
    return (output, scores) if has_batch else (output.squeeze(1), scores.squeeze(0))


def _mask(
    attn_mask: torch.Tensor | None, padding: torch.Tensor | None, q: torch.Tensor, heads: int
) -> torch.Tensor | None:
    """Both masks as one number to add, broadcast to ``(batch, heads, t, s)``."""
    total: torch.Tensor | None = None
    if attn_mask is not None:
        total = _additive(attn_mask, q.dtype)
        if total.ndim == 3:
            total = total.reshape(-1, heads, *total.shape[1:]) if total.shape[0] != 1 else total[None]
    if padding is not None:
        more = _additive(padding, q.dtype)[:, None, None, :]
        total = more if total is None else total + more
    return total


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill(mask, -math.inf)


def _extended(
    k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, bias_k: Any, bias_v: Any, zero: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """With one more position of learnt key and value, and one of zeros."""
    for wanted, more_k, more_v in ((bias_k is not None, bias_k, bias_v), (zero, None, None)):
        if wanted:
            like = k[:1]
            row_k = torch.zeros_like(like) if more_k is None else more_k.expand(like.shape)
            row_v = torch.zeros_like(like) if more_v is None else more_v.expand(like.shape)
            k, v = torch.cat([k, row_k]), torch.cat([v, row_v])
            bias = None if bias is None else functional.pad(bias, (0, 1))
    return k, v, bias


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None, heads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Heads apart, ``(batch, heads, t, d)``, and together again, sequence first."""
    length, batch, width = q.shape
    q, k, v = (part.reshape(part.shape[0], batch, heads, width // heads).permute(1, 2, 0, 3) for part in (q, k, v))
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    scores = torch.softmax(scores if bias is None else scores + bias, -1)
    return (scores @ v).permute(2, 0, 1, 3).reshape(length, batch, width), scores


OPENED: dict[Callable[..., Any], Callable[..., Any]] = {
    function: opened
    for names, opened in (
        (("prelu",), prelu),
        (("bilinear",), bilinear),
        (("embedding",), embedding),
        (("embedding_bag",), embedding_bag),
        (("multi_head_attention_forward",), attention),
        (("lstm",), lstm),
        (("gru",), gru),
        (("rnn_tanh",), rnn_tanh),
        (("rnn_relu",), rnn_relu),
        (("lstm_cell",), lstm_cell),
        (("gru_cell",), gru_cell),
        (("rnn_tanh_cell",), rnn_cell),
        (("rnn_relu_cell",), rnn_relu_cell),
    )
    for function in named(*names)
    if function not in (torch.embedding_bag, torch.embedding)
}
"""What stands for which function."""

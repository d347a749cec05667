"""PyTorch's scaled-dot-product attention as transformers runs it, faster where this project needs it.

Registered with transformers as `ATTENTION`. Two things differ from its own "sdpa", neither changes a result:

- masks come from broadcasting over the indices, not from four nested vmaps, which in a decoding step of a padded batch
  take longer than a small model itself;
- rows of packed conversations (`segments`) are attended to conversation by conversation. A mask over the whole row
  would cost its length squared, and keeps PyTorch from its flash kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    _ignore_causal_mask_sdpa,
    and_masks,
    causal_mask_function,
    padding_mask_function,
    prepare_padding_mask,
)

ATTENTION = "colva_sdpa"
"""What transformers knows it by."""

Segments = Sequence[Sequence[int]]
"""Of each row the lengths of what is packed in it, one after the other; they add up to the row."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    segments: Segments | None = None,
    **given: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, as transformers asks for it.

    Args:
        module: the layer.
        query: `[b, heads, t, d]`.
        key, value: `[b, key heads, t', d]`.
        attention_mask: `[b, 1, t, t']` bool, true where a key is seen (or floats to add); None is causal.
        segments: attend inside each of them alone; t' is t then.
        given: dropout, scaling and the like.

    Returns:
        `[b, t, heads, d]`, and no weights.
    """
    if segments is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **given)
    masks = [None] * len(segments) if attention_mask is None else attention_mask.split(1)
    rows = []
    # split, as the gradient of a slice is a tensor of the whole row, of which most is zeros
    for lengths, mask, *row in zip(segments, masks, query.split(1), key.split(1), value.split(1), strict=True):
        begin, parts = 0, []
        for q, k, v in zip(*(one.split(list(lengths), dim=2) for one in row), strict=True):
            here = slice(begin, begin := begin + q.shape[2])
            inside = None if mask is None else mask[..., here, here]
            parts.append(sdpa_attention_forward(module, q, k, v, inside, **given)[0])
        rows.append(torch.cat(parts, dim=1))
    return torch.cat(rows), None


def build_mask(
    batch_size: int,
    cache_position: Tensor,
    kv_length: int,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | None = None,
    local_size: int | None = None,
    allow_is_causal_skip: bool = True,
    **_: Any,
) -> Tensor | None:
    """Which keys each query sees: `[b, 1, q, k]` bool, or None where causal attention needs no mask.

    Args:
        batch_size: b.
        cache_position: `[q]`, where in the sequence the queries stand.
        kv_length, kv_offset: how many keys, and where the first stands.
        mask_function: of batch, head, query and key index; works on whole tensors of indices.
        attention_mask: `[b, t]`, true where a token counts.
        local_size: of a sliding window.
        allow_is_causal_skip: None may be given.
    """
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset, _slice=False)
    queries, device = len(cache_position), cache_position.device
    if allow_is_causal_skip and _ignore_causal_mask_sdpa(padding, queries, kv_length, kv_offset, local_size):
        return None
    if padding is not None:
        mask_function = and_masks(mask_function, padding_mask_function(padding))
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    heads = torch.zeros(1, dtype=torch.int64, device=device)[None, :, None, None]
    keys = torch.arange(kv_offset, kv_offset + kv_length, device=device)[None, None, None, :]
    mask: Tensor = mask_function(rows, heads, cache_position[None, None, :, None], keys)
    return mask.expand(batch_size, 1, queries, kv_length)


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, build_mask)


def enable_packed_sdpa(model: PreTrainedModel) -> bool:
    """Let a model that runs transformers' "sdpa" run this in its place; whether it does."""
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        model.set_attn_implementation(ATTENTION)
    return uses_packed_sdpa(model)


def uses_packed_sdpa(model: PreTrainedModel) -> bool:
    """Whether a model attends by `attend`, so that it takes `segments`."""
    return bool(model.config._attn_implementation == ATTENTION)

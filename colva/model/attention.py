"""Scaled-dot-product attention for transformers that is faster for padded batches and packed rows.

Registered with transformers as `ATTENTION`. It differs from transformers' own "sdpa" in two ways, and gives the same
results:

- masks are built by broadcasting over indices instead of four nested vmaps, which in a decoding step of a padded batch
  take longer than a small model itself;
- in rows of packed conversations (`packed`) each conversation is attended to by itself, by one of the kernels of
  `colva.model.packed_attention`. A mask over the whole row would cost its length squared, and prevents PyTorch's flash
  kernels.
"""

from __future__ import annotations

from collections.abc import Callable
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

from colva.model.packed_attention import PackedRows

ATTENTION = "colva_sdpa"
"""Its name in transformers."""


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: PackedRows | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return the attention output of one layer, by the interface of transformers.

    Args:
        module: the layer.
        query: `[b, heads, t, d]`.
        key, value: `[b, key heads, t', d]`.
        attention_mask: `[b, 1, t, t']` bool, true where a key is seen (or floats to add); None is causal.
        packed: attend within each conversation only; the mask is not read then, and t' is t.
        kwargs: dropout, scaling, sliding_window and others of transformers.

    Returns:
        `[b, t, heads, d]`, and no weights.
    """
    if packed is not None:
        return packed.attend(module, query, key, value, **kwargs), None
    output: Tensor = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)[0]
    return output, None


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
    """Return which keys each query attends to: bool `[b, 1, q, k]`, or None where causal attention needs no mask.

    Args:
        batch_size: b.
        cache_position: `[q]`, positions of the queries in the sequence.
        kv_length, kv_offset: number of keys, and position of the first.
        mask_function: of batch, head, query and key index; works on whole tensors of indices.
        attention_mask: `[b, t]`, true where a token counts.
        local_size: of a sliding window.
        allow_is_causal_skip: whether None may be returned.
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
    """Replace transformers' "sdpa" in a model by this attention; return whether the model uses it."""
    if model.config._attn_implementation == "sdpa" and model._can_set_attn_implementation():
        model.set_attn_implementation(ATTENTION)
    return uses_packed_sdpa(model)


def uses_packed_sdpa(model: PreTrainedModel) -> bool:
    """Whether a model uses `attend`, and so takes `packed`."""
    return bool(model.config._attn_implementation == ATTENTION)

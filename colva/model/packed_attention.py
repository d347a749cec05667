"""Attention in rows of packed conversations: by the kernels of flash-attention, PyTorch's FlexAttention, or a loop.

- `flash`: flash-attention 2 or 3 with variable lengths: one kernel a layer, without a mask.
- `flex`: FlexAttention with a mask by blocks of 128 tokens, which is built once a batch; compiled once. It has no
  backward pass on a CPU.
- `sdpa`: PyTorch's scaled-dot-product attention in a loop over the conversations; anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_flash_attention_utils import _flash_attention_forward
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

PackedKernel = Literal["flash", "flex", "sdpa"]
Segments = Sequence[Sequence[int]]
"""For each row the lengths of its packed conversations in order; they add up to the row's length."""


def select_packed_kernel(name: Literal["auto", "flash", "flex", "sdpa"], device: str, use_bf16: bool) -> PackedKernel:
    """Return the kernel that a name stands for.

    Args:
        name: of a kernel, or `auto`: the first of flash, flex and sdpa that can be used.
        device: `cuda` or another type of device.
        use_bf16: the model runs in bfloat16, which flash-attention needs.

    Raises:
        ValueError: a kernel that cannot be used here, and why.
    """
    has_flash = is_flash_attn_2_available() or is_flash_attn_3_available()
    if name == "flash":
        for is_met, reason in (
            (device == "cuda", "needs a CUDA device"),
            (has_flash, "needs the package flash-attn (pip install flash-attn)"),
            (use_bf16, "needs trainer.precision=bf16"),
        ):
            if not is_met:
                raise ValueError(f"flash {reason}; auto chooses what can be used here")
    if name == "flex" and device != "cuda":
        raise ValueError("flex has a backward pass on a CUDA device only; auto chooses what can be used here")
    if name != "auto":
        return name
    if device != "cuda":
        return "sdpa"
    return "flash" if has_flash and use_bf16 else "flex"


class PackedRows:
    """The conversations of a batch of packed rows, and what the kernels need of them, made once for all layers.

    Args:
        segments: see `Segments`.
        kernel: see the module.
        device: of the batch.
    """

    def __init__(self, segments: Segments, kernel: PackedKernel, device: torch.device) -> None:
        self.segments = segments
        self.kernel = kernel
        self.device = device
        self.longest = max(max(lengths) for lengths in segments)
        self._block_masks: dict[int | None, BlockMask] = {}
        self._ends: Tensor | None = None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def attend(
        self,
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sliding_window: int | None = None,
        dropout: float = 0.0,
        scaling: float | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Return the attention output `[b, t, heads, d]` of one layer; never traced by `torch.compile`.

        Args:
            module: the layer.
            query: `[b, heads, t, d]`.
            key, value: `[b, key heads, t, d]`.
            sliding_window: how many tokens are seen, the token itself included; None for all before it.
            dropout: of the attention weights.
            scaling: of the scores.
            kwargs: others of transformers.
        """
        # a window that is no shorter than the longest conversation is none
        window = None if sliding_window is None or sliding_window >= self.longest else sliding_window
        if self.kernel == "flash":
            return self._attend_flash(query, key, value, window, dropout, scaling)
        if self.kernel == "flex":
            return self._attend_flex(query, key, value, window, dropout, scaling)
        return self._attend_each(module, query, key, value, window, dropout=dropout, scaling=scaling, **kwargs)

    def _attend_each(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, window: int | None, **kwargs: Any
    ) -> Tensor:
        rows = []
        # split, since the gradient of a slice is a tensor of the whole row, most of it zeros
        for lengths, *row in zip(self.segments, query.split(1), key.split(1), value.split(1), strict=True):
            parts = []
            for q, k, v in zip(*(tensor.split(list(lengths), dim=2) for tensor in row), strict=True):
                mask = None if window is None or q.shape[2] <= window else _window_mask(q.shape[2], window, q.device)
                parts.append(sdpa_attention_forward(module, q, k, v, mask, **kwargs)[0])
            rows.append(torch.cat(parts, dim=1))
        return torch.cat(rows)

    def _attend_flex(
        self, query: Tensor, key: Tensor, value: Tensor, window: int | None, dropout: float, scaling: float | None
    ) -> Tensor:
        if dropout:
            raise ValueError("FlexAttention has no dropout; use trainer.attention=sdpa, or a model without it")
        if window not in self._block_masks:
            self._block_masks[window] = self._build_block_mask(window)
        is_compiled = query.device.type == "cuda"
        attention: Any = _compiled_flex_attention() if is_compiled else flex_attention
        output: Tensor = attention(
            query,
            key,
            value,
            block_mask=self._block_masks[window],
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return output.transpose(1, 2).contiguous()

    def _build_block_mask(self, window: int | None) -> BlockMask:
        documents = torch.stack(
            [torch.repeat_interleave(torch.arange(len(row)), torch.tensor(list(row))) for row in self.segments]
        ).to(self.device)

        def is_seen(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            is_before = (key <= query) & (documents[row, query] == documents[row, key])
            return is_before if window is None else is_before & (query - key < window)

        rows, length = documents.shape
        return create_block_mask(is_seen, rows, None, length, length, device=str(self.device))

    def _attend_flash(
        self, query: Tensor, key: Tensor, value: Tensor, window: int | None, dropout: float, scaling: float | None
    ) -> Tensor:
        if self._ends is None:
            lengths = torch.tensor([0, *(length for row in self.segments for length in row)])
            self._ends = lengths.cumsum(0, dtype=torch.int32).to(self.device)
        device = query.device.type
        output: Tensor = _flash_attention_forward(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            attention_mask=None,
            query_length=query.shape[2],
            is_causal=True,
            dropout=dropout,
            softmax_scale=scaling,
            sliding_window=window,
            cu_seq_lens_q=self._ends,
            cu_seq_lens_k=self._ends,
            max_length_q=self.longest,
            max_length_k=self.longest,
            target_dtype=torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None,
            implementation="flash_attention_2" if is_flash_attn_2_available() else "flash_attention_3",
        )
        return output


def _window_mask(length: int, window: int, device: torch.device) -> Tensor:
    """Return which tokens each token sees: bool `[1, 1, length, length]`."""
    positions = torch.arange(length, device=device)
    distance = positions[:, None] - positions
    return ((distance >= 0) & (distance < window))[None, None]


@functools.cache
def _compiled_flex_attention() -> Callable[..., Any]:
    return torch.compile(flex_attention)

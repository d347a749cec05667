"""What a multimodal language model must offer to carry object tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from colva.model.token_grid import Geometry


@dataclass(frozen=True)
class Picture:
    """One picture as its vision tower takes it.

    `pixels` is family-specific (uint8 tiles, or float patches) and is joined along its first axis with those of
    other pictures; `grid` is (time or tiles, rows, columns) before tokens are merged; `geometry` says which part of
    the picture each text token stands for, in the order of the tokens.
    """

    pixels: Tensor
    grid: tuple[int, int, int]
    geometry: Geometry

    @property
    def tokens(self) -> int:
        """How many image tokens the picture becomes."""
        return self.geometry.tokens


class Pictures(Protocol):
    """Prepares pictures for one family without any weights, so that data workers can do it."""

    def __call__(self, picture: np.ndarray) -> Picture:
        """Prepare one RGB uint8 `[H, W, 3]` picture; ValueError when it is none."""
        ...

    def tokens_of(self, width: int, height: int) -> int:
        """How many tokens a picture of this size becomes; ValueError when it cannot be prepared."""
        ...

    def positions(self, ids: Tensor, grids: Iterator[tuple[int, int, int]]) -> Tensor:
        """Positions of one unpadded sample: `[t]` or, for 3-D rotary positions, `[3, t]`; int64.

        Takes from `grids` one for each picture that it finds in the ids; families that need none take none.
        """
        ...


@dataclass(frozen=True)
class Encoded:
    """Projected image tokens `[..., d]`, and for Qwen3-VL the extra features `[n, d]` of its first layers."""

    tokens: Tensor
    deep: tuple[Tensor, ...] = ()


class Backbone(nn.Module, ABC):
    """A native transformers model behind the few calls that CoLVA makes of it.

    `model` is the native `…ForConditionalGeneration`; its parameter names are not changed, so that checkpoints of
    transformers load under the prefix `model.`.
    """

    family: ClassVar[str]
    """The `model_type` of the native configuration."""

    image_wrap: ClassVar[tuple[str, str, str]]
    """Text before the image tokens of a picture, the image token, and the text after."""

    model: PreTrainedModel

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def hidden_size(self) -> int:
        """Width d of the language model."""
        return int(self.config.get_text_config().hidden_size)

    @classmethod
    @abstractmethod
    def pictures(cls, config: PretrainedConfig, options: dict[str, Any]) -> Pictures:
        """What prepares pictures for a model of this configuration; `options` are the family's own (sizes, tiles)."""

    @abstractmethod
    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> Encoded:
        """Vision tower and projector: the joined pixels of some pictures to their tokens in order."""

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """The decoder without its head; the part that LoRA changes."""

    @property
    @abstractmethod
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """Vision tower and projector; no stage trains them."""

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids `[b, t]` to embeddings `[b, t, d]`."""
        return self.language_model.get_input_embeddings()(ids)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states `[..., d]` to logits `[..., vocabulary]`."""
        return self.model.get_output_embeddings()(hidden)

    def decode(
        self, inputs_embeds: Tensor, image_tokens: Tensor | None = None, deep: tuple[Tensor, ...] = (), **given: Any
    ) -> BaseModelOutputWithPast:
        """Run the decoder on embeddings; `given` are transformers' own arguments (masks, positions, cache).

        `image_tokens` `[b, t]` bool says where image tokens stand; only families with `deep` features need it.
        """
        return self.language_model(inputs_embeds=inputs_embeds, **given)


def plain_positions(ids: Tensor) -> Tensor:
    """0 .. t-1: positions of a family without rotary positions in space."""
    return torch.arange(ids.shape[-1], dtype=torch.int64)

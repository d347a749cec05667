"""The interface of a multimodal language model that takes object tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPast

from colva.model.positions import ImageGrid, sequential_positions


@dataclass(frozen=True)
class ImageFeatures:
    """Projected image tokens `[..., d]`; for Qwen3-VL also the features `[n, d]` that its first layers add."""

    tokens: Tensor
    deep_features: tuple[Tensor, ...] = ()


class Backbone(nn.Module, ABC):
    """A native transformers model behind the calls that CoLVA needs.

    `model` is the native `…ForConditionalGeneration`. Its parameter names are unchanged, so that checkpoints of
    transformers load under the prefix `model.`.
    """

    family: ClassVar[str]
    """The `model_type` of the native configuration."""

    image_wrap: ClassVar[tuple[str, str, str]]
    """Text before the image tokens of an image, the image token, and the text after."""

    model: PreTrainedModel

    def __init__(self, config: PretrainedConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def hidden_size(self) -> int:
        """Width d of the language model."""
        return int(self.config.get_text_config().hidden_size)

    @abstractmethod
    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> ImageFeatures:
        """Return the tokens of some images, in order, from their joined pixels (vision tower and projector)."""

    @property
    @abstractmethod
    def language_model(self) -> PreTrainedModel:
        """The decoder without its head; the part that LoRA changes."""

    @property
    @abstractmethod
    def frozen_parts(self) -> tuple[nn.Module, ...]:
        """Vision tower and projector; no stage trains them."""

    @property
    def decoder_layers(self) -> nn.ModuleList:
        """The layers of the decoder, in order."""
        layers = self.language_model.layers
        assert isinstance(layers, nn.ModuleList)
        return layers

    def embed(self, ids: Tensor) -> Tensor:
        """Return embeddings `[b, t, d]` of token ids `[b, t]`."""
        embeddings: Tensor = self.language_model.get_input_embeddings()(ids)
        return embeddings

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """Return logits `[..., vocabulary]` of hidden states `[..., d]`."""
        logits: Tensor = self.model.get_output_embeddings()(hidden)
        return logits

    def decode(
        self,
        inputs_embeds: Tensor,
        image_positions: Tensor | None = None,
        deep_features: tuple[Tensor, ...] = (),
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder on embeddings; `kwargs` are transformers' own arguments (masks, positions, cache).

        `image_positions` `[n]`, counted row after row, are needed by families with `deep_features`.
        """
        return self.language_model(inputs_embeds=inputs_embeds, **kwargs)

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return the positions of one unpadded sample: int64 `[t]` or, for 3-D rotary positions, `[3, t]`.

        Takes from `grids` one for each image in the ids; families that need none take none.
        """
        return sequential_positions(ids)

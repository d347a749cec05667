"""What a multimodal language model must offer to carry object tokens."""

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
    def encode(self, pixel_values: Tensor, image_grid: Tensor | None) -> Encoded:
        """Vision tower and projector: the joined pixels of some images to their tokens in order."""

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

    def position_ids(self, ids: Tensor, grids: Iterator[ImageGrid]) -> Tensor:
        """Return the positions of one unpadded sample: int64 `[t]` or, for 3-D rotary positions, `[3, t]`.

        Takes from `grids` one for each image in the ids; families that need none take none.
        """
        return sequential_positions(ids)

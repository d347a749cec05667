"""CoLVA: a multimodal LLM that reads one token for each marked object (arXiv 2501.04670).

A vision expert sees the clean images; an adapter carries its features into the language model's space; the features
under an object's mask are averaged to one vector, and that vector takes the place of a `<VPT_CONTEXT>` token. All the
rest is the backbone's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast

from colva.losses import IGNORE_INDEX
from colva.model.adapter import Adapter
from colva.model.attention import Segments, enable_packed_sdpa, uses_packed_sdpa
from colva.model.backbones import backbone_class
from colva.model.backbones.base import Encoded
from colva.model.config import ColvaConfig
from colva.model.experts import build_expert
from colva.model.experts.base import Expert, to_unit_range
from colva.model.pooling import pool_objects
from colva.model.token_grid import full_image_grid


class ColvaModel(PreTrainedModel, GenerationMixin):
    """Backbone + expert + adapter. `processor` (tokenizer and image processor) is set by `colva.load`."""

    config_class = ColvaConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flash_attn_2 = True
    _can_compile_fullgraph = False
    _tied_weights_keys = ["backbone.model.lm_head.weight"]  # noqa: RUF012  (transformers reads it so)
    accepts_loss_kwargs = True

    def __init__(self, config: ColvaConfig) -> None:
        super().__init__(config)
        if config.backbone_config is None:
            raise ValueError("config.backbone_config: missing; it says which language model this is")
        self.backbone = backbone_class(config.backbone_config)(config.backbone_config)
        enable_packed_sdpa(self.backbone.language_model)
        self.expert: Expert | None = None
        self.adapter: Adapter | None = None
        if config.expert is not None:
            fields = dict(config.expert)
            self.expert = build_expert(fields.pop("kind"), fields)
            self.adapter = Adapter(self.expert.hidden_size, self.backbone.hidden_size)
        self.processor: Any = None
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """PyTorch's own initial values, as the published adapter has; native parts bring their own."""
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings."""
        return self.backbone.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.backbone.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.backbone.model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head."""
        self.backbone.model.set_output_embeddings(value)

    def encode_images(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> Tensor:
        """Vision embeddings of the language model's images.

        Args:
            pixel_values: as the backbone's images are (InternVL: tiles `[n, 3, s, s]`, uint8 or normalized floats).
            image_grid: `[images, 3]`, for families that need it (Qwen-VL).

        Returns:
            Tokens `[tiles, tokens a tile, d]` (InternVL, LLaVA) or `[tokens, d]`.
        """
        return self.backbone.encode(pixel_values, image_grid).tokens

    def adapted_tokens(self, expert_pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Adapted expert tokens `[i, h*w, d]` and their grid, of clean images `[i, 3, H, W]`.

        uint8, or floats in 0..1; the expert normalizes by itself.
        """
        if self.expert is None or self.adapter is None:
            raise ValueError("this model has no expert: give object_embeddings, or load one that has")
        features = self.expert(to_unit_range(expert_pixel_values))
        return self.adapter(features.tokens), features.grid

    def object_embeddings(self, expert_pixel_values: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """One vector for each object: `[objects, d]`, image by image in the order of the masks.

        Args:
            expert_pixel_values: `[i, 3, H, W]` clean images, uint8 or floats in 0..1.
            masks: for each image `[n, H', W']`, over the same canvas at any resolution; n may be 0.

        Raises:
            ValueError: another number of mask stacks than images.
        """
        if len(masks) != len(expert_pixel_values):
            raise ValueError(f"masks for {len(masks)} images, but {len(expert_pixel_values)} images")
        tokens, grid = self.adapted_tokens(expert_pixel_values)
        cells = [
            full_image_grid((stack.shape[1], stack.shape[2]), grid).token_mask(
                stack.to(tokens.device), self.config.mask_threshold
            )
            for stack in masks
        ]
        counts = torch.tensor([len(stack) for stack in masks], device=tokens.device)
        images = torch.repeat_interleave(torch.arange(len(masks), device=tokens.device), counts)
        return pool_objects(tokens, torch.cat(cells), images)[0]

    def embeddings_at(self, expert_pixel_values: Tensor, object_cells: Tensor, object_images: Tensor) -> Tensor:
        """`object_embeddings` of masks that are cells of the expert's grid already, as the collator gives them.

        Args:
            expert_pixel_values: `[i, 3, H, W]` clean images, uint8 or floats in 0..1.
            object_cells: `[objects, h*w]` bool, whether a token of the grid belongs to the object.
            object_images: `[objects]` int64, the number of each object's image, ascending.
        """
        return pool_objects(self.adapted_tokens(expert_pixel_values)[0], object_cells, object_images)[0]

    def merge(self, input_ids: Tensor, encoded: Encoded | None, objects: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Token embeddings `[b, t, d]` with image and object tokens put in place, and where the image tokens are."""
        embeds = self.backbone.embed(input_ids)
        where = None
        if encoded is not None:
            where = self._places(input_ids, self.config.image_token_id, "image", encoded.tokens[..., 0].numel())
            embeds = embeds.masked_scatter(where.unsqueeze(-1), encoded.tokens.to(embeds.dtype))
        if objects is not None:
            places = self._places(input_ids, self.config.object_token_id, "object", len(objects))
            embeds = embeds.masked_scatter(places.unsqueeze(-1), objects.to(embeds.dtype))
        return embeds, where

    def _places(self, input_ids: Tensor, token: int | None, what: str, given: int) -> Tensor:
        if token is None:
            raise ValueError(f"config.{what}_token_id is not known: the checkpoint came without a tokenizer; set it")
        places = input_ids == token
        if torch.compiler.is_compiling() or input_ids.device.type != "cpu":
            torch._assert_async(places.sum() == given)  # no wait for the device
        elif int(places.sum()) != given:
            raise ValueError(f"{int(places.sum())} {what} tokens in the text, but {given} {what} embeddings for them")
        return places

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid: Tensor | None = None,
        expert_pixel_values: Tensor | None = None,
        object_cells: Tensor | None = None,
        object_images: Tensor | None = None,
        object_embeddings: Tensor | None = None,
        masks: Sequence[Tensor] | None = None,
        deep_features: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        segments: Segments | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **given: Any,
    ) -> CausalLMOutputWithPast:
        """Next-token logits, or the loss when labels are given.

        Args:
            input_ids: `[b, t]`; each image token and each `<VPT_CONTEXT>` is replaced, in order.
            attention_mask: `[b, t]`, 1 for tokens that count.
            position_ids: `[b, t]`, or `[3, b, t]` for 3-D rotary positions; made from the ids when None.
            past_key_values, inputs_embeds, logits_to_keep: as everywhere in transformers.
            labels: `[b, t]`, -100 where nothing is learned.
            pixel_values, image_grid: the backbone's images, joined.
            expert_pixel_values: `[i, 3, H, W]`, clean, for images that have objects.
            object_cells, object_images: `[n, h*w]` bool and `[n]` ascending: each object's tokens in its image.
            masks: in place of the cells, a stack of masks for each image of `expert_pixel_values`.
            object_embeddings: `[n, d]` in place of all that (from a cache); the expert is then not run.
            segments: lengths of the conversations that are packed in each row, padding as the last of them; for batches
                without an attention mask, whose positions begin at 0 with each of them.
            deep_features: `[b, layers, t, d]` beside inputs_embeds, for Qwen3-VL (zero where no image token stands).
            num_items_in_batch: divide the summed loss by this instead of the number of learned tokens.

        Returns:
            `logits` `[b, t, vocabulary]` without labels; with labels only the `loss` (float32), and the head is run
            on learned positions alone.
        """
        image_tokens: Tensor | None = None
        deep: tuple[Tensor, ...] = ()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("neither input_ids nor inputs_embeds")
            if object_embeddings is None and expert_pixel_values is not None:
                object_embeddings = self._objects(expert_pixel_values, object_cells, object_images, masks)
            inputs_embeds, image_tokens, deep = self._embedded(input_ids, pixel_values, image_grid, object_embeddings)
            if position_ids is None and past_key_values is None:
                position_ids = self.positions(input_ids, attention_mask, image_grid)
        elif deep_features is not None:
            image_tokens = deep_features.abs().sum(dim=(1, 3)) > 0
            deep = tuple(layer[image_tokens] for layer in deep_features.unbind(dim=1))
        if segments is not None and attention_mask is None and uses_packed_sdpa(self.backbone.language_model):
            # with a mask, transformers does not look for borders in the positions, and makes no mask of its own
            attention_mask = torch.ones(inputs_embeds.shape[:2], dtype=torch.bool, device=inputs_embeds.device)
            given["segments"] = segments
        output = self.backbone.decode(
            inputs_embeds,
            image_tokens=image_tokens,
            deep=deep,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **given,
        )
        hidden = output.last_hidden_state
        if labels is not None:
            return CausalLMOutputWithPast(loss=self._loss(hidden, labels, num_items_in_batch))
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(
            logits=self.backbone.head(hidden[:, kept]),
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _embedded(
        self, input_ids: Tensor, pixel_values: Tensor | None, image_grid: Tensor | None, objects: Tensor | None
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Embeddings with everything in its place, where image tokens stand, and the features of deep layers."""
        encoded = None if pixel_values is None else self.backbone.encode(pixel_values, image_grid)
        return *self.merge(input_ids, encoded, objects), encoded.deep if encoded is not None else ()

    def _objects(
        self, pixels: Tensor, cells: Tensor | None, images: Tensor | None, masks: Sequence[Tensor] | None
    ) -> Tensor:
        if masks is not None:
            return self.object_embeddings(pixels, masks)
        if cells is None or images is None:
            raise ValueError("expert_pixel_values without object_cells and object_images, and without masks")
        return self.embeddings_at(pixels, cells, images)

    def _loss(self, hidden: Tensor, labels: Tensor, items: Tensor | int | None) -> Tensor:
        """Cross entropy of the next token, in float32; the head sees learned positions only."""
        targets = labels[:, 1:]
        learned = targets != IGNORE_INDEX
        logits = self.backbone.head(hidden[:, :-1][learned]).float()
        total = F.cross_entropy(logits, targets[learned], reduction="sum")
        if items is None:
            items = learned.sum().clamp(min=1)
        return total / items

    def positions(self, input_ids: Tensor, attention_mask: Tensor | None, image_grid: Tensor | None) -> Tensor:
        """Positions of a padded batch: `[b, t]` or `[3, b, t]`. Padding is at 0 and changes no other position."""
        grids = iter([] if image_grid is None else [(t, h, w) for t, h, w in image_grid.tolist()])
        ids = input_ids.cpu()
        present = torch.ones_like(ids) if attention_mask is None else attention_mask.cpu()
        rows = []
        for row, mask in zip(ids, present.bool(), strict=True):
            found = self.backbone.position_ids(row[mask], grids)
            full = torch.zeros(*found.shape[:-1], len(row), dtype=torch.int64)
            full[..., mask] = found
            rows.append(full)
        return torch.stack(rows, dim=-2).to(input_ids.device)

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_grid: Tensor | None = None,
        expert_pixel_values: Tensor | None = None,
        object_cells: Tensor | None = None,
        object_images: Tensor | None = None,
        object_embeddings: Tensor | None = None,
        masks: Sequence[Tensor] | None = None,
        **given: Any,
    ) -> Any:
        """transformers' `generate` on the inputs of `forward` (pad on the left); gives the new tokens `[b, new]` alone.

        Images and objects are encoded once, before the first step; `given` is `generate`'s own (a streamer,
        sampling, beams, a generation config).
        """
        if object_embeddings is None and expert_pixel_values is not None:
            object_embeddings = self._objects(expert_pixel_values, object_cells, object_images, masks)
        embeds, image_tokens, deep = self._embedded(input_ids, pixel_values, image_grid, object_embeddings)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if position_ids is None:
            position_ids = self.positions(input_ids, attention_mask, image_grid)
        if deep and image_tokens is not None:
            dense = embeds.new_zeros(len(deep), *embeds.shape)
            for layer, features in zip(dense, deep, strict=True):
                layer[image_tokens] = features.to(dense.dtype)
            given["deep_features"] = dense.transpose(0, 1)
        # batch first, as beams and several answers a prompt repeat every tensor along its first axis
        start = position_ids.unsqueeze(1) if position_ids.ndim == 2 else position_ids.transpose(0, 1)
        return super().generate(inputs_embeds=embeds, attention_mask=attention_mask, start_positions=start, **given)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        start_positions: Tensor,
        inputs_embeds: Tensor | None = None,
        deep_features: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """One step of `generate`: the prompt's own positions `[b, axes, t]` first, then counting on from their last."""
        prepared = super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)
        axes, length = start_positions.shape[1:]
        if prepared.get("inputs_embeds") is not None:
            positions = start_positions
            prepared["deep_features"] = deep_features
        else:
            step = prepared["cache_position"] - length + 1
            positions = start_positions.amax(dim=(1, 2))[:, None, None] + step
            positions = positions.expand(-1, axes, -1)
        prepared["position_ids"] = positions.squeeze(1) if axes == 1 else positions.transpose(0, 1)
        return prepared

"""CoLVA: a multimodal LLM with one input token for each marked object (arXiv 2501.04670).

A vision expert encodes the clean images; an adapter maps its features to the language model's embedding space; the
features under an object's mask are averaged to one vector, which replaces a `<VPT_CONTEXT>` token. Everything else is
the backbone's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from typing_extensions import Self

from colva.losses import IGNORE_INDEX
from colva.model.adapter import Adapter
from colva.model.attention import enable_packed_sdpa, uses_packed_sdpa
from colva.model.backbones import backbone_class
from colva.model.backbones.base import ImageFeatures
from colva.model.buffers import keep_computed_buffers
from colva.model.config import ColvaConfig
from colva.model.experts import build_expert
from colva.model.experts.base import Expert, to_unit_range
from colva.model.packed_attention import PackedKernel, PackedRows, Segments
from colva.model.pooling import pool_objects
from colva.model.token_grid import full_image_grid
from colva.model.token_loss import MAX_LOGITS, next_token_loss


class ColvaModel(PreTrainedModel, GenerationMixin):
    """Backbone + expert + adapter.

    `processor` (tokenizer and image processor) is set by `colva.load`; `packed_kernel` says what attends in rows of
    packed conversations (see `colva.model.packed_attention`).
    """

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
            raise ValueError("config.backbone_config is missing; it describes the language model")
        self.backbone = backbone_class(config.backbone_config)(config.backbone_config)
        enable_packed_sdpa(self.backbone.language_model)
        self.expert: Expert | None = None
        self.adapter: Adapter | None = None
        if config.expert is not None:
            fields = dict(config.expert)
            self.expert = build_expert(fields.pop("kind"), fields)
            self.adapter = Adapter(self.expert.hidden_size, self.backbone.hidden_size)
        self.processor: Any = None
        self.packed_kernel: PackedKernel = "sdpa"
        self.post_init()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move or cast; rotary frequencies stay in float32 (see `colva.model.buffers`)."""
        with keep_computed_buffers(self):
            super()._apply(fn, recurse)
        return self

    def _init_weights(self, module: nn.Module) -> None:
        """Reset to PyTorch's own initial values, as the published adapter; native parts have their own."""
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()

    def get_input_embeddings(self) -> nn.Module:
        """Return the language model's token embeddings."""
        embeddings: nn.Module = self.backbone.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embeddings."""
        self.backbone.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the language model's head."""
        head: nn.Module = self.backbone.model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the head."""
        self.backbone.model.set_output_embeddings(value)

    def encode_images(self, pixel_values: Tensor, image_grid: Tensor | None = None) -> Tensor:
        """Return the projected vision embeddings of the language model's images.

        Args:
            pixel_values: in the backbone's form (InternVL: tiles `[n, 3, s, s]`, uint8 or normalized floats).
            image_grid: `[images, 3]`, for families that need it (Qwen-VL).

        Returns:
            Tokens `[tiles, tokens a tile, d]` (InternVL, LLaVA) or `[tokens, d]`.
        """
        return self.backbone.encode(pixel_values, image_grid).tokens

    def adapt_expert_tokens(self, expert_pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return adapted expert tokens `[i, h*w, d]` and their grid (h, w), of clean images `[i, 3, H, W]`.

        Images are uint8, or floats in 0..1; the expert normalizes them.
        """
        if self.expert is None or self.adapter is None:
            raise ValueError("this model has no expert: give object_embeddings, or load a model with an expert")
        were_bytes = expert_pixel_values.dtype == torch.uint8
        features = self.expert(to_unit_range(expert_pixel_values), check_values=not were_bytes)
        return self.adapter(features.tokens), features.grid

    def object_embeddings(self, expert_pixel_values: Tensor, masks: Sequence[Tensor]) -> Tensor:
        """Return one vector for each object: `[objects, d]`, image by image in the order of the masks.

        Args:
            expert_pixel_values: `[i, 3, H, W]` clean images, uint8 or floats in 0..1.
            masks: for each image `[n, H', W']`, over the same canvas at any resolution; n may be 0.

        Raises:
            ValueError: the number of mask stacks is not that of the images.
        """
        if len(masks) != len(expert_pixel_values):
            raise ValueError(f"masks for {len(masks)} images, but {len(expert_pixel_values)} images")
        tokens, grid = self.adapt_expert_tokens(expert_pixel_values)
        cells = [
            full_image_grid((stack.shape[1], stack.shape[2]), grid).token_mask(
                stack.to(tokens.device), self.config.mask_threshold
            )
            for stack in masks
        ]
        counts = torch.tensor([len(stack) for stack in masks], device=tokens.device)
        images = torch.repeat_interleave(torch.arange(len(masks), device=tokens.device), counts)
        return pool_objects(tokens, torch.cat(cells), images)[0]

    def pool_object_cells(
        self,
        expert_pixel_values: Tensor,
        object_cells: Tensor,
        object_images: Tensor,
        max_objects: int | None = None,
    ) -> Tensor:
        """Return `object_embeddings` of masks that are on the expert's token grid, as the collator returns them.

        Args:
            expert_pixel_values: `[i, 3, H, W]` clean images, uint8 or floats in 0..1.
            object_cells: `[objects, h*w]` bool, the tokens of the grid that each object covers.
            object_images: `[objects]` int64, the index of each object's image, ascending.
            max_objects: see `pool_objects`.
        """
        tokens = self.adapt_expert_tokens(expert_pixel_values)[0]
        return pool_objects(tokens, object_cells, object_images, max_objects)[0]

    def embed_inputs(
        self,
        input_ids: Tensor,
        image_features: ImageFeatures | None,
        objects: Tensor | None,
        image_positions: Tensor | None = None,
        object_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return embeddings `[b, t, d]` with image and object tokens replaced, and where the image tokens are.

        Positions are int64 `[n]`, counted row after row; None looks for them in the ids.
        """
        embeds = self.backbone.embed(input_ids)
        if image_features is not None:
            tokens = image_features.tokens.flatten(0, -2)
            if image_positions is None:
                image_positions = self._find_tokens(input_ids, self.config.image_token_id, "image")
            embeds = _replace_tokens(embeds, image_positions, tokens, "image")
        if objects is not None:
            if object_positions is None:
                object_positions = self._find_tokens(input_ids, self.config.object_token_id, "object")
            embeds = _replace_tokens(embeds, object_positions, objects, "object")
        return embeds, None if image_features is None else image_positions

    def _find_tokens(self, input_ids: Tensor, token_id: int | None, kind: str) -> Tensor:
        """Return where a placeholder token is, int64 `[n]`, row after row; waits for the device."""
        if token_id is None:
            raise ValueError(f"config.{kind}_token_id is not known: the checkpoint has no tokenizer; set it")
        return (input_ids.flatten() == token_id).nonzero().flatten()

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
        image_positions: Tensor | None = None,
        object_positions: Tensor | None = None,
        target_positions: Tensor | None = None,
        max_objects: int | None = None,
        logit_targets: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Return next-token logits, or the loss when labels are given.

        Args:
            input_ids: `[b, t]`; image tokens and `<VPT_CONTEXT>` tokens are replaced, in order.
            attention_mask: `[b, t]`, 0 for padding.
            position_ids: `[b, t]`, or `[3, b, t]` for 3-D rotary positions; computed from the ids when None.
            past_key_values, inputs_embeds, logits_to_keep: as in transformers.
            labels: `[b, t]`, -100 where a token is not a target.
            pixel_values, image_grid: of the images in the backbone's form, joined; see `encode_images`.
            expert_pixel_values: `[i, 3, H, W]`, clean, for images that have objects.
            object_cells, object_images: `[n, h*w]` bool and `[n]` ascending: each object's tokens in its image.
            masks: in place of the cells, a stack of masks for each image of `expert_pixel_values`.
            object_embeddings: `[n, d]` in place of these (from a cache); the expert is then not run.
            segments: lengths of the conversations packed in each row, padding as the last of them; in place of an
                attention mask. Positions restart at 0 for each of them.
            deep_features: `[b, layers, t, d]` beside inputs_embeds, for Qwen3-VL (zero where no image token stands).
            num_items_in_batch: divide the summed loss by this instead of the number of target tokens.
            image_positions, object_positions, target_positions: `[n]` int64, where the image tokens, the object tokens
                and the targets are, counted row after row; None looks for them, for which a device is waited for.
            max_objects: the largest number of objects of one image; as well.
            logit_targets: `[n]` int64, numbers of target tokens whose logits `[n, vocabulary]` are also returned.

        Returns:
            `logits` `[b, t, vocabulary]` without labels; with labels only the `loss` (float32), and the head is run
            on target positions only, some at a time (see `colva.model.token_loss`).
        """
        layer_features: tuple[Tensor, ...] = ()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("neither input_ids nor inputs_embeds")
            if object_embeddings is None and expert_pixel_values is not None:
                object_embeddings = self._embed_objects(
                    expert_pixel_values, object_cells, object_images, masks, max_objects
                )
            inputs_embeds, image_positions, layer_features = self._embed_all(
                input_ids, pixel_values, image_grid, object_embeddings, image_positions, object_positions
            )
            if position_ids is None and past_key_values is None:
                position_ids = self.compute_position_ids(input_ids, attention_mask, image_grid)
        elif deep_features is not None:
            image_positions = (deep_features.abs().sum(dim=(1, 3)) > 0).flatten().nonzero().flatten()
            layer_features = tuple(layer.flatten(0, 1)[image_positions] for layer in deep_features.unbind(dim=1))
        if segments is not None and uses_packed_sdpa(self.backbone.language_model):
            # transformers passes on a mask of four dimensions as it is; `attend` does not read it
            attention_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=inputs_embeds.device)
            kwargs["packed"] = PackedRows(segments, self.packed_kernel, inputs_embeds.device)
        output = self.backbone.decode(
            inputs_embeds,
            image_positions=image_positions,
            deep_features=layer_features,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            **kwargs,
        )
        hidden = output.last_hidden_state
        if labels is not None:
            loss, logits = self._compute_loss(hidden, labels, num_items_in_batch, target_positions, logit_targets)
            return CausalLMOutputWithPast(loss=loss, logits=logits)
        positions = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(
            logits=self.backbone.compute_logits(hidden[:, positions]),
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def _embed_all(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None,
        image_grid: Tensor | None,
        objects: Tensor | None,
        image_positions: Tensor | None = None,
        object_positions: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, tuple[Tensor, ...]]:
        """Return embeddings with all tokens replaced, where the image tokens are, and the deep features."""
        features = None if pixel_values is None else self.backbone.encode(pixel_values, image_grid)
        embedded = self.embed_inputs(input_ids, features, objects, image_positions, object_positions)
        return *embedded, () if features is None else features.deep_features

    def _embed_objects(
        self,
        pixels: Tensor,
        cells: Tensor | None,
        images: Tensor | None,
        masks: Sequence[Tensor] | None,
        max_objects: int | None = None,
    ) -> Tensor:
        if masks is not None:
            return self.object_embeddings(pixels, masks)
        if cells is None or images is None:
            raise ValueError("expert_pixel_values without object_cells and object_images, and without masks")
        return self.pool_object_cells(pixels, cells, images, max_objects)

    def _compute_loss(
        self,
        hidden: Tensor,
        labels: Tensor,
        num_items: Tensor | int | None,
        target_positions: Tensor | None,
        logit_targets: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the cross entropy of the next token, on whose positions alone the head runs, and some logits."""
        labels = labels.flatten()
        if target_positions is None:
            is_target = labels != IGNORE_INDEX
            is_target[:: hidden.shape[1]] = False  # nothing predicts the first token of a row
            target_positions = is_target.nonzero().flatten()
        states = hidden.flatten(0, 1).index_select(0, target_positions - 1)
        targets = labels.index_select(0, target_positions)
        chunk_size = max(1, MAX_LOGITS // self.config.get_text_config().vocab_size)
        loss, logits = next_token_loss(self.get_output_embeddings(), states, targets, chunk_size, logit_targets)
        loss = loss / (max(1, len(target_positions)) if num_items is None else num_items)
        return loss, None if logit_targets is None else logits

    def compute_position_ids(
        self, input_ids: Tensor, attention_mask: Tensor | None, image_grid: Tensor | None
    ) -> Tensor:
        """Return positions of a padded batch, `[b, t]` or `[3, b, t]`; those of padding are 0 and not counted."""
        grids = iter([] if image_grid is None else [(t, h, w) for t, h, w in image_grid.tolist()])
        ids = input_ids.cpu()
        is_token = torch.ones_like(ids) if attention_mask is None else attention_mask.cpu()
        rows = []
        for row, mask in zip(ids, is_token.bool(), strict=True):
            positions = self.backbone.position_ids(row[mask], grids)
            padded = torch.zeros(*positions.shape[:-1], len(row), dtype=torch.int64)
            padded[..., mask] = positions
            rows.append(padded)
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
        **kwargs: Any,
    ) -> Any:
        """Run transformers' `generate` on the inputs of `forward` (padded on the left); return new tokens `[b, new]`.

        Images and objects are encoded once, before the first step. `kwargs` are options of `generate` (a streamer,
        sampling, beams, a generation config).
        """
        if object_embeddings is None and expert_pixel_values is not None:
            object_embeddings = self._embed_objects(expert_pixel_values, object_cells, object_images, masks)
        embeds, image_positions, layer_features = self._embed_all(
            input_ids, pixel_values, image_grid, object_embeddings
        )
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if position_ids is None:
            position_ids = self.compute_position_ids(input_ids, attention_mask, image_grid)
        if layer_features and image_positions is not None:
            dense = embeds.new_zeros(len(layer_features), *embeds.shape)
            for layer, features in zip(dense, layer_features, strict=True):
                layer.flatten(0, 1)[image_positions] = features.to(dense.dtype)
            kwargs["deep_features"] = dense.transpose(0, 1)
        # batch first, since beams and several replies a prompt repeat every tensor along its first axis
        start = position_ids.unsqueeze(1) if position_ids.ndim == 2 else position_ids.transpose(0, 1)
        return super().generate(inputs_embeds=embeds, attention_mask=attention_mask, start_positions=start, **kwargs)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        start_positions: Tensor,
        inputs_embeds: Tensor | None = None,
        deep_features: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Prepare a step of `generate`: first the prompt's positions `[b, axes, t]`, then those after their last."""
        prepared: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **kwargs
        )
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


def _replace_tokens(embeds: Tensor, positions: Tensor, values: Tensor, kind: str) -> Tensor:
    """Return embeddings `[b, t, d]` with values `[n, d]` at positions `[n]`; ValueError if their numbers differ."""
    if len(positions) != len(values):
        raise ValueError(f"{len(positions)} {kind} tokens in the text, but {len(values)} {kind} embeddings for them")
    return embeds.flatten(0, 1).index_copy(0, positions, values.to(embeds.dtype)).view_as(embeds)

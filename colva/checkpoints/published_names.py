"""Names of tensors: those of `ColvaModel`, those of the published folders, and the mapping between them.

Names of a `ColvaModel` begin with `backbone.model.` (followed by transformers' own names), `expert.` or `adapter.`. The
rules are written in one direction, from these to the published names; `map_tensors` inverts them. Where one published
tensor fuses several (queries, keys and values), each of them is a set of its rows, so both directions and LoRA follow
from the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig

from colva.model.experts.radio_names import to_published_name

Layout = Literal["colva", "transformers", "internvl", "internlm2"]
"""Whose names a folder uses. `internvl`: original InternVL with a text model named as in transformers. `internlm2`: the
same with InternLM2's own names."""

_PREFIX: Final = "backbone.model."
_EXPERT: Final = "object_tokenizer."

# (name below `backbone.model.`, original name), as regular expressions and replacements
_VISION: Final = (
    (r"model\.vision_tower\.embeddings\.cls_token", "vision_model.embeddings.class_embedding"),
    (r"model\.vision_tower\.embeddings\.position_embeddings", "vision_model.embeddings.position_embedding"),
    (
        r"model\.vision_tower\.embeddings\.patch_embeddings\.projection\.(\w+)",
        r"vision_model.embeddings.patch_embedding.\1",
    ),
    (r"model\.vision_tower\.encoder\.layer\.(\d+)\.lambda_([12])", r"vision_model.encoder.layers.\1.ls\2"),
    (
        r"model\.vision_tower\.encoder\.layer\.(\d+)\.attention\.projection_layer\.(\w+)",
        r"vision_model.encoder.layers.\1.attn.proj.\2",
    ),
    (
        r"model\.vision_tower\.encoder\.layer\.(\d+)\.attention\.([qk]_norm)\.weight",
        r"vision_model.encoder.layers.\1.attn.\2.weight",
    ),
    (
        r"model\.vision_tower\.encoder\.layer\.(\d+)\.layernorm_before\.(\w+)",
        r"vision_model.encoder.layers.\1.norm1.\2",
    ),
    (r"model\.vision_tower\.encoder\.layer\.(\d+)\.layernorm_after\.(\w+)", r"vision_model.encoder.layers.\1.norm2.\2"),
    (
        r"model\.vision_tower\.encoder\.layer\.(\d+)\.mlp\.(fc[12])\.(\w+)",
        r"vision_model.encoder.layers.\1.mlp.\2.\3",
    ),
    (r"model\.multi_modal_projector\.layer_norm\.(\w+)", r"mlp1.0.\1"),
    (r"model\.multi_modal_projector\.linear_1\.(\w+)", r"mlp1.1.\1"),
    (r"model\.multi_modal_projector\.linear_2\.(\w+)", r"mlp1.3.\1"),
)
_VISION_QKV: Final = re.compile(r"model\.vision_tower\.encoder\.layer\.(\d+)\.attention\.([qkv])_proj\.(\w+)")
_TEXT: Final = (
    (r"model\.language_model\.(.+)", r"language_model.model.\1"),
    (r"lm_head\.(\w+)", r"language_model.lm_head.\1"),
)
# InternLM2's names (arXiv 2403.17297; modeling_internlm2.py)
_INTERNLM2: Final = (
    (r"model\.language_model\.embed_tokens\.weight", "language_model.model.tok_embeddings.weight"),
    (r"model\.language_model\.norm\.weight", "language_model.model.norm.weight"),
    (
        r"model\.language_model\.layers\.(\d+)\.self_attn\.o_proj\.(\w+)",
        r"language_model.model.layers.\1.attention.wo.\2",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.mlp\.gate_proj\.weight",
        r"language_model.model.layers.\1.feed_forward.w1.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.mlp\.down_proj\.weight",
        r"language_model.model.layers.\1.feed_forward.w2.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.mlp\.up_proj\.weight",
        r"language_model.model.layers.\1.feed_forward.w3.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.input_layernorm\.weight",
        r"language_model.model.layers.\1.attention_norm.weight",
    ),
    (
        r"model\.language_model\.layers\.(\d+)\.post_attention_layernorm\.weight",
        r"language_model.model.layers.\1.ffn_norm.weight",
    ),
    (r"lm_head\.weight", "language_model.output.weight"),
)
_INTERNLM2_QKV: Final = re.compile(r"model\.language_model\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)")

# names before transformers 4.52, which published folders still have: (old, name below `backbone.model.`)
_OLD_KEYS: Final = {
    "internvl": (
        (r"^language_model\.model\.", "model.language_model."),
        (r"^language_model\.lm_head\.", "lm_head."),
        (r"^vision_tower\.", "model.vision_tower."),
        (r"^multi_modal_projector\.", "model.multi_modal_projector."),
    ),
    "qwen2_vl": (
        (r"^visual\.", "model.visual."),
        (r"^model\.(?!language_model\.|visual\.)", "model.language_model."),
    ),
}
_OLD_KEYS["llava"] = _OLD_KEYS["internvl"]
_OLD_KEYS["llava_onevision"] = (*_OLD_KEYS["internvl"], (r"^image_newline$", "model.image_newline"))
_OLD_KEYS["qwen2_5_vl"] = _OLD_KEYS["qwen2_vl"]


@dataclass(frozen=True)
class TensorMapping:
    """One published tensor and the tensors of a `ColvaModel` that it holds.

    Attributes:
        published_name: its name.
        names: in the model, one or (fused) three.
        rows: for a fused tensor the rows of each of `names` (int64 `[n_i]`), which together are all of its rows; else
            None.
    """

    published_name: str
    names: tuple[str, ...]
    rows: tuple[Tensor, ...] | None = None

    def split(self, tensor: Tensor) -> list[Tensor]:
        """Return the model's tensors of a published one."""
        return [tensor] if self.rows is None else [tensor[rows] for rows in self.rows]

    def join(self, tensors: list[Tensor]) -> Tensor:
        """Return the published tensor of the model's."""
        if self.rows is None:
            return tensors[0]
        fused = tensors[0].new_empty(sum(len(rows) for rows in self.rows), *tensors[0].shape[1:])
        for rows, tensor in zip(self.rows, tensors, strict=True):
            fused[rows] = tensor
        return fused


def map_tensors(names: Iterable[str], config: PretrainedConfig, layout: Layout) -> dict[str, TensorMapping]:
    """Return the published tensors that hold the given tensors of a `ColvaModel`, by published name.

    Args:
        names: in a `ColvaModel`.
        config: the backbone's native configuration, for the rows of fused tensors.
        layout: of the published folder.

    Raises:
        ValueError: a name that the layout has no tensor for.
    """
    parts: dict[str, dict[int, str]] = {}
    fusions: dict[str, _Fusion] = {}
    for name in names:
        published_name, part, fusion = _to_published_name(name, config, layout)
        parts.setdefault(published_name, {})[part] = name
        if fusion is not None:
            fusions[published_name] = fusion
    rows_by_fusion = {fusion: fusion.rows() for fusion in set(fusions.values())}  # layers share their rows
    mappings = {}
    for published_name, names_by_part in parts.items():
        fusion = fusions.get(published_name)
        ordered = tuple(names_by_part[part] for part in sorted(names_by_part))
        mappings[published_name] = TensorMapping(
            published_name, ordered, None if fusion is None else rows_by_fusion[fusion]
        )
    return mappings


@dataclass(frozen=True)
class _ConcatenatedQkv:
    """Queries, keys and values one after the other, each of the same width."""

    width: int

    def rows(self) -> tuple[Tensor, ...]:
        return tuple(torch.arange(3 * self.width).chunk(3))


@dataclass(frozen=True)
class _GroupedQkv:
    """InternLM2's `wqkv`: for each key head its query heads, then the key, then the value."""

    heads: int
    key_heads: int
    head_dim: int

    def rows(self) -> tuple[Tensor, ...]:
        groups = self.heads // self.key_heads
        grid = torch.arange((self.heads + 2 * self.key_heads) * self.head_dim)
        grid = grid.view(self.key_heads, groups + 2, self.head_dim)
        return grid[:, :groups].flatten(), grid[:, groups].flatten(), grid[:, groups + 1].flatten()


_Fusion = _ConcatenatedQkv | _GroupedQkv


def _to_published_name(name: str, config: PretrainedConfig, layout: Layout) -> tuple[str, int, _Fusion | None]:
    """Return the name in a layout, the number of the part in a fused tensor, and how that tensor is fused."""
    if layout == "colva":
        return name, 0, None
    if name.startswith("adapter."):
        return "ot_mlp1." + name.removeprefix("adapter."), 0, None
    if name.startswith("expert."):
        inner = name.removeprefix("expert.")
        return _EXPERT + (to_published_name(inner) or inner), 0, None
    inner = name.removeprefix(_PREFIX)
    if layout == "transformers":
        return inner, 0, None
    match = _VISION_QKV.fullmatch(inner)
    if match:
        published_name = f"vision_model.encoder.layers.{match[1]}.attn.qkv.{match[3]}"
        return published_name, "qkv".index(match[2]), _ConcatenatedQkv(config.vision_config.hidden_size)
    table: tuple[tuple[str, str], ...] = _VISION + _TEXT
    if layout == "internlm2":
        table = _VISION + _INTERNLM2
        match = _INTERNLM2_QKV.fullmatch(inner)
        if match:
            text = config.get_text_config()
            fusion = _GroupedQkv(text.num_attention_heads, text.num_key_value_heads, text.head_dim)
            published_name = f"language_model.model.layers.{match[1]}.attention.wqkv.{match[3]}"
            return published_name, "qkv".index(match[2]), fusion
    for pattern, replacement in table:
        match = re.fullmatch(pattern, inner)
        if match:
            return match.expand(replacement), 0, None
    raise ValueError(f"{name} has no name in the original layout")


def upgrade_key(name: str, model_type: str) -> str:
    """Return the current transformers name of a tensor in a transformers folder of any age."""
    for pattern, replacement in _OLD_KEYS.get(model_type, ()):
        upgraded, count = re.subn(pattern, replacement, name)
        if count:
            return upgraded
    return name


def skip_reason(name: str) -> str | None:
    """Return why a tensor of a published folder is not needed; None when it may be needed."""
    if name.endswith("rotary_emb.inv_freq"):
        return "computed from the configuration"
    if name.endswith("num_batches_tracked"):
        return "used in training only"
    return None

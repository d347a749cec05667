"""Names of tensors: those of `ColvaModel`, those of the published folders, and the mapping between them.

Names of a `ColvaModel` begin with `backbone.model.` (followed by transformers' own names), `expert.` or `adapter.`. The
rules are written in one direction, from these to the published names; `map_tensors` inverts them. Where one published
tensor fuses several (queries, keys and values), each of them is a set of its rows, so both directions and LoRA follow
from the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from torch import Tensor
from transformers import PretrainedConfig

from colva.model.experts.radio_names import to_published

Dialect = Literal["ours", "native", "internvl", "internlm2"]
"""`native`: transformers' folders. `internvl`: original InternVL with a text model named as in transformers.
`internlm2`: the same with InternLM2's own names."""

_PREFIX: Final = "backbone.model."
_EXPERT: Final = "object_tokenizer."

# (ours below `backbone.model.`, the original), as regular expressions and replacements
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

# transformers' models before 4.52, as the published folders still have them: (published, ours below the prefix)
_OLDER: Final = {
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
_OLDER["llava"] = _OLDER["internvl"]
_OLDER["qwen2_5_vl"] = _OLDER["qwen2_vl"]


@dataclass(frozen=True)
class TensorMapping:
    """One published tensor and the tensors of ours that it holds.

    Attributes:
        other: its name.
        ours: names, one or (fused) three.
        rows: for fused ones the rows of each of ours `[n_i]` int64, which together are all of its rows; else None.
    """

    other: str
    ours: tuple[str, ...]
    rows: tuple[Tensor, ...] | None = None

    def split(self, tensor: Tensor) -> list[Tensor]:
        """The published tensor as ours."""
        return [tensor] if self.rows is None else [tensor[rows] for rows in self.rows]

    def join(self, tensors: list[Tensor]) -> Tensor:
        """Ours as the published tensor."""
        if self.rows is None:
            return tensors[0]
        first = tensors[0]
        whole = first.new_empty(sum(len(rows) for rows in self.rows), *first.shape[1:])
        for rows, tensor in zip(self.rows, tensors, strict=True):
            whole[rows] = tensor
        return whole


def map_tensors(names: Iterable[str], config: PretrainedConfig, dialect: Dialect) -> dict[str, TensorMapping]:
    """Every published tensor for the given tensors of ours, by its name.

    Args:
        names: of a `ColvaModel`.
        config: the backbone's native configuration, for the rows of fused tensors.
        dialect: whose names.
    """
    parts: dict[str, dict[int, str]] = {}
    rows: dict[str, Callable[[], tuple[Tensor, ...]]] = {}
    for name in names:
        other, slot, fused = _other(name, config, dialect)
        parts.setdefault(other, {})[slot] = name
        if fused is not None:
            rows[other] = fused
    made: dict[Any, tuple[Tensor, ...]] = {}  # layers share their rows
    found = {}
    for other, ours in parts.items():
        of = rows.get(other)
        if of is not None and of not in made:
            made[of] = of()
        listed = tuple(ours[slot] for slot in sorted(ours))
        found[other] = TensorMapping(other, listed, None if of is None else made[of])
    return found


@dataclass(frozen=True)
class _Thirds:
    """Queries, keys and values one after the other."""

    width: int

    def __call__(self) -> tuple[Tensor, ...]:
        return tuple(torch.arange(3 * self.width).chunk(3))


@dataclass(frozen=True)
class _Grouped:
    """InternLM2's `wqkv`: for each key head its query heads, then the key, then the value."""

    heads: int
    key_heads: int
    head_dim: int

    def __call__(self) -> tuple[Tensor, ...]:
        groups = self.heads // self.key_heads
        grid = torch.arange((self.heads + 2 * self.key_heads) * self.head_dim)
        grid = grid.view(self.key_heads, groups + 2, self.head_dim)
        return grid[:, :groups].flatten(), grid[:, groups].flatten(), grid[:, groups + 1].flatten()


def _other(
    name: str, config: PretrainedConfig, dialect: Dialect
) -> tuple[str, int, Callable[[], tuple[Tensor, ...]] | None]:
    """Name in the dialect, which part of it, and its rows when it is fused."""
    if dialect == "ours":
        return name, 0, None
    if name.startswith("adapter."):
        return "ot_mlp1." + name.removeprefix("adapter."), 0, None
    if name.startswith("expert."):
        inner = name.removeprefix("expert.")
        return _EXPERT + (to_published(inner) or inner), 0, None
    inner = name.removeprefix(_PREFIX)
    if dialect == "native":
        return inner, 0, None
    fused = _VISION_QKV.fullmatch(inner)
    if fused:
        other = f"vision_model.encoder.layers.{fused[1]}.attn.qkv.{fused[3]}"
        return other, "qkv".index(fused[2]), _Thirds(config.vision_config.hidden_size)
    table: tuple[tuple[str, str], ...] = _VISION + _TEXT
    if dialect == "internlm2":
        table = _VISION + _INTERNLM2
        fused = _INTERNLM2_QKV.fullmatch(inner)
        if fused:
            text = config.get_text_config()
            grouped = _Grouped(text.num_attention_heads, text.num_key_value_heads, text.head_dim)
            other = f"language_model.model.layers.{fused[1]}.attention.wqkv.{fused[3]}"
            return other, "qkv".index(fused[2]), grouped
    for pattern, replacement in table:
        match = re.fullmatch(pattern, inner)
        if match:
            return match.expand(replacement), 0, None
    raise ValueError(f"{name} has no name in the original layout")


def upgrade_key(name: str, model_type: str) -> str:
    """A name of a transformers folder of any age as transformers has it now."""
    for pattern, replacement in _OLDER.get(model_type, ()):
        changed, count = re.subn(pattern, replacement, name)
        if count:
            return changed
    return name


def skip_reason(name: str) -> str | None:
    """Why a tensor of a published folder is not needed, or None when it is not known to be so."""
    if name.endswith("rotary_emb.inv_freq"):
        return "computed from the configuration"
    if name.endswith("num_batches_tracked"):
        return "of training only"
    return None

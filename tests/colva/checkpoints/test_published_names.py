"""Names and rows of fused tensors, against einops and transformers' own conversion recipe."""

from __future__ import annotations

import einops
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CONFIG_MAPPING, InternVLConfig

from colva.checkpoints.published_names import TensorMapping, map_tensors, skip_reason, upgrade_key

LAYER = "backbone.model.model.language_model.layers.0.self_attn."
QKV = [f"{LAYER}{part}_proj.weight" for part in "qkv"]


def config(groups: int, key_heads: int, head_dim: int) -> InternVLConfig:
    heads = groups * key_heads
    text = CONFIG_MAPPING["llama"](
        hidden_size=heads * head_dim, num_attention_heads=heads, num_key_value_heads=key_heads, head_dim=head_dim
    )
    return InternVLConfig(text_config=text.to_dict())


def wqkv(groups: int, key_heads: int, head_dim: int) -> TensorMapping:
    found = map_tensors(QKV, config(groups, key_heads, head_dim), "internlm2")
    assert list(found) == ["language_model.model.layers.0.attention.wqkv.weight"]
    return found.popitem()[1]


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from([2, 4, 8]))
def test_wqkv_as_internlm2_divides_it(groups: int, key_heads: int, head_dim: int) -> None:
    rows = (groups + 2) * key_heads * head_dim
    fused = torch.randn(rows, 5)
    q, k, v = wqkv(groups, key_heads, head_dim).split(fused)
    parts = einops.rearrange(fused, "(h gs d) z -> h gs d z", gs=2 + groups, d=head_dim)
    assert torch.equal(q, einops.rearrange(parts[:, :groups], "h gs d z -> (h gs d) z"))
    assert torch.equal(k, einops.rearrange(parts[:, -2], "h d z -> (h d) z"))
    assert torch.equal(v, einops.rearrange(parts[:, -1], "h d z -> (h d) z"))


@given(st.integers(1, 6), st.integers(1, 4), st.sampled_from([2, 4]))
def test_join_inverts_split(groups: int, key_heads: int, head_dim: int) -> None:
    mapping = wqkv(groups, key_heads, head_dim)
    fused = torch.randn((groups + 2) * key_heads * head_dim, 3)
    assert torch.equal(mapping.join(mapping.split(fused)), fused)


@pytest.mark.parametrize(
    ("model_type", "published", "ours"),
    [
        ("internvl", "language_model.model.layers.0.x", "model.language_model.layers.0.x"),
        ("internvl", "language_model.lm_head.weight", "lm_head.weight"),
        ("internvl", "model.vision_tower.x", "model.vision_tower.x"),
        ("llava", "multi_modal_projector.linear_1.bias", "model.multi_modal_projector.linear_1.bias"),
        ("llava", "vision_tower.vision_model.x", "model.vision_tower.vision_model.x"),
        ("llava_onevision", "image_newline", "model.image_newline"),
        ("llava_onevision", "language_model.model.layers.0.x", "model.language_model.layers.0.x"),
        ("qwen2_vl", "visual.blocks.0.x", "model.visual.blocks.0.x"),
        ("qwen2_vl", "model.layers.0.x", "model.language_model.layers.0.x"),
        ("qwen2_5_vl", "model.language_model.layers.0.x", "model.language_model.layers.0.x"),
        ("qwen2_vl", "model.visual.x", "model.visual.x"),
        ("qwen2_vl", "lm_head.weight", "lm_head.weight"),
        ("qwen3_vl", "model.language_model.layers.0.x", "model.language_model.layers.0.x"),
    ],
)
def test_keys_of_old_transformers_are_upgraded(model_type: str, published: str, ours: str) -> None:
    assert upgrade_key(published, model_type) == ours


def test_only_known_tensors_are_skipped() -> None:
    assert skip_reason("model.layers.0.self_attn.rotary_emb.inv_freq")
    assert skip_reason("model.layers.0.self_attn.q_proj.weight") is None


def test_name_without_a_counterpart() -> None:
    with pytest.raises(ValueError, match="no name in the original layout"):
        map_tensors(["backbone.model.model.visual.x"], config(1, 1, 2), "internvl")

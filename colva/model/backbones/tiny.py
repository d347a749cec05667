"""Configurations so small that a forward takes milliseconds, for toy checkpoints and tests."""

from __future__ import annotations

from typing import Any

from transformers import (
    InternVLConfig,
    LlavaConfig,
    LlavaOnevisionConfig,
    PretrainedConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
)

INTERNVL_TEXTS = ("phi3", "qwen2", "llama", "qwen3")
FAMILIES = (
    *("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava", "llava_onevision"),
    *(f"internvl-{text}" for text in INTERNVL_TEXTS),
)
WIDTH = 64


def tiny_config(family: str, vocabulary: int = 256, tied: bool = False) -> PretrainedConfig:
    """Return the native configuration of a tiny model: width 64, two layers.

    Its special tokens are the last of the vocabulary: image (last), video, and Qwen-VL's vision start and end. Set them
    again when there is a tokenizer.

    Args:
        family: one of FAMILIES; `internvl` is InternVL with Qwen2.
        vocabulary: number of tokens, at least 16.
        tied: whether the head shares the embeddings' weights.

    Raises:
        ValueError: an unknown family, or too small a vocabulary.
    """
    if vocabulary < 16:
        raise ValueError(f"vocabulary: {vocabulary}; expected at least 16")
    text: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": tied,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    image = vocabulary - 1
    if family == "internvl" or family in {f"internvl-{name}" for name in INTERNVL_TEXTS}:
        kind = family.removeprefix("internvl").removeprefix("-") or "qwen2"
        if kind == "qwen3":
            text["head_dim"] = 16
        vision: dict[str, Any] = {**_square_vision(28), "image_size": [28, 28], "patch_size": [7, 7]}
        return InternVLConfig(
            vision_config=vision,
            text_config={"model_type": kind, **text},
            image_token_id=image,
            tie_word_embeddings=tied,
        )
    if family == "llava":
        return LlavaConfig(
            vision_config={
                "model_type": "clip_vision_model",
                **_square_vision(28),
                "patch_size": 7,
                "projection_dim": 32,
            },
            text_config={"model_type": "llama", **text},
            image_token_index=image,
            image_seq_length=16,
            tie_word_embeddings=tied,
        )
    if family == "llava_onevision":
        # as in the published model, the last pixels of a side are in no patch
        tower = {"model_type": "siglip_vision_model", **_square_vision(30), "patch_size": 7, "vision_use_head": False}
        return LlavaOnevisionConfig(
            vision_config=tower,
            text_config={"model_type": "qwen2", **text},
            image_token_index=image,
            video_token_index=vocabulary - 2,
            image_grid_pinpoints=[[30, 30], [30, 60], [60, 30]],
            tie_word_embeddings=tied,
        )
    special = {
        "image_token_id": image,
        "video_token_id": vocabulary - 2,
        "vision_start_token_id": vocabulary - 3,
        "vision_end_token_id": vocabulary - 4,
        "tie_word_embeddings": tied,
    }
    # a head of 16 has 8 frequencies, which time, rows and columns share
    rope: dict[str, Any] = {"rope_type": "default", "type": "default", "mrope_section": [2, 3, 3]}
    if family == "qwen2_vl":
        vision = {"depth": 2, "embed_dim": 32, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14}
        return Qwen2VLConfig(text_config={**text, "rope_scaling": rope}, vision_config=vision, **special)
    deep = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": WIDTH}
    if family == "qwen2_5_vl":
        vision = {**deep, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}
        return Qwen2_5_VLConfig(text_config={**text, "rope_scaling": rope}, vision_config=vision, **special)
    if family == "qwen3_vl":
        vision = {**deep, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
        rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "mrope_interleaved": True}
        return Qwen3VLConfig(
            text_config={**text, "head_dim": 16, "rope_scaling": rope}, vision_config=vision, **special
        )
    raise ValueError(f"family {family!r} is not one of {', '.join(FAMILIES)}")


def _square_vision(side: int) -> dict[str, Any]:
    """Return the fields of a vision transformer for square images."""
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": side,
    }

"""Image preparation: one module a model family, and the table that chooses between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from transformers import PretrainedConfig

from colva.processing.image_processors.base import ImageProcessor
from colva.processing.image_processors.internvl import InternVLImageProcessor, build_internvl_processor
from colva.processing.image_processors.llava import build_llava_processor
from colva.processing.image_processors.llava_onevision import build_llava_onevision_processor
from colva.processing.image_processors.qwen_vl import QwenImageProcessor, build_qwen_processor
from colva.processing.published_eval import MAX_TILES, QWEN_SIDE

BUILDERS: dict[str, Callable[[PretrainedConfig, dict[str, Any]], ImageProcessor]] = {
    "internvl": build_internvl_processor,
    "llava": build_llava_processor,
    "llava_onevision": build_llava_onevision_processor,
    "qwen2_5_vl": build_qwen_processor,
    "qwen2_vl": build_qwen_processor,
    "qwen3_vl": build_qwen_processor,
}
"""Builders of image processors by the `model_type` of the native configuration."""


def build_image_processor(
    config: PretrainedConfig, options: dict[str, Any], published_eval: bool = False
) -> ImageProcessor:
    """Build the image processor of a native configuration.

    Args:
        config: the backbone's native configuration.
        options: the family's own, such as `{"max_tiles": 12}`; each module of this package lists them.
        published_eval: prepare images as the published evaluation does, see `colva.processing.published_eval`.

    Raises:
        OptionError: an unknown option or value.
        ValueError: an unknown family, or a configuration that cannot be prepared for.
    """
    build = BUILDERS.get(config.model_type)
    if build is None:
        raise ValueError(f"model_type {config.model_type!r} is not one of {', '.join(sorted(BUILDERS))}")
    processor = build(config, options)
    if published_eval and isinstance(processor, InternVLImageProcessor):
        return replace(processor, max_tiles=min(processor.max_tiles, MAX_TILES))
    if published_eval and isinstance(processor, QwenImageProcessor):
        return replace(processor, square=QWEN_SIDE)
    return processor

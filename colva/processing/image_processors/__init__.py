"""Image preparation: one module a model family, and the table that chooses between them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import PretrainedConfig

from colva.processing.image_processors.base import ImageProcessor
from colva.processing.image_processors.internvl import build_internvl_processor
from colva.processing.image_processors.llava import build_llava_processor
from colva.processing.image_processors.qwen_vl import build_qwen_processor

BUILDERS: dict[str, Callable[[PretrainedConfig, dict[str, Any]], ImageProcessor]] = {
    "internvl": build_internvl_processor,
    "llava": build_llava_processor,
    "qwen2_5_vl": build_qwen_processor,
    "qwen2_vl": build_qwen_processor,
    "qwen3_vl": build_qwen_processor,
}
"""Builders of image processors by the `model_type` of the native configuration."""


def build_image_processor(config: PretrainedConfig, options: dict[str, Any]) -> ImageProcessor:
    """Build the image processor of a native configuration.

    Args:
        config: the backbone's native configuration.
        options: the family's own, such as `{"max_tiles": 12}`; each module of this package lists them.

    Raises:
        OptionError: an unknown option or value.
        ValueError: an unknown family, or a configuration that cannot be prepared for.
    """
    build = BUILDERS.get(config.model_type)
    if build is None:
        raise ValueError(f"model_type {config.model_type!r} is not one of {', '.join(sorted(BUILDERS))}")
    return build(config, options)

"""LLaVA-OneVision: one square an image, 384 pixels, 27 x 27 tokens by SigLIP and a newline (arXiv 2408.03326).

This is the published form of conversations with several images, as all those about correspondence are. The published
form of a conversation with a single image, which is cut into tiles, is not used: every image gets the one square.
"""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor

from colva.processing.image_processors.base import check_image_options
from colva.processing.image_processors.llava import LlavaImageProcessor


def build_llava_onevision_processor(config: PretrainedConfig, options: dict[str, Any]) -> LlavaImageProcessor:
    """Build the processor of a native configuration; it has no options.

    Raises:
        OptionError: an option.
        ValueError: a vision tower other than SigLIP, or tokens that are not those of all its patches.
    """
    check_image_options(options, {})
    vision = config.vision_config
    if vision.model_type != "siglip_vision_model":
        raise ValueError(f"vision_config.model_type: {vision.model_type!r}; expected siglip_vision_model")
    if config.vision_feature_select_strategy != "full":
        raise ValueError(
            f"vision_feature_select_strategy: {config.vision_feature_select_strategy!r}; expected full, since SigLIP "
            "has no class token"
        )
    side, patch = int(vision.image_size), int(vision.patch_size)
    cells = side // patch  # the last pixels of a side are in no patch
    processor = SiglipImageProcessor(size={"height": side, "width": side})
    return LlavaImageProcessor(processor, side, cells, class_token=False, covered=cells * patch, newline=True)

"""Norms of text, image and object tokens at the start of stage 2.

A new adapter whose object tokens are much longer or shorter than text embeddings starts far from what the language
model reads; `adapter.match_text_norm` scales it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from colva.model.colva import ColvaModel
from colva.training.stage import Batch


def measure_token_norms(model: ColvaModel, batch: Batch) -> dict[str, float]:
    """Median Euclidean norms of the embeddings that a batch puts into the language model.

    Args:
        model: with weights, not sharded.
        batch: of stage 2, as its collator returns it; on any device.

    Returns:
        `norm_text` of the batch's text tokens, `norm_image` of its image tokens and `norm_object` of its object
        tokens; without a key for a kind that the batch does not have.
    """
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
    ids = inputs["input_ids"]
    is_text = inputs["attention_mask"].bool() if "attention_mask" in inputs else torch.ones_like(ids, dtype=torch.bool)
    for placeholder in (model.config.image_token_id, model.config.object_token_id):
        is_text = is_text & (ids != placeholder) if placeholder is not None else is_text
    with torch.no_grad():
        vectors = {"norm_text": model.backbone.embed(ids)[is_text]}
        if "pixel_values" in inputs:
            vectors["norm_image"] = model.encode_images(inputs["pixel_values"], inputs.get("image_grid"))
        if "object_embeddings" in inputs:
            vectors["norm_object"] = inputs["object_embeddings"]
        elif "expert_pixel_values" in inputs:
            vectors["norm_object"] = model.pool_object_cells(
                inputs["expert_pixel_values"], inputs["object_cells"], inputs["object_images"]
            )
    return {name: _median_norm(values) for name, values in vectors.items() if values.numel()}


def _median_norm(vectors: Tensor) -> float:
    return round(float(torch.linalg.vector_norm(vectors.float().flatten(0, -2), dim=1).median()), 4)

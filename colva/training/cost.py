"""What a step of stage 2 costs, counted from the shapes."""

from __future__ import annotations

from torch import nn

from colva.model.colva import ColvaModel
from colva.training.stage import Batch


def step_flops(model: ColvaModel, batch: Batch, units: int) -> float:
    """Floating-point operations of forward and backward; recomputation is not counted.

    A product with a frozen weight costs two operations a parameter and token forward, and two backward (for the
    gradient of its input); one with a trained weight two more (for its own). The frozen vision tower runs forward
    only, the head on learnt tokens only. Attention is causal inside each conversation: half of t² pairs.
    """
    text = model.backbone.language_model
    config = model.config.get_text_config()
    frozen = trained = 0
    for module in text.modules():
        if isinstance(module, nn.Linear):
            count = module.weight.numel()
            trained += count * module.weight.requires_grad
            frozen += count * (not module.weight.requires_grad)
    tokens = float(batch["tokens"])
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    attention = 2 * width * config.num_attention_heads * config.num_hidden_layers * float(batch["square"])
    head = 4 * units * config.hidden_size * config.vocab_size
    total = tokens * (4 * frozen + 6 * trained) + 3 * attention + head
    return total + _vision_flops(model, batch)


def _vision_flops(model: ColvaModel, batch: Batch) -> float:
    """Forward of the vision tower, attention left out, and of the expert if it runs."""
    total = 0.0
    if "pixel_values" in batch:
        pixels = batch["pixel_values"]
        tower = model.backbone.frozen_parts[0]
        patch = model.config.backbone_config.vision_config.patch_size
        side = patch if isinstance(patch, int) else patch[0]
        patches = (
            len(pixels) if pixels.ndim == 2 else len(pixels) * (pixels.shape[-1] // side) * (pixels.shape[-2] // side)
        )
        total += 2.0 * patches * _linear(tower)
    if "expert_pixel_values" in batch and model.expert is not None:
        canvases = batch["expert_pixel_values"]
        cells = (canvases.shape[-1] // model.expert.stride) ** 2
        total += 2.0 * len(canvases) * cells * _linear(model.expert)
    return total


def _linear(module: nn.Module) -> int:
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))


def activation_bytes(model: ColvaModel, tokens: int, recomputed: bool) -> float:
    """Bytes that the backward pass needs of so many tokens: two bytes a value in bfloat16.

    Of each layer about 12 hidden widths and 4 of the inner one are kept, or with recomputation its input alone and one
    layer's whole while it is recomputed. Logits are of learnt tokens alone and not counted.
    """
    config = model.config.get_text_config()
    layer = 12 * config.hidden_size + 4 * config.intermediate_size
    layers = config.num_hidden_layers
    values = layers * config.hidden_size + layer if recomputed else layers * layer
    return float(2 * tokens * values)

"""Floating-point operations and activation memory of a stage-2 step, counted from the shapes."""

from __future__ import annotations

from torch import Tensor, nn

from colva.model.colva import ColvaModel
from colva.training.stage import Batch


def estimate_step_flops(model: ColvaModel, batch: Batch, num_targets: int) -> float:
    """Floating-point operations of forward and backward; recomputation is not counted.

    Per parameter and token, a product with a frozen weight costs two operations forward and two backward (for the
    gradient of its input), and one with a trained weight two more (for its own gradient). The frozen vision tower runs
    forward only, the head on target tokens only. Attention is causal inside each conversation: half of t² pairs.

    Args:
        model: with what is trained selected.
        batch: of stage 2.
        num_targets: target tokens of the batch.
    """
    text = model.backbone.language_model
    config = model.config.get_text_config()
    frozen = trained = 0
    for module in text.modules():
        if isinstance(module, nn.Linear):
            count = _count_values(module.weight)
            trained += count * module.weight.requires_grad
            frozen += count * (not module.weight.requires_grad)
    tokens = float(batch["tokens"])
    width = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    attention = 2 * width * config.num_attention_heads * config.num_hidden_layers * float(batch["square"])
    is_head_trained = model.get_output_embeddings().get_parameter("weight").requires_grad
    head = (6 if is_head_trained else 4) * num_targets * config.hidden_size * config.vocab_size
    total = tokens * (4 * frozen + 6 * trained) + 3 * attention + head
    return float(total + _vision_flops(model, batch))


def _vision_flops(model: ColvaModel, batch: Batch) -> float:
    """Operations of the vision tower's forward pass without attention, and of the expert's if it runs."""
    total = 0.0
    if "pixel_values" in batch:
        pixels = batch["pixel_values"]
        tower = model.backbone.frozen_parts[0]
        patch = model.config.backbone_config.vision_config.patch_size
        side = patch if isinstance(patch, int) else patch[0]
        patches = (
            len(pixels) if pixels.ndim == 2 else len(pixels) * (pixels.shape[-1] // side) * (pixels.shape[-2] // side)
        )
        total += 2.0 * patches * _count_linear_weights(tower)
    if "expert_pixel_values" in batch and model.expert is not None:
        canvases = batch["expert_pixel_values"]
        tokens = (canvases.shape[-1] // model.expert.stride) ** 2
        total += 2.0 * len(canvases) * tokens * _count_linear_weights(model.expert)
    return total


def _count_linear_weights(module: nn.Module) -> int:
    return sum(_count_values(part.weight) for part in module.modules() if isinstance(part, nn.Linear))


def _count_values(weight: Tensor) -> int:
    """Values of a weight; one that ZeRO 3 has sharded is an empty tensor."""
    return int(getattr(weight, "ds_numel", weight.numel()))


def estimate_activation_bytes(model: ColvaModel, num_tokens: int, gradient_checkpointing: bool) -> float:
    """Bytes of activations that the backward pass needs, at two bytes per value (bfloat16).

    About 12 hidden widths and 4 intermediate widths per token are stored for each layer. With gradient checkpointing
    these are stored for one layer at a time, and for the others only the input. Logits exist for target tokens only
    and are not counted.
    """
    config = model.config.get_text_config()
    layer = 12 * config.hidden_size + 4 * config.intermediate_size
    layers = config.num_hidden_layers
    values = layers * config.hidden_size + layer if gradient_checkpointing else layers * layer
    return float(2 * num_tokens * values)

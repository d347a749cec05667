"""LoRA on the language model with peft."""

from __future__ import annotations

from dataclasses import KW_ONLY
from typing import Annotated

import torch
from peft import LoraConfig, inject_adapter_in_model
from pydantic import Field
from torch import Tensor, nn

from colva.checkpoints.checkpoint import module_name
from colva.data.order import keyed_rng
from colva.model.colva import ColvaModel
from mmvm_data.core.config_values import suggest_name
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import options


@options
class LoraOptions:
    """LoRA (Hu et al., arXiv 2106.09685); the defaults are those of the published InternVL2-4B run.

    Attributes:
        r: rank.
        alpha: the update is scaled by alpha / r.
        dropout: of LoRA's input.
        target_modules: names of linear layers, such as `o_proj`; None selects all of the language model but its head,
            as the published runs do.
    """

    _: KW_ONLY
    r: Annotated[int, Field(ge=1)] = 128
    alpha: Annotated[float, Field(gt=0)] = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    target_modules: tuple[str, ...] | None = None


def add_lora(model: ColvaModel, options: LoraOptions, seed: int) -> list[str]:
    """Add trainable LoRA, in float32, to the language model of a frozen model.

    Args:
        model: is modified.
        options: see `LoraOptions`.
        seed: of the A matrices; B is initialized with zeros.

    Returns:
        Names of the weights that LoRA is applied to, in the model.

    Raises:
        UsageError: a target module that the language model does not have.
    """
    text = model.backbone.language_model
    linear = [name for name, module in text.named_modules() if isinstance(module, nn.Linear)]
    leaves = sorted({name.rpartition(".")[2] for name in linear})
    for target in options.target_modules or ():
        if target not in leaves:
            known = ", ".join(leaves)
            raise UsageError(
                f"lora.target_modules: the language model has no {target!r}{suggest_name(target, leaves)} "
                f"(known: {known})"
            )
    chosen = [
        name for name in linear if options.target_modules is None or name.rpartition(".")[2] in options.target_modules
    ]
    config = LoraConfig(r=options.r, lora_alpha=options.alpha, lora_dropout=options.dropout, target_modules=chosen)
    has_weights = not next(text.parameters()).is_meta
    inject_adapter_in_model(config, text, low_cpu_mem_usage=True)  # on the meta device
    for name, module in text.named_modules():
        for leaf, parameter in module._parameters.items():
            if ".lora_" in name and parameter is not None:
                value = torch.empty(parameter.shape, device="meta")
                if has_weights:
                    value = initial_lora_weight(f"{name}.{leaf}", tuple(parameter.shape), seed)
                module._parameters[leaf] = nn.Parameter(value)
    return [f"{module_name(model, text)}.{name}.weight" for name in chosen]


def initial_lora_weight(name: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """The initial values of a matrix, float32: zeros for B, and for A uniform ones within 1 / sqrt(inputs), as in peft.

    Args:
        name: of the matrix in the language model; with the seed it says which values are drawn, so that layers can be
            initialized in any order.
        shape: of the matrix.
        seed: see `add_lora`.
    """
    if ".lora_B." in name:
        return torch.zeros(shape)
    generator = torch.Generator().manual_seed(keyed_rng(seed, name).getrandbits(63))
    bound = float(shape[1]) ** -0.5
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)

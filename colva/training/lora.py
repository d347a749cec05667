"""LoRA on the language model with peft: added, saved in the layout of `colva merge`, and read back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY
from pathlib import Path
from typing import Annotated

import torch
from peft import LoraConfig, inject_adapter_in_model
from pydantic import Field
from torch import Tensor, nn

from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.trained_weights import LoraWeights, ResolvedWeights, read_trained_weights
from colva.config import suggest_name
from colva.model.colva import ColvaModel
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import options

_SUFFIXES = {"A": ".lora_A.default.weight", "B": ".lora_B.default.weight"}


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
    """Freeze a model and add trainable LoRA, in float32, to its language model.

    Args:
        model: is modified.
        options: see `LoraOptions`.
        seed: of the A matrices; B is initialized with zeros.

    Returns:
        Names of the weights that LoRA is applied to, in the model.

    Raises:
        UsageError: a target module that the language model does not have.
    """
    model.requires_grad_(False)
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, text)
    for name, parameter in text.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    prefix = next(name for name, module in model.named_modules() if module is text)
    return [f"{prefix}.{name}.weight" for name in chosen]


def save_lora(
    folder: Path,
    model: ColvaModel,
    options: LoraOptions,
    weights: Mapping[str, Tensor],
    adapter: Mapping[str, Tensor],
    base: Path,
) -> None:
    """Write LoRA and the adapter as an adapter folder.

    Args:
        folder: exists and is empty.
        model: the model with LoRA.
        options: of LoRA.
        weights: LoRA's, by their names in the model.
        adapter: the adapter's, by its own names; empty for a model without expert.
        base: folder of the model, stored relative to `folder`.
    """
    names = sorted(name.removesuffix(_SUFFIXES["A"]) for name in weights if name.endswith(_SUFFIXES["A"]))
    scale = float(options.alpha) / options.r
    lora = {
        f"{name}.weight": LoraWeights(weights[name + _SUFFIXES["A"]], weights[name + _SUFFIXES["B"]], scale)
        for name in names
    }
    full = {f"adapter.{name}": tensor for name, tensor in adapter.items()}
    write_adapter(folder, model, ResolvedWeights(full, lora), os.path.relpath(base, folder))


def load_lora(folder: Path, model: ColvaModel) -> dict[str, Tensor]:
    """The LoRA weights in an adapter folder, by their names in the model.

    Raises:
        InputError: the folder is damaged, or has no LoRA weights.
    """
    text = model.backbone.language_model
    prefix = next(name for name, module in model.named_modules() if module is text)
    weights = {}
    for name, tensor in read_trained_weights(folder).tensors.items():
        if ".lora_" in name:
            inner = name.removeprefix("backbone.language_model.").removeprefix("base_model.model.")
            side = "A" if ".lora_A." in inner else "B"
            weights[f"{prefix}.{inner.removesuffix(f'.lora_{side}.weight')}{_SUFFIXES[side]}"] = tensor
    if not weights:
        raise InputError(folder, "has no LoRA weights")
    return weights

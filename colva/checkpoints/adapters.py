"""Adapter folders, and trained parameters put into a model.

An adapter folder:

    colva_adapter.json             the model that it is for
    adapter.safetensors            the adapter's parameters, `0.weight` ..
    language_model.safetensors     parameters of the language model that were trained as a whole, by their names in it
    lora/adapter_config.json       peft's own two files, relative to `model.backbone.language_model`
    lora/adapter_model.safetensors
    tokenizer.json ..              the model's tokenizer
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from colva.checkpoints.checkpoint import Checkpoint, head_name, module_name
from colva.checkpoints.lazy_tensors import LazyTensor, wrap_tensors
from colva.checkpoints.save import write_json, write_tensors
from colva.checkpoints.trained_weights import (
    ADAPTER_NOTE,
    ADAPTER_TENSORS,
    LORA_FOLDER,
    MODEL_TENSORS,
    PEFT_CONFIG,
    PEFT_TENSORS,
    LoraWeights,
    ResolvedWeights,
    TrainedWeights,
    resolve_weights,
)
from colva.model.colva import ColvaModel
from mmvm_data.core.errors import UsageError


def apply_weights(model: ColvaModel, trained: TrainedWeights, merge: bool = False) -> ResolvedWeights:
    """Put trained parameters into a model in place; see `resolve_weights` for the errors.

    Args:
        model: with its weights.
        trained: what to put in.
        merge: add LoRA to the weights; otherwise it is injected as peft's modules.
    """
    resolved = resolve_weights(trained, model)
    model.config.use_object_tokens = trained.use_object_tokens
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in resolved.tensors.items():
            state[name].copy_(tensor)
        if merge:
            for name, update in resolved.lora.items():
                state[name].copy_(state[name].float() + update.delta_weight().to(state[name].device))
    if resolved.lora and not merge:
        inject_lora(model, resolved.lora)
    return resolved


def inject_lora(model: ColvaModel, lora: dict[str, LoraWeights]) -> None:
    """Put LoRA into the language model as peft's modules, named `default`."""
    inject_adapter_in_model(build_peft_config(model, lora), model.backbone.language_model)
    for name, update in lora.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, LoraLayer)
        for half, tensor in ((layer.lora_A, update.a), (layer.lora_B, update.b)):
            weight = half["default"].weight
            half["default"].weight = nn.Parameter(tensor.to(weight.device, copy=True), weight.requires_grad)


def build_peft_config(model: ColvaModel, lora: dict[str, LoraWeights]) -> LoraConfig:
    """Return peft's configuration: the most frequent rank and alpha, and patterns for the other modules.

    Raises:
        UsageError: LoRA on a weight outside the language model.
    """
    prefix = module_name(model, model.backbone.language_model) + "."
    outside = [name for name in lora if not name.startswith(prefix)]
    if outside:
        raise UsageError(f"LoRA on {outside[0]}, outside the language model: merge it instead")
    modules = {name.removeprefix(prefix).removesuffix(".weight"): update for name, update in lora.items()}
    ranks = {name: update.rank for name, update in modules.items()}
    alphas = {name: update.scale * ranks[name] for name, update in modules.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        target_modules=sorted(modules),
        rank_pattern={re.escape(name): value for name, value in ranks.items() if value != rank},
        alpha_pattern={re.escape(name): value for name, value in alphas.items() if value != alpha},
    )


def fold_into_checkpoint(checkpoint: Checkpoint, resolved: ResolvedWeights) -> None:
    """Put trained parameters into a checkpoint in place; LoRA is added when a tensor is read.

    Other weights of the language model become of the type that the checkpoint has them in.
    """
    for name, stored in wrap_tensors(resolved.tensors).items():
        dtype = stored.dtype if name.startswith("adapter.") else checkpoint.tensors[name].dtype
        read = stored.read if dtype == stored.dtype else lambda stored=stored, dtype=dtype: stored.read().to(dtype)
        checkpoint.tensors[name] = replace(stored, dtype=dtype, read=read)
    for name, update in resolved.lora.items():
        base = checkpoint.tensors[name]

        def read(base: LazyTensor = base, update: LoraWeights = update) -> Tensor:
            return (base.read().float() + update.delta_weight()).to(base.dtype)

        checkpoint.tensors[name] = replace(base, read=read)


def write_adapter(
    folder: Path, model: ColvaModel, resolved: ResolvedWeights, base: str | None, is_published: bool = False
) -> None:
    """Write the files of an adapter folder, but for the tokenizer, into an existing folder.

    Args:
        folder: exists.
        model: that the weights are for.
        resolved: the adapter's tensors, those of the language model and its head, and LoRA.
        base: the model's folder, relative to `folder`.
        is_published: the weights come from a published file.

    Raises:
        UsageError: other tensors, which the layout has no file for.
    """
    prefixes = (module_name(model, model.backbone.language_model) + ".", head_name(model))
    text = {name: tensor for name, tensor in resolved.tensors.items() if name.startswith(prefixes)}
    others = [name for name in resolved.tensors if name not in text and not name.startswith("adapter.")]
    if others:
        raise UsageError(f"{len(others)} tensors such as {others[0]} do not fit an adapter folder: merge instead")
    note: dict[str, Any] = {"format": 1, "base": base}
    if is_published:
        note["published"] = True
    if not model.config.use_object_tokens:
        note["use_object_tokens"] = False
    write_json(folder / ADAPTER_NOTE, note)
    adapter = {
        name.removeprefix("adapter."): tensor
        for name, tensor in resolved.tensors.items()
        if name.startswith("adapter.")
    }
    if text:
        write_tensors(folder, wrap_tensors(text), stem=MODEL_TENSORS)
    if adapter:
        write_tensors(folder, wrap_tensors(adapter), stem=ADAPTER_TENSORS)
    if resolved.lora:
        (folder / LORA_FOLDER).mkdir()
        prefix = module_name(model, model.backbone.language_model) + "."
        config = build_peft_config(model, resolved.lora).to_dict()
        # peft keeps the modules in a set, whose order varies
        write_json(folder / LORA_FOLDER / PEFT_CONFIG, config | {"target_modules": sorted(config["target_modules"])})
        tensors = {}
        for name, update in resolved.lora.items():
            module = name.removeprefix(prefix).removesuffix(".weight")
            tensors[f"base_model.model.{module}.lora_A.weight"] = update.a
            tensors[f"base_model.model.{module}.lora_B.weight"] = update.b
        write_tensors(folder / LORA_FOLDER, wrap_tensors(tensors), stem=PEFT_TENSORS)


def extract_adapter(model: ColvaModel) -> ResolvedWeights:
    """Return the adapter and the LoRA of a model in memory, on the CPU, as `write_adapter` takes them."""
    tensors = {}
    if model.adapter is not None:
        tensors = {f"adapter.{name}": tensor.detach().cpu() for name, tensor in model.adapter.state_dict().items()}
    lora = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            lora[f"{name}.weight"] = LoraWeights(a.detach().cpu(), b.detach().cpu(), float(layer.scaling["default"]))
    return ResolvedWeights(tensors, lora)

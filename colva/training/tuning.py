"""What stage 2 trains: LoRA on the language model, parts of the model beside it, or the language model as a whole.

Trained weights are saved in the layout of `colva merge` (`colva.checkpoints.adapters`) and read back.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator
from torch import Tensor, nn

from colva.checkpoints.adapters import write_adapter
from colva.checkpoints.checkpoint import module_name
from colva.checkpoints.trained_weights import LoraWeights, ResolvedWeights, read_trained_weights
from colva.model.colva import ColvaModel
from colva.training.lora import LoraOptions, add_lora
from mmvm_data.core.errors import InputError

ModelPart = Literal["head", "embeddings", "norms"]
PARTS: Final[tuple[str, ...]] = get_args(ModelPart)
_SUFFIXES = {"A": ".lora_A.default.weight", "B": ".lora_B.default.weight"}


def _check_tune(value: Any) -> Any:
    is_list = isinstance(value, list | tuple) and bool(value) and all(part in PARTS for part in value)
    if value not in ("lora", "full") and not (is_list and len(set(value)) == len(value)):
        raise ValueError(f"must be lora, full, or a list of {', '.join(PARTS)}, got {value!r}")
    return tuple(value) if is_list else value


Tune = Annotated[Literal["lora", "full"] | tuple[ModelPart, ...], BeforeValidator(_check_tune)]
"""`lora`, `full` (language model and head, without LoRA), or the parts that are trained beside LoRA."""


def select_trained_weights(model: ColvaModel, tune: Tune, lora: LoraOptions, seed: int) -> None:
    """Freeze a model but for what is trained, which becomes float32.

    Args:
        model: is modified; LoRA is added to it unless `tune` is `full`.
        tune: see `Tune`. With tied weights, `head` and `embeddings` are the same.
        lora: see `LoraOptions`.
        seed: of LoRA.

    Raises:
        UsageError: a target module of LoRA that the language model does not have.
    """
    parts = _select_parameters(model, tune)  # before LoRA adds others
    model.requires_grad_(False)
    if tune != "full":
        add_lora(model, lora, seed)
    for parameter in parts:
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)


def _select_parameters(model: ColvaModel, tune: Tune) -> list[nn.Parameter]:
    text = model.backbone.language_model
    modules: list[nn.Module] = []
    if tune == "full":
        modules = [text, model.get_output_embeddings()]
    elif tune != "lora":
        by_part: dict[ModelPart, list[nn.Module]] = {
            "head": [model.get_output_embeddings()],
            "embeddings": [model.get_input_embeddings()],
            "norms": [module for module in text.modules() if type(module).__name__.endswith("Norm")],
        }
        modules = [module for part in tune for module in by_part[part]]
    parameters = {id(parameter): parameter for module in modules for parameter in module.parameters()}
    return list(parameters.values())


def save_trained_weights(
    folder: Path,
    model: ColvaModel,
    options: LoraOptions,
    weights: Mapping[str, Tensor],
    adapter: Mapping[str, Tensor],
    base: Path,
) -> None:
    """Write trained weights and the adapter as an adapter folder.

    Args:
        folder: exists and is empty.
        model: the model, with LoRA if it is trained.
        options: of LoRA.
        weights: LoRA's and others, by their names in the model.
        adapter: the adapter's, by its own names; empty for a model without expert.
        base: folder of the model, stored relative to `folder`.
    """
    names = sorted(name.removesuffix(_SUFFIXES["A"]) for name in weights if name.endswith(_SUFFIXES["A"]))
    scale = float(options.alpha) / options.r
    lora = {
        f"{name}.weight": LoraWeights(weights[name + _SUFFIXES["A"]], weights[name + _SUFFIXES["B"]], scale)
        for name in names
    }
    full = {name: tensor for name, tensor in weights.items() if ".lora_" not in name}
    full |= {f"adapter.{name}": tensor for name, tensor in adapter.items()}
    write_adapter(folder, model, ResolvedWeights(full, lora), os.path.relpath(base, folder))


def load_trained_weights(folder: Path, model: ColvaModel) -> dict[str, Tensor]:
    """The trained weights in an adapter folder without those of the adapter, by their names in the model.

    Raises:
        InputError: the folder is damaged, or has no weights of the language model.
    """
    prefix = module_name(model, model.backbone.language_model)
    weights = {}
    for name, tensor in read_trained_weights(folder).tensors.items():
        if ".lora_" in name:
            inner = name.removeprefix("backbone.language_model.").removeprefix("base_model.model.")
            side = "A" if ".lora_A." in inner else "B"
            weights[f"{prefix}.{inner.removesuffix(f'.lora_{side}.weight')}{_SUFFIXES[side]}"] = tensor
        elif not name.startswith("adapter."):
            weights[name] = tensor
    if not weights:
        raise InputError(folder, "has no weights of the language model")
    return weights

"""Parameters that training added to a model or changed in it, read from adapter folders, `.pth` files and ZeRO shards.

`read_trained_weights` reads a file without a model in mind; `resolve_weights` finds the model's tensors for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor
from transformers import InternVLVisionConfig, PretrainedConfig

from colva.checkpoints.checkpoint import CheckpointError, Shape, expected_shapes, head_name, module_name
from colva.checkpoints.lazy_tensors import check_state_dict, open_safetensors, open_tensor_folder
from colva.checkpoints.pickles import read_pickle
from colva.checkpoints.published_names import Layout, TensorMapping, map_tensors, upgrade_key
from colva.checkpoints.zero import is_zero, read_zero
from colva.model.colva import ColvaModel
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.io.files import path_kind
from mmvm_data.io.json_files import read_json_object

ADAPTER_NOTE: Final = "colva_adapter.json"
ADAPTER_TENSORS: Final = "adapter.safetensors"
MODEL_TENSORS: Final = "language_model.safetensors"
LORA_FOLDER: Final = "lora"
PEFT_CONFIG: Final = "adapter_config.json"
PEFT_TENSORS: Final = "adapter_model.safetensors"

# fields of peft's configuration that change what is computed, with the only value that is supported
_PLAIN_LORA: Final[dict[str, Any]] = {
    "peft_type": "LORA",
    "use_dora": False,
    "use_rslora": False,
    "bias": "none",
    "lora_bias": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "trainable_token_indices": None,
    "target_parameters": None,
    "layer_replication": None,
    "alora_invocation_tokens": None,
}


@dataclass(frozen=True)
class LoraWeights:
    """Low-rank update of one weight: `scale` * `b` `[out, r]` @ `a` `[r, in]`."""

    a: Tensor
    b: Tensor
    scale: float

    @property
    def rank(self) -> int:
        """The rank r."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> Shape:
        """Shape of the weight that is updated."""
        return self.b.shape[0], self.a.shape[1]

    def delta_weight(self) -> Tensor:
        """Return the update `[out, in]` in float32."""
        return self.scale * (self.b.float() @ self.a.float())


@dataclass(frozen=True)
class TrainedWeights:
    """The content of a file or folder of trained parameters.

    Attributes:
        path: the file or folder.
        tensors: by their names in it.
        lora_alpha: None when it is not known.
        lora_config: peft's configuration, of an adapter folder.
        base: the model's folder, relative to the adapter folder that names it.
        alpha_hint: an alpha in the training configuration that the file holds, for a message.
        is_published: it was converted from a published file.
        use_object_tokens: see `ColvaConfig`; of an adapter folder.
    """

    path: Path
    tensors: dict[str, Tensor]
    lora_alpha: float | None = None
    lora_config: dict[str, Any] | None = None
    base: str | None = None
    alpha_hint: str | None = None
    is_published: bool = False
    use_object_tokens: bool = True

    def base_folder(self) -> Path:
        """Return the model's folder; InputError when none is named or it does not exist."""
        if self.base is None:
            raise InputError(self.path, "does not name the model that it is for; give one")
        folder = Path(os.path.normpath(self.path / self.base))
        if path_kind(folder) != "folder":
            file = self.path / ADAPTER_NOTE
            raise InputError(file, f"expected the folder of a model, found nothing at {folder}", "base")
        return folder


@dataclass(frozen=True)
class ResolvedWeights:
    """Trained parameters for one model.

    Attributes:
        tensors: replacements of tensors of the model, by name.
        lora: updates, by the name of the weight.
        sources: name in the model -> name in the file.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    lora: dict[str, LoraWeights] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def is_adapter_folder(path: Path) -> bool:
    """Whether a folder is a CoLVA adapter folder."""
    return path_kind(path / ADAPTER_NOTE) == "file"


def is_trained_weights(path: Path) -> bool:
    """Whether `read_trained_weights` reads it: an adapter folder, a `.pth` file, or DeepSpeed's shards."""
    return is_adapter_folder(path) or path_kind(path) == "file" or is_zero(path)


def read_trained_weights(path: Path, lora_alpha: float | None = None) -> TrainedWeights:
    """Read trained parameters.

    Args:
        path: an adapter folder; a `.pth` of mmengine; a folder of DeepSpeed's shards.
        lora_alpha: for a `.pth` or shards, which do not hold it.

    Raises:
        InputError: none of these, or damaged, or a file that tries to run code.
        UsageError: an alpha for a folder that has one.
    """
    if is_adapter_folder(path):
        if lora_alpha is not None:
            raise UsageError(f"{path}: has its own lora_alpha; give none")
        return _read_adapter_folder(path)
    if is_zero(path):
        return TrainedWeights(path, read_zero(path), lora_alpha)
    if path_kind(path) != "file":
        raise InputError(path, f"expected an adapter folder with {ADAPTER_NOTE}, a .pth file, or DeepSpeed's shards")
    content = read_pickle(path)
    training_config = ""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        meta = content.get("meta")
        training_config = str(meta.get("cfg", "")) if isinstance(meta, dict) else ""
        content = content["state_dict"]
    alphas = set(re.findall(r"lora_alpha['\"]?\s*[=:]\s*([\d.]+)", training_config))
    hint = alphas.pop() if len(alphas) == 1 else None
    return TrainedWeights(path, check_state_dict(content, path), lora_alpha, alpha_hint=hint)


def _read_adapter_folder(path: Path) -> TrainedWeights:
    tensors: dict[str, Tensor] = {}
    note = read_json_object(path / ADAPTER_NOTE)
    base = note.get("base")
    if base is not None and not isinstance(base, str):
        raise InputError(path / ADAPTER_NOTE, f"expected the path of a model, found {base!r}", "base")
    if path_kind(path / ADAPTER_TENSORS) == "file":
        tensors |= {f"adapter.{name}": t.read() for name, t in open_safetensors(path / ADAPTER_TENSORS).items()}
    config = None
    if path_kind(path / LORA_FOLDER) == "folder":
        config = read_json_object(path / LORA_FOLDER / PEFT_CONFIG)
        for name, supported in _PLAIN_LORA.items():
            value = config.get(name, supported)
            if value != supported and not (supported in (False, None) and value in (False, None, [], {})):
                raise InputError(path / LORA_FOLDER / PEFT_CONFIG, f"expected {supported!r}, found {value!r}", name)
        lora = open_safetensors(path / LORA_FOLDER / PEFT_TENSORS)
        tensors |= {f"backbone.language_model.{name}": stored.read() for name, stored in lora.items()}
    if any(path_kind(path / name) == "file" for name in (MODEL_TENSORS, f"{MODEL_TENSORS}.index.json")):
        tensors |= {name: stored.read() for name, stored in open_tensor_folder(path, MODEL_TENSORS).items()}
    if not tensors:
        raise InputError(path, f"expected {ADAPTER_TENSORS}, {MODEL_TENSORS} or a folder {LORA_FOLDER}, found none")
    is_published = note.get("published") is True
    use_object_tokens = note.get("use_object_tokens", True)
    if not isinstance(use_object_tokens, bool):
        reason = f"expected true or false, found {use_object_tokens!r}"
        raise InputError(path / ADAPTER_NOTE, reason, "use_object_tokens")
    return TrainedWeights(
        path,
        tensors,
        lora_config=config,
        base=base,
        is_published=is_published,
        use_object_tokens=use_object_tokens,
    )


def resolve_weights(trained: TrainedWeights, model: ColvaModel) -> ResolvedWeights:
    """Return trained parameters under the names of a model, with their shapes checked.

    Published names are those of the wrapper that CoLVA was trained in: `model.` and the original names, with peft's
    `base_model.model.` and `.lora_A.default.` inside. LoRA on a fused weight becomes LoRA on each of its parts: the
    rows of B are divided as the weight's are, and A is shared.

    Raises:
        CheckpointError: a name that matches nothing in the model, or another shape.
        OptionError: LoRA without a known alpha.
        InputError: LoRA without its other half, or of another rank than its configuration says.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    config = model.config.backbone_config
    mappings = _map_all_layouts(expected_shapes(model) | {head_name(model): shapes[head_name(model)]}, config)
    text_prefix = module_name(model, model.backbone.language_model) + "."
    tensors: dict[str, Tensor] = {}
    lora_pairs: dict[str, dict[str, Tensor]] = {}
    lora_mappings: dict[str, TensorMapping] = {}
    unexpected: list[str] = []
    sources: dict[str, str] = {}
    for name, tensor in trained.tensors.items():
        weight_name, half = _split_peft_name(name)
        if half == "other":
            raise InputError(trained.path, "expected plain LoRA (lora_A and lora_B), found another kind", name)
        mapping = _find_mapping(weight_name, mappings, config.model_type, text_prefix)
        if mapping is None:
            unexpected.append(name)
        elif half is None:
            for part_name, part in zip(mapping.names, mapping.split(tensor), strict=True):
                tensors[part_name] = part
                sources[part_name] = name
        else:
            lora_pairs.setdefault(weight_name, {})[half] = tensor
            lora_mappings[weight_name] = mapping
            sources.update(dict.fromkeys(mapping.names, name))
    lora: dict[str, LoraWeights] = {}
    for weight_name, pair in lora_pairs.items():
        lora |= _resolve_lora(trained, weight_name, pair, lora_mappings[weight_name], text_prefix)
    found_shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found_shapes |= {name: update.shape for name, update in lora.items()}
    mismatched = {name: (shapes[name], shape) for name, shape in found_shapes.items() if shapes[name] != shape}
    if mismatched or unexpected:
        raise CheckpointError(trained.path, [], unexpected, mismatched)
    return ResolvedWeights(tensors, lora, sources)


def _map_all_layouts(names: Iterable[str], config: PretrainedConfig) -> list[dict[str, TensorMapping]]:
    """Return the mappings of every layout that the model may have been trained in."""
    layouts: list[Layout] = ["colva", "transformers"]
    # a small model with another vision tower was never in the original layout
    if config.model_type == "internvl" and config.vision_config.model_type == InternVLVisionConfig.model_type:
        layouts.append("internvl")
        if config.get_text_config().model_type == "llama":
            layouts.append("internlm2")
    names = list(names)
    return [map_tensors(names, config, layout) for layout in layouts]


def _split_peft_name(name: str) -> tuple[str, Literal["A", "B", "other"] | None]:
    """Return a weight's name without peft's additions, and the half of LoRA ("other" for another kind of update)."""
    weight_name = name.removeprefix("module.").replace("base_model.model.", "", 1).replace(".base_layer.", ".")
    match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight", weight_name)
    if match:
        return match[1] + ".weight", "A" if match[2] == "A" else "B"
    if ".lora_" in weight_name or "modules_to_save" in weight_name:
        return weight_name, "other"
    return weight_name, None


def _find_mapping(
    name: str, mappings: list[dict[str, TensorMapping]], model_type: str, text_prefix: str
) -> TensorMapping | None:
    # the published wrapper has the multimodal model as `model`; here `backbone.language_model` is a property
    spellings = [name, name.removeprefix("model."), name.replace("backbone.language_model.", text_prefix, 1)]
    for spelling in spellings:
        for table in mappings:
            mapping = table.get(spelling) or table.get(upgrade_key(spelling, model_type))
            if mapping is not None:
                return mapping
    return None


def _resolve_lora(
    trained: TrainedWeights, name: str, pair: dict[str, Tensor], mapping: TensorMapping, text_prefix: str
) -> dict[str, LoraWeights]:
    """Return the updates of the model's weights for one pair of lora_A and lora_B."""
    if pair.keys() != {"A", "B"}:
        raise InputError(trained.path, f"expected lora_A and lora_B, found lora_{min(pair)} alone", name)
    a, b = pair["A"], pair["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        reason = f"lora_A {list(a.shape)} and lora_B {list(b.shape)} are of different ranks"
        raise InputError(trained.path, reason, name)
    rank = a.shape[0]
    alpha = trained.lora_alpha
    if trained.lora_config is not None:
        config = trained.lora_config
        module = mapping.names[0].removeprefix(text_prefix).removesuffix(".weight")
        config_rank = _match_pattern(config.get("rank_pattern"), module, config.get("r"))
        if config_rank != rank:
            raise InputError(trained.path, f"expected rank {config_rank} as in {PEFT_CONFIG}, found {rank}", name)
        alpha = _match_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    if alpha is None:
        hint = f" (its training configuration has {trained.alpha_hint})" if trained.alpha_hint else ""
        reason = f"is missing: {trained.path} has LoRA of rank {rank}, but not its alpha, which scales it{hint}"
        raise OptionError("lora_alpha", reason)
    parts = [b] * len(mapping.names)
    if mapping.rows is None or len(b) == sum(map(len, mapping.rows)):
        parts = mapping.split(b)
    return {
        part_name: LoraWeights(a, part, float(alpha) / rank)
        for part_name, part in zip(mapping.names, parts, strict=True)
    }


def _match_pattern(pattern: Any, module: str, default: Any) -> Any:
    """Return peft's setting of a module: that of the first pattern that matches the end of its name."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default

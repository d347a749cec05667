"""What training adds to a model: a new adapter and LoRA, read from published `.pth` files and kept in folders of ours.

An adapter folder of ours:

    colva_adapter.json             which model it is for
    adapter.safetensors            the adapter's parameters, `0.weight` ..
    lora/adapter_config.json       peft's own two files, relative to `model.backbone.language_model`
    lora/adapter_model.safetensors
    tokenizer.json ..              the model's tokenizer
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PretrainedConfig

from colva.checkpoints.pickles import read_pickle
from colva.checkpoints.published_names import Dialect, TensorMapping, map_tensors, upgrade_key
from colva.checkpoints.save import write_json, write_tensors
from colva.checkpoints.store import in_memory, open_safetensors, read_json, tensors_in
from colva.checkpoints.view import Checkpoint, CheckpointError, expected, head_name
from colva.checkpoints.zero import is_zero, read_zero
from colva.model.colva import ColvaModel
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.files import path_kind

NOTE: Final = "colva_adapter.json"
_ADAPTER: Final = "adapter.safetensors"
_LORA: Final = "lora"
_PEFT_CONFIG: Final = "adapter_config.json"
_PEFT_WEIGHTS: Final = "adapter_model.safetensors"
# fields of peft's LoRA configuration that change what is computed, with the only value that is written here
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
class Lora:
    """What is added to one weight: `scale` * `b` `[out, r]` @ `a` `[r, in]`."""

    a: Tensor
    b: Tensor
    scale: float

    def added(self) -> Tensor:
        """The whole of it, in float32."""
        return self.scale * (self.b.float() @ self.a.float())


@dataclass(frozen=True)
class Delta:
    """A file or folder of trained parameters, not yet looked at with a model in mind.

    Attributes:
        path: where it is.
        tensors: its content, under the names it has there.
        alpha: LoRA's; None when nobody said.
        lora_config: peft's configuration, for a folder of ours.
        base: the model it is for, as its note says.
        hint: an alpha that the file's own record of its training mentions.
    """

    path: Path
    tensors: dict[str, Tensor]
    alpha: float | None = None
    lora_config: dict[str, Any] | None = None
    base: str | None = None
    hint: str | None = None

    def base_folder(self) -> Path:
        """The model's folder; InputError when the note names none that exists."""
        if self.base is None:
            raise InputError(self.path, "says no model that it is for; give one")
        folder = Path(os.path.normpath(self.path / self.base))
        if path_kind(folder) != "folder":
            raise InputError(self.path / NOTE, f"expected the folder of a model, found nothing at {folder}", "base")
        return folder


@dataclass(frozen=True)
class Resolved:
    """A delta for one model: whole tensors of ours by name, and LoRA by the name of the weight it adds to."""

    whole: dict[str, Tensor] = field(default_factory=dict)
    lora: dict[str, Lora] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)


def is_adapter(path: Path) -> bool:
    """Whether a folder is an adapter folder of ours."""
    return path_kind(path / NOTE) == "file"


def is_delta(path: Path) -> bool:
    """Whether `read_delta` is for it: an adapter folder, a `.pth` file, or DeepSpeed's shards."""
    return is_adapter(path) or path_kind(path) == "file" or is_zero(path)


def read_delta(path: Path, alpha: float | None = None) -> Delta:
    """Read trained parameters.

    Args:
        path: an adapter folder of ours; a `.pth` of mmengine; a folder of DeepSpeed's shards.
        alpha: LoRA's, for those that do not hold it.

    Raises:
        InputError: none of these, or damaged, or a file that wants to run code.
        UsageError: an alpha for a folder that has one.
    """
    if is_adapter(path):
        if alpha is not None:
            raise UsageError(f"{path}: has its own lora_alpha; give none")
        return _read_folder(path)
    if is_zero(path):
        return Delta(path, read_zero(path), alpha)
    if path_kind(path) != "file":
        raise InputError(path, f"expected an adapter folder with {NOTE}, a .pth file, or DeepSpeed's shards")
    content = read_pickle(path)
    record = ""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        meta = content.get("meta")
        record = str(meta.get("cfg", "")) if isinstance(meta, dict) else ""
        content = content["state_dict"]
    said = sorted(set(re.findall(r"lora_alpha['\"]?\s*[=:]\s*([\d.]+)", record)))
    return Delta(path, tensors_in(content, path), alpha, hint=said[0] if len(said) == 1 else None)


def _read_folder(path: Path) -> Delta:
    tensors: dict[str, Tensor] = {}
    note = read_json(path / NOTE)
    base = note.get("base")
    if base is not None and not isinstance(base, str):
        raise InputError(path / NOTE, f"expected the path of a model, found {base!r}", "base")
    if path_kind(path / _ADAPTER) == "file":
        tensors |= {f"adapter.{n}": s.read() for n, s in open_safetensors(path / _ADAPTER).items()}
    config = None
    if path_kind(path / _LORA) == "folder":
        config = read_json(path / _LORA / _PEFT_CONFIG)
        for name, plain in _PLAIN_LORA.items():
            value = config.get(name, plain)
            if value != plain and not (plain in (False, None) and value in (False, None, [], {})):
                raise InputError(path / _LORA / _PEFT_CONFIG, f"expected {plain!r}, found {value!r}", name)
        lora = open_safetensors(path / _LORA / _PEFT_WEIGHTS)
        tensors |= {f"backbone.language_model.{name}": stored.read() for name, stored in lora.items()}
    if not tensors:
        raise InputError(path, f"expected {_ADAPTER} or a folder {_LORA}, found neither")
    return Delta(path, tensors, lora_config=config, base=base)


def resolve(delta: Delta, model: ColvaModel) -> Resolved:
    """Trained parameters under the names of a model, with their shapes checked.

    Published names are those of the wrapper that CoLVA was trained in: `model.` and the original names, with peft's
    `base_model.model.` and `.lora_A.default.` inside. LoRA on a fused weight becomes LoRA on each of its parts: the
    rows of B are divided as the weight's are, and A is shared.

    Raises:
        CheckpointError: a name of nothing in the model, or another shape.
        UsageError: LoRA and nobody said its alpha.
        InputError: LoRA without its other half, or of another rank than its configuration says.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    config = model.config.backbone_config
    tables = _tables(expected(model) | {head_name(model): shapes[head_name(model)]}, config)
    text = _module_name(model, model.backbone.language_model)
    whole: dict[str, Tensor] = {}
    halves: dict[str, dict[str, Tensor]] = {}
    fused: dict[str, TensorMapping] = {}
    unexpected = []
    sources: dict[str, str] = {}
    for name, tensor in delta.tensors.items():
        plain, half = _plain_name(name)
        if half == "other":
            raise InputError(delta.path, "expected plain LoRA (lora_A and lora_B), found another kind", name)
        tie = _find(plain, tables, config.model_type, text)
        if tie is None:
            unexpected.append(name)
        elif half is None:
            for ours, part in zip(tie.ours, tie.split(tensor), strict=True):
                whole[ours] = part
                sources[ours] = name
        else:
            halves.setdefault(plain, {})[half] = tensor
            fused[plain] = tie
            sources.update(dict.fromkeys(tie.ours, name))
    lora: dict[str, Lora] = {}
    for plain, pair in halves.items():
        lora |= _lora(delta, plain, pair, fused[plain], text)
    _check_shapes(delta, shapes, whole, lora, unexpected)
    return Resolved(whole, lora, sources)


def _tables(names: Iterable[str], config: PretrainedConfig) -> list[dict[str, TensorMapping]]:
    """Published names to ours, in every dialect that the model may have been trained under."""
    dialects: list[Dialect] = ["ours", "native"]
    if config.model_type == "internvl":
        dialects.append("internvl")
        if config.get_text_config().model_type == "llama":
            dialects.append("internlm2")
    names = list(names)
    return [map_tensors(names, config, dialect) for dialect in dialects]


def _plain_name(name: str) -> tuple[str, str | None]:
    """A name without what peft put into it, and which half of LoRA it is (or "other" for what is not plain LoRA)."""
    plain = name.removeprefix("module.").replace("base_model.model.", "", 1).replace(".base_layer.", ".")
    half = re.fullmatch(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight", plain)
    if half:
        return half[1] + ".weight", half[2]
    if ".lora_" in plain or "modules_to_save" in plain:
        return plain, "other"
    return plain, None


def _find(plain: str, tables: list[dict[str, TensorMapping]], model_type: str, text: str) -> TensorMapping | None:
    # the wrapper calls the whole multimodal model `model`; of ours `backbone.language_model` is a property
    spellings = [plain, plain.removeprefix("model."), plain.replace("backbone.language_model.", text + ".", 1)]
    for spelling in spellings:
        for table in tables:
            tie = table.get(spelling) or table.get(upgrade_key(spelling, model_type))
            if tie is not None:
                return tie
    return None


def _lora(delta: Delta, plain: str, pair: dict[str, Tensor], tie: TensorMapping, text: str) -> dict[str, Lora]:
    if pair.keys() != {"A", "B"}:
        raise InputError(delta.path, f"expected lora_A and lora_B, found lora_{min(pair)} alone", plain)
    a, b = pair["A"], pair["B"]
    if a.ndim != 2 or b.ndim != 2 or a.shape[0] != b.shape[1]:
        raise InputError(delta.path, f"lora_A {list(a.shape)} and lora_B {list(b.shape)} are of different ranks", plain)
    rank = a.shape[0]
    if delta.lora_config is not None:
        module = tie.ours[0].removeprefix(text + ".").removesuffix(".weight")
        config = delta.lora_config
        wanted = _pattern(config.get("rank_pattern"), module, config.get("r"))
        if wanted != rank:
            raise InputError(delta.path, f"expected rank {wanted} as in {_PEFT_CONFIG}, found {rank}", plain)
        alpha = _pattern(config.get("alpha_pattern"), module, config.get("lora_alpha"))
    else:
        alpha = delta.alpha
    if alpha is None:
        says = f" (its record of the training says {delta.hint})" if delta.hint else ""
        raise UsageError(
            f"{delta.path}: has LoRA of rank {rank}, but not its alpha, without which it cannot be applied; "
            f"give it (lora_alpha=, --lora-alpha){says}"
        )
    parts = tie.split(b) if tie.rows is None or len(b) == sum(map(len, tie.rows)) else [b] * len(tie.ours)
    return {name: Lora(a, part, float(alpha) / rank) for name, part in zip(tie.ours, parts, strict=True)}


def _pattern(pattern: Any, module: str, default: Any) -> Any:
    """peft's rule: the first pattern that the end of a module's name matches."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def _check_shapes(
    delta: Delta,
    shapes: dict[str, tuple[int, ...]],
    whole: dict[str, Tensor],
    lora: dict[str, Lora],
    unexpected: list[str],
) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in whole.items()}
    found |= {name: (one.b.shape[0], one.a.shape[1]) for name, one in lora.items()}
    wrong = {name: (shapes[name], shape) for name, shape in found.items() if shapes[name] != shape}
    if wrong or unexpected:
        raise CheckpointError(delta.path, [], unexpected, wrong)


def _module_name(model: ColvaModel, module: nn.Module) -> str:
    return next(name for name, found in model.named_modules() if found is module)


def apply(model: ColvaModel, delta: Delta, merge: bool = False) -> Resolved:
    """Put trained parameters into a model, LoRA folded in or as peft's modules; see `resolve` for the errors."""
    found = resolve(delta, model)
    state = model.state_dict()
    with torch.no_grad():
        for name, tensor in found.whole.items():
            state[name].copy_(tensor)
        if merge:
            for name, one in found.lora.items():
                state[name].copy_(state[name].float() + one.added().to(state[name].device))
    if found.lora and not merge:
        inject(model, found.lora)
    return found


def inject(model: ColvaModel, lora: dict[str, Lora]) -> None:
    """Put LoRA into the language model as peft's modules, named `default`."""
    text = model.backbone.language_model
    config = peft_config(model, lora)
    inject_adapter_in_model(config, text)
    for name, one in lora.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(layer, LoraLayer)
        for half, tensor in ((layer.lora_A, one.a), (layer.lora_B, one.b)):
            weight = half["default"].weight
            half["default"].weight = nn.Parameter(tensor.to(weight.device, copy=True), weight.requires_grad)


def peft_config(model: ColvaModel, lora: dict[str, Lora]) -> LoraConfig:
    """peft's configuration of some LoRA: the most frequent rank and alpha, and patterns for the others."""
    prefix = _module_name(model, model.backbone.language_model) + "."
    outside = [name for name in lora if not name.startswith(prefix)]
    if outside:
        raise UsageError(f"LoRA on {outside[0]}, outside the language model: merge it instead")
    modules = {name.removeprefix(prefix).removesuffix(".weight"): one for name, one in lora.items()}
    ranks = {name: one.a.shape[0] for name, one in modules.items()}
    alphas = {name: one.scale * ranks[name] for name, one in modules.items()}
    rank = Counter(ranks.values()).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    return LoraConfig(
        r=rank,
        lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
        target_modules=sorted(modules),
        rank_pattern={re.escape(name): value for name, value in ranks.items() if value != rank},
        alpha_pattern={re.escape(name): value for name, value in alphas.items() if value != alpha},
    )


def fold(found: Checkpoint, delta: Resolved) -> None:
    """Put trained parameters into a checkpoint that is yet to be written, each when its tensor is read."""
    found.tensors |= in_memory(delta.whole)
    for name, one in delta.lora.items():
        base = found.tensors[name]

        def read(base: Any = base, one: Lora = one) -> Tensor:
            return (base.read().float() + one.added()).to(base.dtype)

        found.tensors[name] = replace(base, read=read)


def write_adapter(folder: Path, model: ColvaModel, delta: Resolved, base: str | None) -> None:
    """Write an adapter folder's content into an existing folder.

    Raises:
        UsageError: whole tensors beside those of the adapter, which the layout has no place for.
    """
    others = [name for name in delta.whole if not name.startswith("adapter.")]
    if others:
        raise UsageError(f"{len(others)} whole tensors such as {others[0]} do not fit an adapter folder: merge instead")
    write_json(folder / NOTE, {"format": 1, "base": base})
    adapter = {name.removeprefix("adapter."): tensor for name, tensor in delta.whole.items()}
    if adapter:
        write_tensors(folder, in_memory(adapter), stem=_ADAPTER)
    if delta.lora:
        (folder / _LORA).mkdir()
        prefix = _module_name(model, model.backbone.language_model) + "."
        config = peft_config(model, delta.lora).to_dict()
        # peft keeps the modules in a set, which has another order each time
        write_json(folder / _LORA / _PEFT_CONFIG, config | {"target_modules": sorted(config["target_modules"])})
        weights = {}
        for name, one in delta.lora.items():
            inner = name.removeprefix(prefix).removesuffix(".weight")
            weights[f"base_model.model.{inner}.lora_A.weight"] = one.a
            weights[f"base_model.model.{inner}.lora_B.weight"] = one.b
        write_tensors(folder / _LORA, in_memory(weights), stem=_PEFT_WEIGHTS)


def delta_of(model: ColvaModel) -> Resolved:
    """The adapter and the LoRA of a model in memory, on the CPU: what `write_adapter` keeps of a training run."""
    whole = {}
    if model.adapter is not None:
        whole = {f"adapter.{name}": tensor.detach().cpu() for name, tensor in model.adapter.state_dict().items()}
    lora = {}
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer) and "default" in layer.lora_A:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            lora[f"{name}.weight"] = Lora(a.detach().cpu(), b.detach().cpu(), float(layer.scaling["default"]))
    return Resolved(whole, lora)

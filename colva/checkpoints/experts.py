"""Weights of vision experts, from the published files of each."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from colva.checkpoints.checkpoint import CONFIG, Checkpoint, CheckpointError
from colva.checkpoints.lazy_tensors import LazyTensor, check_state_dict, open_tensor_folder, wrap_tensors
from colva.checkpoints.pickles import read_pickle
from colva.model.adapter import Adapter
from colva.model.experts import EXPERTS, Expert, build_expert
from colva.model.experts.mobilenetv2 import build_from_torchvision, find_imagenet_weights
from colva.model.experts.native import NativeExpert
from colva.model.experts.radio import CLIP_MEAN, CLIP_STD
from colva.model.experts.radio_names import from_published_name, from_radio_config
from colva.model.experts.radio_native import from_native_config, from_native_name, is_native_radio
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.files import path_kind
from mmvm_data.io.json_files import read_json_object

EXPERT_MODEL_TYPE: Final = "colva_expert"
_RELEASE: Final = re.compile(r"c-radio[-_]v\d+")


@dataclass(frozen=True)
class ExpertWeights:
    """The configuration and the weights of an expert.

    Attributes:
        config: `{"kind": ..., ...}` as in a `ColvaConfig`.
        tensors: by their names in the expert's state dict, complete.
        radio_config: RADIO's published configuration, kept for the conversion back.
        unused: published names that the expert does not use -> why.
    """

    config: dict[str, Any]
    tensors: dict[str, LazyTensor]
    radio_config: dict[str, Any] | None = None
    unused: dict[str, str] = field(default_factory=dict)


def is_expert(path: Path) -> bool:
    """Whether a path is an expert by itself: a CoLVA expert folder, RADIO's or transformers', or one published file."""
    if path_kind(path) == "file":
        content = read_pickle(path)
        return isinstance(content, dict) and (
            isinstance(content.get("args"), argparse.Namespace) or _is_torchvision(content)
        )
    if path_kind(path / CONFIG) != "file":
        return False
    config = read_json_object(path / CONFIG)
    is_radio = _is_radio(config) or is_native_radio(config)
    return config.get("model_type") == EXPERT_MODEL_TYPE or is_radio or _native_class(config) is not None


def read_expert(path: str | Path) -> ExpertWeights:
    """Return an expert's configuration and weights.

    Args:
        path: a CoLVA expert folder (`colva_expert`), RADIO's folder or its `.pth.tar`, a folder of transformers
            (C-RADIOv4, DINOv2, DINOv3, ConvNeXt V2, MobileNetV2), torchvision's `mobilenet_v2` file; or `mobilenetv2`
            for the weights in the package that `colva.model.experts.mobilenetv2` names.

    Raises:
        InputError: none of these, or tensors missing, unknown or of another shape.
        UsageError: the package is not installed.
    """
    if str(path) == "mobilenetv2":
        return _expert_weights(build_from_torchvision(find_imagenet_weights()))
    path = Path(path)
    if path_kind(path) == "file":
        content = read_pickle(path)
        if isinstance(content, dict) and _is_torchvision(content):
            return _expert_weights(build_from_torchvision(path))
        return _read_radio_file(path, content)
    if path_kind(path) != "folder":
        raise UsageError(f"{path}: expected a folder or a file of an expert, found {path_kind(path)}")
    config = read_json_object(path / CONFIG)
    if config.get("model_type") == EXPERT_MODEL_TYPE:
        fields = config.get("expert")
        if not isinstance(fields, dict) or fields.get("kind") not in EXPERTS:
            raise InputError(path / CONFIG, f"expected one of {', '.join(EXPERTS)}, found {fields!r}", "expert.kind")
        return _check_complete(path, fields, open_tensor_folder(path), config.get("radio_config"), {})
    native = _native_class(config)
    if native is not None:
        return _expert_weights(native.from_pretrained(path))
    if is_native_radio(config):
        return _read_native_radio(path, config)
    if not _is_radio(config):
        known = f"RADIO's args, {EXPERT_MODEL_TYPE} or a model of {', '.join(EXPERTS)}"
        raise InputError(path / CONFIG, f"expected {known}; found {config.get('model_type')!r}", "model_type")
    fields = {"kind": "radio", **from_radio_config(config, str(path / CONFIG))}
    return _from_radio_tensors(path, fields, open_tensor_folder(path), config)


def _is_radio(config: dict[str, Any]) -> bool:
    return isinstance(config.get("args"), dict) and "llm_config" not in config


def _native_class(config: dict[str, Any]) -> type[NativeExpert] | None:
    for expert in EXPERTS.values():
        if issubclass(expert, NativeExpert) and config.get("model_type") in {
            c.model_type for c in expert.config_classes
        }:
            return expert
    return None


def _is_torchvision(content: dict[str, Any]) -> bool:
    return "features.0.0.weight" in content and "features.18.0.weight" in content


def _expert_weights(expert: Expert) -> ExpertWeights:
    return ExpertWeights({"kind": expert.kind, **expert.config}, wrap_tensors(dict(expert.state_dict())))


def _read_radio_file(path: Path, content: Any) -> ExpertWeights:
    args = content.get("args") if isinstance(content, dict) else None
    if not isinstance(args, argparse.Namespace):
        raise InputError(path, "expected RADIO's file with args and state_dict, or torchvision's mobilenet_v2")
    radio_config: dict[str, Any] = {
        "args": {name: value for name, value in vars(args).items() if _is_json_value(value)}
    }
    release = _RELEASE.search(path.name)  # which is written nowhere in the file
    if release:
        radio_config["version"] = release[0]
    state = content.get("state_dict_ema") or content.get("state_dict")
    fields = {"kind": "radio", **from_radio_config(radio_config, str(path))}
    return _from_radio_tensors(path, fields, wrap_tensors(check_state_dict(state, path)), radio_config)


def _read_native_radio(path: Path, config: dict[str, Any]) -> ExpertWeights:
    """Return the weights of transformers' own RADIO, whose queries, keys and values are three tensors."""
    fields = {"kind": "radio", **from_native_config(config, str(path / CONFIG))}
    tensors: dict[str, LazyTensor] = {}
    parts: dict[str, dict[int, LazyTensor]] = {}
    unused: dict[str, str] = {}
    for published_name, stored in open_tensor_folder(path).items():
        mapped = from_native_name(published_name)
        if mapped is None:
            if ".layer_scale" in published_name and not bool((stored.read() == 1).all()):
                raise InputError(path, "expected ones, since RADIO has no scales", published_name)
            unused[published_name] = "scales of one" if ".layer_scale" in published_name else "not of images"
        elif mapped[1] is None:
            tensors[mapped[0]] = stored
        else:
            parts.setdefault(mapped[0], {})[mapped[1]] = stored
    for name, thirds in parts.items():
        if len(thirds) == 3:
            tensors[name] = _join_rows([thirds[number] for number in range(3)])
    for name, default in (("norm_mean", CLIP_MEAN), ("norm_std", CLIP_STD)):
        values = config.get(name, list(default))
        if not isinstance(values, list) or len(values) != 3 or not all(isinstance(v, int | float) for v in values):
            raise InputError(path / CONFIG, f"expected three numbers, found {values!r:.40}", name)
        tensors |= wrap_tensors({f"input_conditioner.{name}": torch.tensor(values).float().view(3, 1, 1)})
    if "summary_idxs" not in tensors:
        tensors |= wrap_tensors({"summary_idxs": torch.tensor(fields["summary_idxs"], dtype=torch.int64)})
    return _check_complete(path, fields, tensors, None, unused)


def _join_rows(parts: list[LazyTensor]) -> LazyTensor:
    shape = (sum(part.shape[0] for part in parts if part.shape), *parts[0].shape[1:])
    return LazyTensor(shape, parts[0].dtype, lambda: torch.cat([part.read() for part in parts]))


def _is_json_value(value: Any) -> bool:
    """Whether JSON can hold a value."""
    if isinstance(value, list | tuple):
        return all(_is_json_value(inner) for inner in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json_value(inner) for name, inner in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def _from_radio_tensors(
    path: Path, fields: dict[str, Any], stored: dict[str, LazyTensor], radio_config: dict[str, Any]
) -> ExpertWeights:
    tensors: dict[str, LazyTensor] = {}
    unused: dict[str, str] = {}
    for published_name, tensor in stored.items():
        name = from_published_name(published_name)
        if name is None:
            unused[published_name] = "a teacher's head or adaptor"
        elif name in tensors:
            raise InputError(path, f"two tensors for {name}", published_name)
        else:
            tensors[name] = tensor
    if "summary_idxs" not in tensors:
        indices = torch.tensor(fields["summary_idxs"], dtype=torch.int64)
        tensors["summary_idxs"] = LazyTensor(tuple(indices.shape), indices.dtype, lambda: indices)
    return _check_complete(path, fields, tensors, radio_config, unused)


def _check_complete(
    path: Path,
    fields: dict[str, Any],
    tensors: dict[str, LazyTensor],
    radio_config: dict[str, Any] | None,
    unused: dict[str, str],
) -> ExpertWeights:
    """Return the weights; CheckpointError when they are not exactly those of the configuration."""
    shapes = {name: tuple(t.shape) for name, t in _build_meta_expert(fields).state_dict().items()}
    mismatched = {
        name: (shape, tensors[name].shape)
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    }
    missing = [name for name in shapes if name not in tensors]
    unexpected = [name for name in tensors if name not in shapes]
    if mismatched or missing or unexpected:
        raise CheckpointError(path, missing, unexpected, mismatched)
    return ExpertWeights(fields, {name: tensors[name] for name in shapes}, radio_config, unused)


def attach_expert(checkpoint: Checkpoint, expert: ExpertWeights, seed: int) -> None:
    """Give a checkpoint an expert, and a new adapter for it that is still to be trained (stage 1), in place.

    Args:
        checkpoint: has no expert.
        expert: to add.
        seed: of the new adapter's weights.

    Raises:
        UsageError: it has an expert.
    """
    config = checkpoint.config
    if config.expert is not None:
        raise UsageError(f"{checkpoint.path}: has the expert {config.expert['kind']!r} already")
    config.expert = expert.config
    network = _build_meta_expert(expert.config)
    if config.expert_side % network.stride:
        side = config.expert_side
        config.expert_side = round(side / network.stride) * network.stride
        checkpoint.notes.append(f"expert_side {config.expert_side}: the multiple of {network.stride} nearest to {side}")
    checkpoint.tensors |= {f"expert.{name}": stored for name, stored in expert.tensors.items()}
    adapter = new_adapter(network.hidden_size, config.backbone_config.get_text_config().hidden_size, seed)
    checkpoint.tensors |= {
        f"adapter.{name}": LazyTensor(tuple(tensor.shape), tensor.dtype, lambda t=tensor: t)  # type: ignore[misc]
        for name, tensor in adapter.items()
    }
    checkpoint.notes.append(f"adapter new and untrained, seed {seed}")
    checkpoint.unused |= expert.unused
    published = checkpoint.published
    if published is not None and expert.radio_config is not None and "llm_config" in published:
        checkpoint.published = published | {"radio_config": expert.radio_config}


def new_adapter(features: int, hidden_size: int, seed: int) -> dict[str, Tensor]:
    """Return the initial state dict of an adapter: PyTorch's own initialization, as published, from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Adapter(features, hidden_size).state_dict()


def _build_meta_expert(config: dict[str, Any]) -> Expert:
    fields = dict(config)
    with torch.device("meta"):
        return build_expert(fields.pop("kind"), fields)

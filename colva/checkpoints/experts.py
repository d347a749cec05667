"""Weights of vision experts, from what was published of each."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from colva.checkpoints.pickles import read_pickle
from colva.checkpoints.store import Stored, in_memory, open_folder, read_json, tensors_in
from colva.checkpoints.view import CONFIG, Checkpoint, CheckpointError
from colva.model.adapter import Adapter
from colva.model.experts import EXPERTS, Expert, build
from colva.model.experts.mobilenetv2 import from_torchvision, imagenet_weights
from colva.model.experts.native import NativeExpert
from colva.model.experts.radio_names import from_radio_config, published_names
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.files import path_kind

MODEL_TYPE: Final = "colva_expert"


@dataclass(frozen=True)
class ExpertWeights:
    """Attributes:
    config: `{"kind": ..., ...}` as a `ColvaConfig` has it.
    tensors: by the expert's own names, complete.
    radio_config: RADIO's published configuration, kept for the way back.
    unused: published names that the expert has no place for -> why.
    """

    config: dict[str, Any]
    tensors: dict[str, Stored]
    radio_config: dict[str, Any] | None = None
    unused: dict[str, str] = field(default_factory=dict)


def is_expert(path: Path) -> bool:
    """Whether there is an expert by itself: a folder of ours, RADIO's or transformers', or one published file."""
    if path_kind(path) == "file":
        content = read_pickle(path)
        return isinstance(content, dict) and (
            isinstance(content.get("args"), argparse.Namespace) or _torchvision(content)
        )
    if path_kind(path / CONFIG) != "file":
        return False
    config = read_json(path / CONFIG)
    return config.get("model_type") == MODEL_TYPE or _is_radio(config) or _native(config) is not None


def read_expert(path: str | Path) -> ExpertWeights:
    """An expert's configuration and weights.

    Args:
        path: a folder of ours (`colva_expert`), RADIO's folder or its `.pth.tar`, a folder of transformers (DINOv2,
            DINOv3, ConvNeXt V2, MobileNetV2), torchvision's `mobilenet_v2` file; or `mobilenetv2` for the weights in
            the package that `colva.model.experts.mobilenetv2` names.

    Raises:
        InputError: none of these, or tensors missing, unknown or of another shape.
        UsageError: the package is not installed.
    """
    if str(path) == "mobilenetv2":
        return _of(from_torchvision(imagenet_weights()))
    path = Path(path)
    if path_kind(path) == "file":
        content = read_pickle(path)
        if isinstance(content, dict) and _torchvision(content):
            return _of(from_torchvision(path))
        return _radio_file(path, content)
    if path_kind(path) != "folder":
        raise UsageError(f"{path}: expected a folder or a file of an expert, found {path_kind(path)}")
    config = read_json(path / CONFIG)
    if config.get("model_type") == MODEL_TYPE:
        fields = config.get("expert")
        if not isinstance(fields, dict) or fields.get("kind") not in EXPERTS:
            raise InputError(path / CONFIG, f"expected one of {', '.join(EXPERTS)}, found {fields!r}", "expert.kind")
        return _complete(path, fields, open_folder(path), config.get("radio_config"), {})
    native = _native(config)
    if native is not None:
        return _of(native.from_pretrained(path))
    if not _is_radio(config):
        known = f"RADIO's args, {MODEL_TYPE} or a model of {', '.join(EXPERTS)}"
        raise InputError(path / CONFIG, f"expected {known}; found {config.get('model_type')!r}", "model_type")
    fields = {"kind": "radio", **from_radio_config(config, str(path / CONFIG))}
    return _published(path, fields, open_folder(path), config)


def _is_radio(config: dict[str, Any]) -> bool:
    return isinstance(config.get("args"), dict) and "llm_config" not in config


def _native(config: dict[str, Any]) -> type[NativeExpert] | None:
    for expert in EXPERTS.values():
        if issubclass(expert, NativeExpert) and config.get("model_type") in {
            c.model_type for c in expert.config_classes
        }:
            return expert
    return None


def _torchvision(content: dict[str, Any]) -> bool:
    return "features.0.0.weight" in content and "features.18.0.weight" in content


def _of(expert: Expert) -> ExpertWeights:
    return ExpertWeights({"kind": expert.kind, **expert.config}, in_memory(dict(expert.state_dict())))


def _radio_file(path: Path, content: Any) -> ExpertWeights:
    args = content.get("args") if isinstance(content, dict) else None
    if not isinstance(args, argparse.Namespace):
        raise InputError(path, "expected RADIO's file with args and state_dict, or torchvision's mobilenet_v2")
    radio_config = {"args": {name: value for name, value in vars(args).items() if _plain(value)}}
    state = content.get("state_dict_ema") or content.get("state_dict")
    fields = {"kind": "radio", **from_radio_config(radio_config, str(path))}
    return _published(path, fields, in_memory(tensors_in(state, path)), radio_config)


def _plain(value: Any) -> bool:
    """What JSON can hold."""
    if isinstance(value, list | tuple):
        return all(_plain(inner) for inner in value)
    if isinstance(value, dict):
        return all(isinstance(name, str) and _plain(inner) for name, inner in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def _published(
    path: Path, fields: dict[str, Any], stored: dict[str, Stored], radio_config: dict[str, Any]
) -> ExpertWeights:
    found: dict[str, Stored] = {}
    unused: dict[str, str] = {}
    for name, one in stored.items():
        ours = published_names(name)
        if ours is None:
            unused[name] = "a teacher's head or adaptor"
        elif ours in found:
            raise InputError(path, f"two tensors for {ours}", name)
        else:
            found[ours] = one
    if "summary_idxs" not in found:
        indices = torch.tensor(fields["summary_idxs"], dtype=torch.int64)
        found["summary_idxs"] = Stored(tuple(indices.shape), indices.dtype, lambda: indices)
    return _complete(path, fields, found, radio_config, unused)


def _complete(
    path: Path,
    fields: dict[str, Any],
    found: dict[str, Stored],
    radio_config: dict[str, Any] | None,
    unused: dict[str, str],
) -> ExpertWeights:
    rest = dict(fields)
    with torch.device("meta"):
        wanted = {name: tuple(t.shape) for name, t in build(rest.pop("kind"), rest).state_dict().items()}
    wrong = {n: (shape, found[n].shape) for n, shape in wanted.items() if n in found and found[n].shape != shape}
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    if wrong or missing or unexpected:
        raise CheckpointError(path, missing, unexpected, wrong)
    return ExpertWeights(fields, {name: found[name] for name in wanted}, radio_config, unused)


def attach(found: Checkpoint, expert: ExpertWeights, seed: int) -> None:
    """Give a checkpoint an expert, and a new adapter for it that is still to be trained (stage 1).

    Args:
        seed: of the new adapter's weights.

    Raises:
        UsageError: it has an expert.
    """
    if found.config.expert is not None:
        raise UsageError(f"{found.path}: has the expert {found.config.expert['kind']!r} already")
    found.config.expert = expert.config
    stride, width = _geometry(expert.config)
    if found.config.expert_side % stride:
        side = found.config.expert_side
        found.config.expert_side = round(side / stride) * stride
        found.notes.append(f"expert_side {found.config.expert_side}: the multiple of {stride} nearest to {side}")
    found.tensors |= {f"expert.{name}": stored for name, stored in expert.tensors.items()}
    hidden = found.config.backbone_config.get_text_config().hidden_size
    state = new_adapter(width, hidden, seed)
    found.tensors |= {
        f"adapter.{name}": Stored(tuple(tensor.shape), tensor.dtype, lambda t=tensor: t)  # type: ignore[misc]
        for name, tensor in state.items()
    }
    found.notes.append(f"adapter new and untrained, seed {seed}")
    found.unused |= expert.unused
    if found.published is not None and expert.radio_config is not None and "llm_config" in found.published:
        found.published = found.published | {"radio_config": expert.radio_config}


def new_adapter(features: int, hidden_size: int, seed: int) -> dict[str, Tensor]:
    """An adapter's first weights: PyTorch's own initialisation, as published, from a seed and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Adapter(features, hidden_size).state_dict()


def _geometry(config: dict[str, Any]) -> tuple[int, int]:
    fields = dict(config)
    with torch.device("meta"):
        expert = build(fields.pop("kind"), fields)
    return expert.stride, expert.hidden_size

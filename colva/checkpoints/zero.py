"""Consolidate DeepSpeed's ZeRO shards to float32 weights.

The layout is the one that DeepSpeed's own `zero_to_fp32.py` reads. Stages 1 and 2: each parameter group is one flat
vector cut into as many pieces as there were processes; parameters lie in it in the order of `param_shapes`. Stage 3:
each parameter is cut by itself, and every process holds its pieces one after the other. Files are read without
DeepSpeed and without running code (see `pickles`).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from colva.checkpoints.pickles import read_pickle
from mmvm_data.core.errors import InputError
from mmvm_data.io.files import list_names, path_kind, safe_join
from mmvm_data.io.json_files import read_text_file

_MODEL = "_model_states.pt"
_OPTIMIZER = "_optim_states.pt"


@dataclass(frozen=True)
class _Shard:
    """The content of one process's file."""

    file: Path
    content: dict[str, Any]

    def field(self, name: str, expected: type, default: Any = None) -> Any:
        value = self.content.get(name)
        value = default if value is None else value
        if not isinstance(value, expected):
            raise InputError(self.file, f"expected {expected.__name__}, found {type(value).__name__}", name)
        return value


def is_zero(path: Path) -> bool:
    """Whether a folder has DeepSpeed's shards, or a file `latest` with the subfolder that has them."""
    return path_kind(path) == "folder" and _find_shard_folder(path) is not None


def _find_shard_folder(path: Path) -> Path | None:
    if any(name.endswith(_MODEL) for name in list_names(path, (".pt",))):
        return path
    if path_kind(path / "latest") != "file":
        return None
    subfolder = safe_join(path, read_text_file(path / "latest").strip(), path / "latest")
    return subfolder if path_kind(subfolder) == "folder" else None


def read_zero(path: Path) -> dict[str, Tensor]:
    """Return the weights of a DeepSpeed checkpoint by name: float32 where the optimizer's shards have them, else as
    stored.

    Args:
        path: the folder with `mp_rank_00_model_states.pt` (or, stage 3, one `zero_pp_rank_N_…` a process), or the
            folder above it with `latest`.

    Raises:
        InputError: shards of other processes missing, sizes that do not add up, model-parallel shards.
    """
    folder = _find_shard_folder(path)
    if folder is None:
        raise InputError(path, f"expected a file …{_MODEL} of DeepSpeed, found none")
    models = _read_shards(folder, _MODEL)
    optimizers = _read_shards(folder, _OPTIMIZER)
    first = models[0]
    weights: dict[str, Tensor] = {}
    module = first.field("module", dict, {})
    if not optimizers:
        return _read_module_weights(module, first.file)
    states = [shard.field("optimizer_state_dict", dict) for shard in optimizers]
    stage = states[0].get("zero_stage")
    count = states[0].get("partition_count")
    count = max(count) if isinstance(count, list) else count
    if stage not in (1, 2, 3) or not isinstance(count, int):
        raise InputError(
            optimizers[0].file, f"expected ZeRO stage 1, 2 or 3, found {stage!r} in {count!r} parts", "zero_stage"
        )
    if count != len(optimizers):
        raise InputError(folder, f"expected {count} files …{_OPTIMIZER}, one a process; found {len(optimizers)}")
    if stage == 3 and len(models) != count:
        raise InputError(folder, f"expected {count} files …{_MODEL}, one a process; found {len(models)}")
    for name in first.field("buffer_names", list, []):
        if isinstance(module.get(name), Tensor):
            weights[name] = module[name]
    weights |= _read_frozen(models if stage == 3 else models[:1], stage)
    groups = [
        _flat_groups(state.get("fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"), shard.file)
        for state, shard in zip(states, optimizers, strict=True)
    ]
    shapes = first.field("param_shapes", list, [])
    weights |= (_join_stage3 if stage == 3 else _join_stage2)(shapes, groups, folder)
    for name, same in first.field("shared_params", dict, {}).items():
        if same in weights:
            weights[name] = weights[same]
    return weights


def _read_module_weights(module: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """Return the module's own weights; InputError when stage 3 left only empty tensors of them."""
    weights = {name: value for name, value in module.items() if isinstance(value, Tensor)}
    if not weights or any(value.numel() == 0 for value in weights.values()):
        raise InputError(file, f"the weights are in the optimizer's shards: expected files …{_OPTIMIZER} beside it")
    return weights


def _read_shards(folder: Path, ending: str) -> list[_Shard]:
    """Return the shards of all processes in the order of their ranks."""
    files = [name for name in list_names(folder, (".pt",)) if name.endswith(ending)]
    for name in files:
        rank = re.search(r"mp_rank_(\d+)", name)
        if rank is not None and int(rank[1]) > 0:
            raise InputError(folder / name, "model-parallel shards are not supported; expected mp_rank_00 alone")
    files.sort(key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    shards = []
    for name in files:
        content = read_pickle(folder / name)
        if not isinstance(content, dict):
            raise InputError(folder / name, f"expected a dict, found {type(content).__name__}")
        shards.append(_Shard(folder / name, content))
    return shards


def _flat_groups(value: Any, file: Path) -> list[Tensor]:
    groups = [value] if isinstance(value, Tensor) else value
    if not isinstance(groups, list) or not groups or not all(isinstance(t, Tensor) for t in groups):
        raise InputError(file, "expected the flat float32 weights of each group, found none", "optimizer_state_dict")
    return [tensor.flatten() for tensor in groups]


def _read_frozen(models: list[_Shard], stage: int) -> dict[str, Tensor]:
    """Return the parameters that were not trained."""
    weights = {}
    for name, shape in models[0].field("frozen_param_shapes", dict, {}).items():
        pieces = [shard.field("frozen_param_fragments", dict, {}).get(name) for shard in models]
        if not all(isinstance(piece, Tensor) for piece in pieces):
            raise InputError(models[0].file, f"no frozen weights for {name}", "frozen_param_fragments")
        flat_tensor = torch.cat([piece.flatten() for piece in pieces]) if stage == 3 else pieces[0].flatten()
        weights[name] = _reshape(flat_tensor, shape, name, models[0].file)
    return weights


def _join_stage2(shapes: list[dict[str, Any]], ranks: list[list[Tensor]], folder: Path) -> dict[str, Tensor]:
    if len(shapes) != len(ranks[0]):
        raise InputError(
            folder,
            f"{len(shapes)} groups of parameters, but {len(ranks[0])} of weights: these shards do not belong together",
        )
    weights = {}
    for number, group in enumerate(shapes):
        flat_tensor = torch.cat([groups[number] for groups in ranks])
        at = 0
        for name, shape in group.items():
            size = math.prod(shape)
            weights[name] = _reshape(flat_tensor[at : at + size], shape, name, folder)
            at += size
        # the flat vector is padded to a multiple of twice the number of processes
        if not 0 <= len(flat_tensor) - at < 2 * len(ranks):
            raise InputError(folder, f"group {number} has {len(flat_tensor):,} values, but its parameters need {at:,}")
    return weights


def _join_stage3(shapes: list[dict[str, Any]], ranks: list[list[Tensor]], folder: Path) -> dict[str, Tensor]:
    flat = [torch.cat(groups) for groups in ranks]
    weights = {}
    at = 0
    for group in shapes:
        for name, shape in group.items():
            size = math.prod(shape)
            piece = math.ceil(size / len(flat))
            weights[name] = _reshape(torch.cat([part[at : at + piece] for part in flat]), shape, name, folder)
            at += piece
    if any(len(part) != at for part in flat):
        raise InputError(folder, f"a process holds {len(flat[0]):,} values, but its parameters need {at:,}")
    return weights


def _reshape(flat: Tensor, shape: Any, name: str, file: Path) -> Tensor:
    size = math.prod(shape)
    if len(flat) < size:
        raise InputError(file, f"expected {size:,} values, found {len(flat):,}", name)
    return flat[:size].view(tuple(shape))

"""DeepSpeed's ZeRO shards put together again, as float32 weights.

The layout is the one that DeepSpeed's own `zero_to_fp32.py` reads. Stages 1 and 2: each parameter group is one flat
vector cut into as many pieces as there were processes; parameters lie in it in the order of `param_shapes`. Stage 3:
each parameter is cut by itself, and every process holds its pieces one after the other. Files are read without
DeepSpeed and without running anything (see `pickles`).
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

_MODEL = "_model_states.pt"
_OPTIMIZER = "_optim_states.pt"


@dataclass(frozen=True)
class _Shard:
    """What one process wrote of the model."""

    file: Path
    content: dict[str, Any]

    def field(self, name: str, of: type, default: Any = None) -> Any:
        value = self.content.get(name)
        value = default if value is None else value
        if not isinstance(value, of):
            raise InputError(self.file, f"expected {of.__name__}, found {type(value).__name__}", name)
        return value


def is_zero(path: Path) -> bool:
    """Whether a folder holds DeepSpeed's shards, or names the folder below that does."""
    return path_kind(path) == "folder" and _steps_folder(path) is not None


def _steps_folder(path: Path) -> Path | None:
    if any(name.endswith(_MODEL) for name in list_names(path, (".pt",))):
        return path
    if path_kind(path / "latest") != "file":
        return None
    below = safe_join(path, (path / "latest").read_text(encoding="utf-8").strip(), path / "latest")
    return below if path_kind(below) == "folder" else None


def read_zero(path: Path) -> dict[str, Tensor]:
    """The weights of a DeepSpeed checkpoint by name: float32 where an optimizer's shards hold them, else as stored.

    Args:
        path: the folder with `mp_rank_00_model_states.pt` (or, stage 3, one `zero_pp_rank_N_…` a process), or the
            folder above it with `latest`.

    Raises:
        InputError: shards of other processes missing, sizes that do not add up, model-parallel shards.
    """
    folder = _steps_folder(path)
    if folder is None:
        raise InputError(path, f"expected a file …{_MODEL} of DeepSpeed, found none")
    models = _read(folder, _MODEL)
    optimizers = _read(folder, _OPTIMIZER)
    first = models[0]
    found: dict[str, Tensor] = {}
    module = first.field("module", dict, {})
    if not optimizers:
        return _plain(module, first.file)
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
            found[name] = module[name]
    found |= _frozen(models if stage == 3 else models[:1], stage)
    groups = [
        _groups(state.get("fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"), shard.file)
        for state, shard in zip(states, optimizers, strict=True)
    ]
    shapes = first.field("param_shapes", list, [])
    found |= (_stage3 if stage == 3 else _stage2)(shapes, groups, folder)
    for name, same in first.field("shared_params", dict, {}).items():
        if same in found:
            found[name] = found[same]
    return found


def _plain(module: dict[str, Any], file: Path) -> dict[str, Tensor]:
    """No optimizer beside it: the module's own weights, unless stage 3 left only stubs of them."""
    found = {name: value for name, value in module.items() if isinstance(value, Tensor)}
    if not found or any(value.numel() == 0 for value in found.values()):
        raise InputError(file, f"the weights are in the optimizer's shards: expected files …{_OPTIMIZER} beside it")
    return found


def _read(folder: Path, ending: str) -> list[_Shard]:
    """The shards of all processes, in the order of their ranks."""
    listed = [name for name in list_names(folder, (".pt",)) if name.endswith(ending)]
    for name in listed:
        rank = re.search(r"mp_rank_(\d+)", name)
        if rank is not None and int(rank[1]) > 0:
            raise InputError(folder / name, "model-parallel shards are not supported; expected mp_rank_00 alone")
    listed.sort(key=lambda name: [int(part) for part in re.findall(r"\d+", name)])
    found = []
    for name in listed:
        content = read_pickle(folder / name)
        if not isinstance(content, dict):
            raise InputError(folder / name, f"expected a dict, found {type(content).__name__}")
        found.append(_Shard(folder / name, content))
    return found


def _groups(value: Any, file: Path) -> list[Tensor]:
    listed = [value] if isinstance(value, Tensor) else value
    if not isinstance(listed, list) or not listed or not all(isinstance(t, Tensor) for t in listed):
        raise InputError(file, "expected the flat float32 weights of each group, found none", "optimizer_state_dict")
    return [tensor.flatten() for tensor in listed]


def _frozen(models: list[_Shard], stage: int) -> dict[str, Tensor]:
    """Parameters that were not trained."""
    found = {}
    for name, shape in models[0].field("frozen_param_shapes", dict, {}).items():
        pieces = [shard.field("frozen_param_fragments", dict, {}).get(name) for shard in models]
        if not all(isinstance(piece, Tensor) for piece in pieces):
            raise InputError(models[0].file, f"no frozen weights for {name}", "frozen_param_fragments")
        whole = torch.cat([piece.flatten() for piece in pieces]) if stage == 3 else pieces[0].flatten()
        found[name] = _shaped(whole, shape, name, models[0].file)
    return found


def _stage2(shapes: list[dict[str, Any]], ranks: list[list[Tensor]], folder: Path) -> dict[str, Tensor]:
    if len(shapes) != len(ranks[0]):
        raise InputError(
            folder,
            f"{len(shapes)} groups of parameters, but {len(ranks[0])} of weights: these shards do not belong together",
        )
    found = {}
    for number, group in enumerate(shapes):
        whole = torch.cat([groups[number] for groups in ranks])
        at = 0
        for name, shape in group.items():
            size = math.prod(shape)
            found[name] = _shaped(whole[at : at + size], shape, name, folder)
            at += size
        # the flat vector is padded to a multiple of twice the number of processes
        if not 0 <= len(whole) - at < 2 * len(ranks):
            raise InputError(folder, f"group {number} has {len(whole):,} values, but its parameters need {at:,}")
    return found


def _stage3(shapes: list[dict[str, Any]], ranks: list[list[Tensor]], folder: Path) -> dict[str, Tensor]:
    flat = [torch.cat(groups) for groups in ranks]
    found = {}
    at = 0
    for group in shapes:
        for name, shape in group.items():
            size = math.prod(shape)
            piece = math.ceil(size / len(flat))
            found[name] = _shaped(torch.cat([part[at : at + piece] for part in flat]), shape, name, folder)
            at += piece
    if any(len(part) != at for part in flat):
        raise InputError(folder, f"a process holds {len(flat[0]):,} values, but its parameters need {at:,}")
    return found


def _shaped(flat: Tensor, shape: Any, name: str, file: Path) -> Tensor:
    size = math.prod(shape)
    if len(flat) < size:
        raise InputError(file, f"expected {size:,} values, found {len(flat):,}", name)
    return flat[:size].view(tuple(shape))

"""DeepSpeed's shards, written here to its layout; its own reader is the oracle where it is installed."""

from __future__ import annotations

import enum
import importlib
import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from colva.checkpoints.zero import is_zero, read_zero
from mmvm_data.core.errors import InputError

SHAPES = [{"a.weight": (3, 5), "a.bias": (3,)}, {"b.lora_A.weight": (2, 7)}]
FROZEN = {"f.weight": (4, 3)}


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    named = {name: shape for group in [*SHAPES, FROZEN] for name, shape in group.items()}
    return {name: torch.randn(shape, generator=generator) for name, shape in named.items()}


@pytest.fixture(autouse=True)
def stages(monkeypatch: pytest.MonkeyPatch) -> Any:
    """DeepSpeed's enum of stages, which its shards hold, under its name; gone when they are read."""
    module = types.ModuleType("deepspeed.runtime.zero.config")
    made = enum.IntEnum("ZeroStageEnum", {"none": 0, "one": 1, "two": 2, "three": 3}, module=module.__name__)
    module.ZeroStageEnum = made  # type: ignore[attr-defined]
    parents = ("deepspeed", "deepspeed.runtime", "deepspeed.runtime.zero")
    if "deepspeed" in sys.modules:  # the real one
        return importlib.import_module(module.__name__).ZeroStageEnum
    for name in parents:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


def write(folder: Path, stage: Any, ranks: int, bf16: bool = True) -> None:
    folder.mkdir(parents=True)
    all_weights = weights()
    shared = {
        "buffer_names": ["buf"],
        "param_shapes": [{n: torch.Size(s) for n, s in group.items()} for group in SHAPES],
        "frozen_param_shapes": {n: torch.Size(s) for n, s in FROZEN.items()},
        "shared_params": {"a.tied": "a.weight"},
        "ds_version": "0.18.9",
    }
    module = {"buf": torch.arange(3.0), "a.weight": torch.zeros(0)}
    flat: list[list[Tensor]] = [[] for _ in range(ranks)]
    for group in SHAPES:
        if int(stage) == 3:
            for rank in range(ranks):
                pieces = [_piece(all_weights[name], rank, ranks) for name in group]
                flat[rank].append(torch.cat(pieces))
        else:
            whole = torch.cat([all_weights[name].flatten() for name in group])
            padded = torch.zeros(2 * ranks * math.ceil(len(whole) / (2 * ranks)))
            padded[: len(whole)] = whole
            for rank, part in enumerate(padded.chunk(ranks)):
                flat[rank].append(part.clone())
    for rank in range(ranks):
        frozen = {n: _piece(all_weights[n], rank, ranks) if int(stage) == 3 else all_weights[n] for n in FROZEN}
        name = f"zero_pp_rank_{rank}_mp_rank_00" if int(stage) == 3 else "mp_rank_00"
        if int(stage) == 3 or rank == 0:
            content = shared | {"module": module, "frozen_param_fragments": frozen}
            torch.save(content, folder / f"{name}_model_states.pt")
        key = "fp32_flat_groups" if int(stage) == 3 else "single_partition_of_fp32_groups"
        state = {"zero_stage": stage, "partition_count": ranks, key: flat[rank], "optimizer_state_dict": {}}
        prefix = "bf16_" if bf16 else ""
        torch.save({"optimizer_state_dict": state}, folder / f"{prefix}zero_pp_rank_{rank}_mp_rank_00_optim_states.pt")


def _piece(tensor: Tensor, rank: int, ranks: int) -> Tensor:
    size = math.ceil(tensor.numel() / ranks)
    padded = torch.zeros(size * ranks)
    padded[: tensor.numel()] = tensor.flatten()
    return padded[rank * size : (rank + 1) * size].clone()


@pytest.mark.parametrize(("stage", "ranks"), [(1, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 12)])
def test_weights_come_back(tmp_path: Path, stages: Any, stage: int, ranks: int) -> None:
    write(tmp_path / "it", stages(stage), ranks)
    (tmp_path / "latest").write_text("it")
    assert is_zero(tmp_path)
    found = read_zero(tmp_path)
    wanted = weights()
    assert found.keys() == wanted.keys() | {"buf", "a.tied"}
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name
    assert torch.equal(found["a.tied"], wanted["a.weight"])


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "ranks"), [(2, 3), (3, 2)])
def test_as_deepspeed_reads_them(tmp_path: Path, stage: int, ranks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "deepspeed"]:
        monkeypatch.delitem(sys.modules, name)
    reader = pytest.importorskip("deepspeed.utils.zero_to_fp32")
    write(tmp_path / "it", stage, ranks)
    theirs = reader.get_fp32_state_dict_from_zero_checkpoint(str(tmp_path), tag="it")
    ours = read_zero(tmp_path / "it")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name].float(), theirs[name].float()) for name in theirs)


def test_missing_shard(tmp_path: Path, stages: Any) -> None:
    write(tmp_path / "it", stages(2), 2)
    (tmp_path / "it" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(InputError, match=r"expected 2 files …_optim_states\.pt, one a process; found 1"):
        read_zero(tmp_path / "it")


def test_shards_of_another_run(tmp_path: Path, stages: Any) -> None:
    write(tmp_path / "it", stages(2), 2)
    file = tmp_path / "it" / "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"
    content = torch.load(file, weights_only=False)
    content["optimizer_state_dict"]["single_partition_of_fp32_groups"][0] = torch.zeros(100)
    torch.save(content, file)
    with pytest.raises(InputError, match=r"has 1[0-9]+ values, but its parameters need 18"):
        read_zero(tmp_path / "it")


def test_latest_that_leaves_the_folder(tmp_path: Path) -> None:
    (tmp_path / "latest").write_text("../other")
    with pytest.raises(InputError, match="must be relative and stay inside"):
        read_zero(tmp_path)

"""Processes whose rows differ: text alone in one and pictures in another, rows that are rejected, uneven batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from colva.config import dump_config
from colva.training import stage2
from colva.training.stage2 import Stage2Config
from colva.training.unsharded import Unsharded, keep_encoders_whole, list_frozen_encoders
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds
from tests.colva.training.test_launch import colva


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Cases with pictures, and as many conversations of text alone, of which two cannot be used."""
    folder = tmp_path_factory.mktemp("mixed")
    talks = [
        [{"from": "human", "value": f"Say {k}."}, {"from": "gpt", "value": f"{k}" if k % 4 else ""}] for k in range(8)
    ]
    (folder / "text.json").write_text(json.dumps([{"id": k, "conversations": talk} for k, talk in enumerate(talks)]))
    return [
        {"kind": "build", "path": stage2_world.make_build(folder / "build", 8)},
        {"kind": "text", "path": folder / "text.json"},
    ]


def make_config(tiny: Path, out: Path, mixed: list[dict[str, Any]], packing: bool, use_cache: bool) -> Stage2Config:
    return stage2_world.make_config(
        tiny,
        out,
        mixed,
        data={"max_length": 700, "packing": packing, "use_object_cache": use_cache, "held_out_share": 0.3},
        trainer={"global_batch_size": 4, "micro_batch_size": 1, "max_steps": 3, "max_reject_share": 0.5},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("packing", "use_cache"), [(False, False), (True, True)], ids=["expert", "packed-cached"])
def test_fsdp_with_and_without_pictures(
    tiny: Path, mixed: list[dict[str, Any]], tmp_path: Path, packing: bool, use_cache: bool
) -> None:
    one, two = (make_config(tiny, tmp_path / name, mixed, packing, use_cache) for name in ("one", "two"))
    assert worlds.wait_for(worlds.start_run(one)) == 0
    (tmp_path / "two.yaml").write_text(dump_config(two))
    run = colva(str(tmp_path / "two.yaml"), "--nproc", "2", "--fsdp")
    output, _ = run.communicate()
    assert run.returncode == 0, output
    worlds.assert_close(worlds.run_metrics(two.output_dir), worlds.run_metrics(one.output_dir), abs=1e-4)


def test_encoders_are_held_beside_the_model(tiny: Path, mixed: list[dict[str, Any]], tmp_path: Path) -> None:
    stage = stage2.build_stage(make_config(tiny, tmp_path / "run", mixed, packing=False, use_cache=False))
    rows = [stage.train[ordinal].value for ordinal in range(len(stage.train))]
    batches = [stage.collate([row]) for row in rows if row]
    assert {"pixel_values" in batch for batch in batches} == {True, False}

    def losses() -> list[float]:
        with torch.no_grad():
            return [float(stage.step(stage.model, batch).loss) for batch in batches]

    before, trained = losses(), [name for name, p in stage.model.named_parameters() if p.requires_grad]
    encoders = list_frozen_encoders(stage.model)
    assert len(encoders) == 4
    keep_encoders_whole(stage.model)
    inside = {id(parameter) for parameter in stage.model.parameters()}
    assert not any(id(parameter) in inside for encoder in encoders for parameter in encoder.parameters())
    assert [name for name, p in stage.model.named_parameters() if p.requires_grad] == trained
    assert losses() == before
    assert stage.count_throughput(batches[0])["flops"] > 0
    stage.model.to(torch.float64)  # casts and moves reach them
    assert {parameter.dtype for encoder in encoders for parameter in encoder.parameters()} == {torch.float64}


def test_attributes_of_a_held_module() -> None:
    held = Unsharded(nn.Linear(2, 3))
    assert held.in_features == 2
    assert not list(held.parameters())
    with pytest.raises(AttributeError, match="nothing"):
        _ = held.nothing

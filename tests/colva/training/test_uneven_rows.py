"""Processes whose rows differ: text alone in one and pictures in another, rows that are rejected, uneven batches."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from colva.training import stage2
from colva.training.stage2 import Stage2Config
from colva.training.unsharded import keep_encoders_whole, list_frozen_encoders
from colva.training.zero import builtin_deepspeed_config
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds

RunMaker = Callable[[bool, bool], Path]


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
    max_length = 360 if packing else 700  # too short for a conversation with pictures beside another one
    return stage2_world.make_config(
        tiny,
        out,
        mixed,
        data={"max_length": max_length, "packing": packing, "use_object_cache": use_cache, "held_out_share": 0.2},
        trainer={"global_batch_size": 4, "micro_batch_size": 1, "max_steps": 3, "max_reject_share": 0.5},
    )


@pytest.fixture(scope="module")
def unsharded_run(tiny: Path, mixed: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> RunMaker:
    """The folder of a run of one process, for packing and cache."""

    @functools.cache
    def run(packing: bool, use_cache: bool) -> Path:
        settings = make_config(tiny, tmp_path_factory.mktemp("one") / "run", mixed, packing, use_cache)
        assert worlds.wait_for(worlds.start_run(settings)) == 0
        return settings.output_dir

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "processes", "packing", "use_cache"),
    [
        ("fsdp", 2, False, False),
        ("fsdp", 4, True, True),
        ("zero2", 2, True, False),
        ("zero3", 2, False, False),
        ("zero3", 2, False, True),
        ("zero3", 4, True, False),
    ],
)
def test_some_processes_have_pictures(
    tiny: Path,
    mixed: list[dict[str, Any]],
    unsharded_run: RunMaker,
    tmp_path: Path,
    strategy: str,
    processes: int,
    packing: bool,
    use_cache: bool,
) -> None:
    options: dict[str, Any] = {"use_fsdp": True}
    if strategy != "fsdp":
        pytest.importorskip("deepspeed")
        options = {"deepspeed": builtin_deepspeed_config(int(strategy[-1]))}
    settings = make_config(tiny, tmp_path / "run", mixed, packing, use_cache)
    worlds.run_processes(settings, processes, **options)
    expected = worlds.run_metrics(unsharded_run(packing, use_cache))
    worlds.assert_close(worlds.run_metrics(settings.output_dir), expected, abs=1e-4)


def test_rows_of_these_runs_are_uneven(tiny: Path, mixed: list[dict[str, Any]], tmp_path: Path) -> None:
    for packing in (False, True):
        stage = stage2.build_stage(make_config(tiny, tmp_path / str(packing), mixed, packing, use_cache=False))
        values = [stage.train[ordinal].value for ordinal in range(12)]
        kinds = [value and "pixel_values" in stage.collate([value]) for value in values]
        steps = [kinds[k : k + 4] for k in (0, 4, 8)]
        assert any({True, False} <= set(step) for step in steps), steps  # pictures beside text alone
        assert packing or None in kinds  # a row is rejected
        assert stage.held_out is not None and len(stage.held_out) % 4


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

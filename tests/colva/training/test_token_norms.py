"""Norms of text, image and object tokens at the start of stage 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from colva.training.estimate import estimate_run
from colva.training.run import train
from colva.training.stage import Batch
from colva.training.stage2 import Stage2Model, build_stage
from colva.training.token_norms import measure_token_norms
from tests.colva.training import stage2_world as world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("norms")
    world.make_model(place / "model")
    world.make_build(place / "build", 4)
    return place


def median_norm(vectors: torch.Tensor) -> float:
    return float(vectors.detach().flatten(0, -2).pow(2).sum(dim=1).sqrt().median())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_new_run_logs_the_norms_first(folder: Path, tmp_path: Path, workers: int) -> None:
    config = world.make_config(
        folder / "model",
        tmp_path / "run",
        [{"kind": "build", "path": str(folder / "build")}],
        data={"objects_only_steps": 1, "packing": False},
        trainer={"max_steps": 2, "num_workers": workers},
    )
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert lines[0].keys() == {"step", "epoch", "norm_text", "norm_image", "norm_object"}
    assert lines[0]["step"] == 0
    assert not any("norm_text" in line for line in lines[1:])


@pytest.mark.parametrize("use_cache", [True, False])
def test_each_kind_is_measured_on_its_own_tokens(folder: Path, tmp_path: Path, use_cache: bool) -> None:
    sources = [{"kind": "build", "path": str(folder / "build")}]
    config = world.make_config(
        folder / "model", tmp_path / "run", sources, data={"use_object_cache": use_cache, "packing": False}
    )
    stage = build_stage(config)
    stage.prepare()
    assert isinstance(stage.model, Stage2Model)
    model = stage.model.colva
    batch: Batch = stage.collate([stage.train[0].value])
    norms = measure_token_norms(model, batch)
    ids = batch["input_ids"]
    placeholders = torch.tensor([model.config.image_token_id, model.config.object_token_id])
    text = ids[~torch.isin(ids, placeholders)]
    assert norms["norm_text"] == pytest.approx(median_norm(model.get_input_embeddings()(text)), abs=1e-3)
    assert norms["norm_image"] == pytest.approx(median_norm(model.encode_images(batch["pixel_values"])), abs=1e-3)
    # twice as long objects of the same batch
    if use_cache:
        batch["object_embeddings"] = batch["object_embeddings"] * 2
    else:
        assert model.adapter is not None
        last = [module for module in model.adapter.modules() if isinstance(module, torch.nn.Linear)][-1]
        with torch.no_grad():
            last.weight *= 2
            last.bias *= 2
    doubled = measure_token_norms(model, batch)
    assert doubled["norm_object"] == pytest.approx(2 * norms["norm_object"], rel=1e-3)
    assert doubled["norm_text"] == norms["norm_text"]


def test_a_dry_run_names_the_norm_of_text(folder: Path, tmp_path: Path) -> None:
    sources = [{"kind": "build", "path": str(folder / "build")}]
    config = world.make_config(folder / "model", tmp_path / "run", sources)
    model = build_stage(config).model
    assert isinstance(model, Stage2Model)
    norm = estimate_run(config, 1, None)["data"]["text_norm"]
    assert norm == pytest.approx(median_norm(model.colva.get_input_embeddings().weight), abs=1e-3)

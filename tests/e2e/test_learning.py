"""From generated videos to a model that answers cases of other videos, through its object tokens alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from colva import load
from colva.checkpoints.init_small import init_small
from colva.cli import main as colva
from colva.inference.answer import answer_cases
from colva.model.colva import ColvaModel
from mmvm_data.cli import cli as mmvm_data
from mmvm_data.formats import bench

VIDEOS = ["--frames", "8", "--width", "256", "--height", "144", "--objects", "4", "4"]
CASES = ["--source", "ytvos", "--min-candidates", "4", "--none-share", "0", "--min-area", "60", "--min-side", "6"]
PRETRAIN = {"trainer.max_steps": 60, "trainer.eval_steps": 0}
FINETUNE = {
    "trainer.max_steps": 900,
    "trainer.eval_steps": 0,
    "data.held_out_share": 0,
    "optimizer.lr_scheduler_type": "constant_with_warmup",
}


def run(program: Any, *arguments: object) -> None:
    result = CliRunner().invoke(program, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0, result.output


def train(config: str, settings: dict[str, object]) -> None:
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    run(colva, "train", config, *words)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_model_from_scratch_answers_cases_of_other_videos_by_their_object_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, count, seed, per_video in (("train", 100, 1, 40), ("bench", 25, 2, 8)):
        run(mmvm_data, "synth", tmp_path / f"{name}_videos", "--videos", count, "--seed", seed, *VIDEOS)
        source = ["--root", tmp_path / f"{name}_videos", "--out", tmp_path / name, "--cases-per-video", per_video]
        run(mmvm_data, "build", *CASES, *source)
    model, stage1, stage2 = (tmp_path / name for name in ("model", "stage1", "stage2"))
    init_small(model, llm="scratch", tile=32, expert_side=256)
    source = {"data.sources.0.root": tmp_path / "train_videos"}
    train("pretrain/scratch", {"model": model, "output_dir": stage1} | source | PRETRAIN)
    source = {"data.sources.0.path": tmp_path / "train", "adapter.path": stage1 / "final"}
    train("finetune/scratch", {"model": model, "output_dir": stage2} | source | FINETUNE)

    cases = list(bench.read(tmp_path / "bench"))
    trained = load(stage2 / "final")

    def compute_accuracy() -> float:
        answers = answer_cases(trained, cases, tmp_path / "bench")
        return sum(a.text == case.letter for a, case in zip(answers, cases, strict=True)) / len(cases)

    assert len(cases) >= 150
    assert compute_accuracy() >= 0.6
    # the same model with the same vectors, each at a place of another object
    pool, generator = ColvaModel.pool_object_cells, torch.Generator().manual_seed(0)

    def pool_shuffled(self: ColvaModel, *inputs: Tensor) -> Tensor:
        embeddings = pool(self, *inputs)
        return embeddings[torch.randperm(len(embeddings), generator=generator)]

    monkeypatch.setattr(ColvaModel, "pool_object_cells", pool_shuffled)
    assert compute_accuracy() < 0.4

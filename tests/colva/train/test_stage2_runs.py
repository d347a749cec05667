"""Whole runs of stage 2: killed at any moment, on two processes, in bfloat16. Killed runs are forks of this process."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from colva.config import dump
from colva.train.stage2 import Config
from tests.colva.train import stage2_world
from tests.colva.train import world as worlds
from tests.colva.train.test_launch import colva

STEPS = 10


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stage2_world.model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("data")
    return [
        {"kind": "build", "path": stage2_world.build(folder / "build", 12), "weight": 2},
        {"kind": "llava", "path": stage2_world.talk(folder / "talk"), "weight": 1},
    ]


def config(model: Path, out: Path, sources: list[dict[str, Any]], **run: Any) -> Config:
    settings = {"batch": 2, "steps": STEPS, "save_every": 2, "keep": 2} | run
    data = {"max_length": 700, "clean_share": 0.3, "held_out": 0.2}
    return stage2_world.config(model, out, sources, data=data, lora={"dropout": 0.1}, run=settings)


@pytest.fixture(scope="module")
def unbroken(model: Path, sources: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "run"
    assert worlds.finished(worlds.start(config(model, out, sources))) == 0
    return out


def same_weights(one: Path, other: Path) -> bool:
    files = ("lora/adapter_model.safetensors", "adapter.safetensors")
    return all((one / "final" / name).read_bytes() == (other / "final" / name).read_bytes() for name in files)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_been(
    model: Path, sources: list[dict[str, Any]], unbroken: Path, tmp_path: Path, kills: int
) -> None:
    rng = random.Random(7)
    out = tmp_path / "run"
    settings = config(model, out, sources)
    for kill in range(kills):
        done = len(worlds.lines(out)) if (out / "log.jsonl").exists() else 0
        child = worlds.start(settings, resume=kill > 0)
        lowest = 1 + (STEPS * kill) // kills
        worlds.kill_after(child, out, max(lowest, min(done, lowest + 1)), rng.uniform(0, 0.15))
    assert worlds.finished(worlds.start(settings, resume=True)) == 0
    assert worlds.figures(out) == worlds.figures(unbroken)
    assert same_weights(out, unbroken)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        pytest.param((), id="ddp"),
        pytest.param(("--deepspeed", "zero2"), id="zero2"),
        pytest.param(("--deepspeed", "zero3"), id="zero3"),
    ],
)
def test_two_processes_equal_one(
    model: Path, sources: list[dict[str, Any]], tmp_path: Path, more: tuple[str, ...]
) -> None:
    if more:
        pytest.importorskip("deepspeed")

    def settings(name: str) -> Config:
        # dropout draws by process, so that it cannot be alike
        return stage2_world.config(
            model,
            tmp_path / name,
            sources,
            data={"max_length": 700},
            run={"batch": 4, "steps": 6, "save_every": 3},
        )

    assert worlds.finished(worlds.start(settings("one"))) == 0
    (tmp_path / "two.yaml").write_text(dump(settings("two")))
    run = colva(str(tmp_path / "two.yaml"), "--nproc", "2", *more)
    said, _ = run.communicate()
    assert run.returncode == 0, said
    for ours, theirs in zip(worlds.figures(tmp_path / "two"), worlds.figures(tmp_path / "one"), strict=True):
        assert [value for value in ours if value is not None] == pytest.approx(
            [value for value in theirs if value is not None], abs=1e-4
        )


def test_bfloat16_learns_too(model: Path, sources: list[dict[str, Any]], unbroken: Path, tmp_path: Path) -> None:
    settings = config(model, tmp_path / "run", sources, precision="bf16")
    assert worlds.finished(worlds.start(settings)) == 0
    half, full = (
        [line["loss"] for line in worlds.lines(out) if "loss" in line] for out in (tmp_path / "run", unbroken)
    )
    assert len(half) == len(full) == STEPS
    assert half == pytest.approx(full, rel=0.05) and half != full

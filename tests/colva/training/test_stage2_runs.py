"""Complete runs of stage 2: killed at any moment, on two processes, in bfloat16; killed runs are forked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colva.config import dump_config
from colva.training.run import train
from colva.training.stage2 import Stage2Config
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds
from tests.colva.training.test_launch import colva

STEPS = 10


def make_config(tiny: Path, out: Path, sources: list[dict[str, Any]], **run: Any) -> Stage2Config:
    settings = {"global_batch_size": 2, "max_steps": STEPS, "save_steps": 2, "save_total_limit": 2} | run
    data = {"max_length": 700, "clean_share": 0.3, "held_out_share": 0.2}
    return stage2_world.make_config(tiny, out, sources, data=data, lora={"dropout": 0.1}, trainer=settings)


@pytest.fixture(scope="module")
def whole(tiny: Path, sources: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    assert worlds.wait_for(worlds.start_run(make_config(tiny, out, sources))) == 0
    return out


def same_weights(one: Path, other: Path) -> bool:
    files = ("lora/adapter_model.safetensors", "adapter.safetensors")
    return all((one / "final" / name).read_bytes() == (other / "final" / name).read_bytes() for name in files)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_resumes_to_the_same_result(
    tiny: Path, sources: list[dict[str, Any]], whole: Path, tmp_path: Path, kills: int
) -> None:
    out = tmp_path / "run"
    worlds.run_with_kills(make_config(tiny, out, sources), kills, seed=7)
    assert worlds.run_metrics(out) == worlds.run_metrics(whole)
    assert same_weights(out, whole)


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
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path, more: tuple[str, ...]
) -> None:
    if more:
        pytest.importorskip("deepspeed")

    def settings(name: str) -> Stage2Config:
        # dropout draws by process, so that it cannot be alike
        return stage2_world.make_config(
            tiny,
            tmp_path / name,
            sources,
            data={"max_length": 700},
            trainer={"global_batch_size": 4, "max_steps": 6, "save_steps": 3},
        )

    assert worlds.wait_for(worlds.start_run(settings("one"))) == 0
    (tmp_path / "two.yaml").write_text(dump_config(settings("two")))
    run = colva(str(tmp_path / "two.yaml"), "--nproc", "2", *more)
    output, _ = run.communicate()
    assert run.returncode == 0, output
    worlds.assert_close(worlds.run_metrics(tmp_path / "two"), worlds.run_metrics(tmp_path / "one"), abs=1e-4)


def test_bfloat16_learns_too(tiny: Path, sources: list[dict[str, Any]], whole: Path, tmp_path: Path) -> None:
    settings = make_config(tiny, tmp_path / "run", sources, precision="bf16")
    assert worlds.wait_for(worlds.start_run(settings)) == 0
    half, full = (
        [line["loss"] for line in worlds.read_log(out) if "loss" in line] for out in (tmp_path / "run", whole)
    )
    assert len(half) == len(full) == STEPS
    assert half == pytest.approx(full, rel=0.05) and half != full


def test_a_run_in_float32_is_not_changed_by_one_in_bfloat16_before_it(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    for name, precision in (("a", "float32"), ("b", "bf16"), ("c", "float32")):
        train(make_config(tiny, tmp_path / name, sources, max_steps=1, precision=precision))
    first, half, last = (worlds.run_metrics(tmp_path / name) for name in "abc")
    assert first == last != half

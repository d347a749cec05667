"""Several processes with gloo, started as a user does. Slow: every process imports torch for itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from colva.config import dump_config
from colva.training import checkpoint
from colva.training.commands import train
from colva.training.launch import launch
from colva.training.run import train as run_training
from mmvm_data.core.errors import UsageError
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds

ROOT = Path(__file__).resolve().parents[3]


def colva(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "colva.cli", "train", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [(), ("--fsdp",), ("--deepspeed", "zero2"), ("--deepspeed", "zero3")],
    ids=["ddp", "fsdp", "zero2", "zero3"],
)
def test_two_processes_equal_one(world: Path, unbroken: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    if "--deepspeed" in more:
        pytest.importorskip("deepspeed")
    settings = worlds.make_config(world, tmp_path / "run")
    (tmp_path / "config.yaml").write_text(dump_config(settings))
    half = colva(str(tmp_path / "config.yaml"), "--nproc", "2", *more)
    output, _ = half.communicate()
    assert half.returncode == 0, output
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(unbroken), abs=1e-4)
    # and resume it in the middle
    before = worlds.run_metrics(settings.output_dir)
    for name in ("checkpoint-10",):
        (settings.output_dir / name / checkpoint.FILES).unlink()
    again = colva(str(tmp_path / "config.yaml"), "--nproc", "2", "--resume", *more)
    output, _ = again.communicate()
    assert again.returncode == 0, output
    worlds.assert_close(worlds.run_metrics(settings.output_dir), before, abs=1e-6)
    if more:
        other = colva(str(tmp_path / "config.yaml"), "--nproc", "2", "--resume")
        output, _ = other.communicate()
        assert other.returncode != 0 and "now it is native engine, which saves its state in another form" in output


@pytest.mark.slow
def test_when_a_process_dies_the_run_reports_it_and_can_be_resumed(world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "run", trainer__max_steps=500, trainer__save_steps=1)
    (tmp_path / "config.yaml").write_text(dump_config(settings))
    run = colva(str(tmp_path / "config.yaml"), "--nproc", "2")
    while checkpoint.find_latest(settings.output_dir) is None:
        assert run.poll() is None
        time.sleep(0.1)
    workers = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True, check=True).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)
    output, _ = run.communicate()
    assert run.returncode == 2
    assert "ended with SIGKILL" in output
    assert "--resume" in output
    assert checkpoint.find_latest(settings.output_dir) is not None


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--fsdp",), ("--deepspeed", "zero3")], ids=["fsdp", "zero3"])
def test_two_processes_train_stage_2_in_bfloat16_with_recomputation(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path, more: tuple[str, ...]
) -> None:
    if "--deepspeed" in more:
        pytest.importorskip("deepspeed")
    shape = {
        "global_batch_size": 4,
        "micro_batch_size": 1,
        "max_steps": 5,
        "gradient_checkpointing": True,
        "precision": "bf16",
    }
    settings = stage2_world.make_config(tiny, tmp_path / "run", sources, trainer=shape)
    (tmp_path / "config.yaml").write_text(dump_config(settings))
    half = colva(str(tmp_path / "config.yaml"), "--nproc", "2", *more)
    output, _ = half.communicate()
    assert half.returncode == 0, output
    alone = stage2_world.make_config(tiny, tmp_path / "alone", sources, trainer=shape | {"precision": "float32"})
    run_training(alone)
    losses, expected = (
        [line["loss"] for line in worlds.read_log(out) if "loss" in line]
        for out in (settings.output_dir, alone.output_dir)
    )
    assert losses == pytest.approx(expected, rel=0.05)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), "set their number with --nproc"),
        (("--nproc", "2", "--engine", "xtuner"), "cannot be combined with --deepspeed"),
    ],
)
def test_fsdp_needs_several_processes_and_no_other_sharding(
    tmp_path: Path, more: tuple[str, ...], expected: str
) -> None:
    (tmp_path / "config.yaml").touch()
    done = CliRunner().invoke(train, [str(tmp_path / "config.yaml"), "--fsdp", *more])
    assert isinstance(done.exception, UsageError) and expected in str(done.exception)


def test_several_machines_need_a_master() -> None:
    with pytest.raises(UsageError, match="--master"):
        launch(["config.yaml"], 2, num_nodes=2)

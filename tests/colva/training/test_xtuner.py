"""The other engine, in processes of their own: nothing else may find the torchvision that xtuner imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from colva.config import dump_config
from colva.training import checkpoint
from colva.training.run import load_config
from colva.training.run import train as run_training
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "configs" / "xtuner"
PACKAGES = Path(sys.prefix) / "xtuner" / "site-packages"

# on a machine with a GPU this is `xtuner train`
XTUNER_TRAIN = "import colva.training.xtuner_imports; from xtuner.tools.train import main; main()"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PACKAGES.is_dir() and os.environ.get("CI") != "true", reason="xtuner: `make env` adds it"),
]


def python(*words: str, folder: Path | None = None, with_xtuner: bool = True) -> tuple[int, str]:
    """Exit code and output of a process that finds xtuner."""
    path = os.pathsep.join([str(ROOT), *([str(PACKAGES)] if with_xtuner else [])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    done = subprocess.run(
        command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def train_with_xtuner(config: Path, *words: str) -> str:
    code, output = python("-m", "colva.cli", "train", str(config), "--engine", "xtuner", *words)
    assert code == 0, output
    return output


def write_config(settings: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump_config(settings))
    return folder / "config.yaml"


@pytest.mark.parametrize("micro", [None, 2])
def test_stage_1_has_the_losses_of_the_native_engine(
    world: Path, unbroken: Path, tmp_path: Path, micro: int | None
) -> None:
    settings = worlds.make_config(world, tmp_path / "run", trainer__micro_batch_size=micro, trainer__max_steps=20)
    train_with_xtuner(write_config(settings, tmp_path))
    ours = worlds.make_config(world, tmp_path / "ours", trainer__micro_batch_size=micro, trainer__max_steps=20)
    assert worlds.wait_for(worlds.start_run(ours)) == 0
    assert len(worlds.read_log(settings.output_dir)) >= 20
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(ours.output_dir), abs=1e-5)
    assert sorted(p.name for p in (settings.output_dir / "final").iterdir()) == sorted(
        p.name for p in (ours.output_dir / "final").iterdir()
    )


def test_stage_2_has_the_losses_of_the_native_engine_with_dropout(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {
        "lora": {"dropout": 0.1},
        "trainer": {"max_steps": 20, "global_batch_size": 4, "micro_batch_size": 2},
    }
    ours = stage2_world.make_config(tiny, tmp_path / "ours", sources, **changes)
    run_training(ours)
    settings = stage2_world.make_config(tiny, tmp_path / "run", sources, **changes)
    train_with_xtuner(write_config(settings, tmp_path))
    assert len(worlds.read_log(settings.output_dir)) == 21  # the norms, and 20 steps
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(ours.output_dir), abs=1e-5)


def test_a_resumed_run_continues_exactly_where_its_checkpoint_ends(world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "whole", trainer__micro_batch_size=2)
    train_with_xtuner(write_config(settings, tmp_path / "a"))
    cut = worlds.make_config(world, tmp_path / "cut", trainer__micro_batch_size=2)
    shutil.copytree(settings.output_dir, cut.output_dir)
    for left in ("final", "checkpoint-10"):  # a kill in the midst of the last one
        shutil.rmtree(cut.output_dir / left)
    newest = checkpoint.find_latest(cut.output_dir)
    assert newest is not None and newest.name == "checkpoint-8"
    train_with_xtuner(write_config(cut, tmp_path / "b"), "--resume")
    assert worlds.run_metrics(cut.output_dir) == worlds.run_metrics(settings.output_dir)
    for file in (settings.output_dir / "final").glob("*.safetensors"):
        assert file.read_bytes() == (cut.output_dir / "final" / file.name).read_bytes()
    # once more: everything is done, the weights are written again
    shutil.rmtree(cut.output_dir / "final")
    train_with_xtuner(tmp_path / "b" / "config.yaml", "--resume")
    assert worlds.run_metrics(cut.output_dir) == worlds.run_metrics(settings.output_dir)
    assert (cut.output_dir / "final").is_dir()


@pytest.mark.parametrize(
    "more", [(), ("--deepspeed", "zero2"), ("--deepspeed", "zero3")], ids=["ddp", "zero2", "zero3"]
)
def test_two_processes_equal_one(world: Path, unbroken: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    settings = worlds.make_config(world, tmp_path / "run")
    file = write_config(settings, tmp_path)
    train_with_xtuner(file, "--nproc", "2", *more)
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(unbroken), abs=1e-4)
    before = worlds.run_metrics(settings.output_dir)
    (settings.output_dir / "checkpoint-10" / checkpoint.FILES).unlink()
    train_with_xtuner(file, "--nproc", "2", "--resume", *more)
    worlds.assert_close(worlds.run_metrics(settings.output_dir), before, abs=1e-6)


def test_the_other_engines_checkpoints_and_a_missing_package_are_named(
    world: Path, unbroken: Path, tmp_path: Path
) -> None:
    settings = worlds.make_config(world, tmp_path / "run")
    shutil.copytree(unbroken, settings.output_dir)
    file = write_config(settings, tmp_path)
    words = ("-m", "colva.cli", "train", str(file), "--engine", "xtuner", "--resume")
    code, output = python(*words)
    assert code == 2 and "started with native engine, now it is xtuner" in output
    code, output = python(*words, with_xtuner=False)
    assert code == 2 and "xtuner, mmengine, torchvision not installed" in output


def test_reporting_elsewhere_is_refused_before_anything_is_made(world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "run", trainer__report_to=["tensorboard"])
    code, output = python("-m", "colva.cli", "train", str(write_config(settings, tmp_path)), "--engine", "xtuner")
    assert code == 2 and "trainer.report_to: needs the native engine" in output
    assert not settings.output_dir.exists()


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_xtuners_own_command_takes_our_files(
    stage: str, world: Path, tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    if stage == "pretrain":
        settings: Any = worlds.make_config(world, tmp_path / "run", trainer__global_batch_size=8)
        again: Any = worlds.make_config(world, tmp_path / "again", trainer__global_batch_size=8)
    else:
        shape = {"trainer": {"global_batch_size": 4, "micro_batch_size": 2, "max_steps": 6}}
        settings = stage2_world.make_config(tiny, tmp_path / "run", sources, **shape)
        again = stage2_world.make_config(tiny, tmp_path / "again", sources, **shape)
    shipped = (FILES / f"{stage}_tiny.py").read_text()
    named = f'config="configs/{stage}/tiny.yaml"'
    assert shipped.count(named) == 1
    (tmp_path / "ours.py").write_text(shipped.replace(named, f'config="{write_config(settings, tmp_path)}"'))
    code, output = python("-c", XTUNER_TRAIN, "ours.py", folder=tmp_path)
    assert code == 0, output
    train_with_xtuner(write_config(again, tmp_path / "b"))
    assert worlds.run_metrics(settings.output_dir) == worlds.run_metrics(again.output_dir)
    assert (settings.output_dir / "final").is_dir()
    # what the file says twice must be the same
    other = shipped.replace(named, f'config="{tmp_path / "config.yaml"}", changes=["trainer.micro_batch_size=1"]')
    other = other.replace(", changes=[], resume", ", resume").replace('config.yaml", changes', 'config.yaml", changes')
    (tmp_path / "other.py").write_text(other)
    shutil.rmtree(settings.output_dir)
    code, output = python("-c", XTUNER_TRAIN, "other.py", folder=tmp_path)
    assert code != 0 and "train_dataloader.batch_size: " in output and "is 1" in output


def test_xtuners_own_command_takes_our_files_with_deepspeed(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {
        "trainer": {"global_batch_size": 4, "micro_batch_size": 2, "max_steps": 6, "save_steps": 3, "precision": "bf16"}
    }
    settings = stage2_world.make_config(tiny, tmp_path / "run", sources, **shape)
    again = stage2_world.make_config(tiny, tmp_path / "again", sources, **shape)
    text = (FILES / "finetune_tiny.py").read_text().replace('"nccl"', '"gloo"')
    ours = text.replace("configs/finetune/tiny.yaml", str(write_config(settings, tmp_path)))
    (tmp_path / "ours.py").write_text(ours)
    # mmengine looks for a GPU when it makes the processes' group; one that is there it takes
    begin = "import torch; torch.distributed.init_process_group('gloo'); "
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29517")):
        monkeypatch.setenv(name, value)
    words = ("-c", begin + XTUNER_TRAIN, "ours.py", "--deepspeed", "deepspeed_zero2")
    code, output = python(*words, folder=tmp_path)
    assert code == 0, output
    train_with_xtuner(write_config(again, tmp_path / "b"), "--deepspeed", "zero2")
    assert worlds.run_metrics(settings.output_dir) == worlds.run_metrics(again.output_dir)

    (settings.output_dir / "checkpoint-6" / checkpoint.FILES).unlink()
    (tmp_path / "ours.py").write_text(ours.replace("resume=False", "resume=True"))
    code, output = python(*words, folder=tmp_path)
    assert code == 0, output
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(again.output_dir), abs=1e-6)
    code, output = python("-c", XTUNER_TRAIN, "ours.py", folder=tmp_path)
    assert code != 0 and "started with xtuner with ZeRO 2, now it is xtuner," in output

    changed = ours.replace("changes=[]", 'changes=["trainer.precision=float32"]')
    (tmp_path / "ours.py").write_text(changed.replace("resume=False", "resume=True"))
    shutil.rmtree(settings.output_dir)
    code, output = python(*words, folder=tmp_path)
    assert code != 0 and "trainer.precision: float32, but DeepSpeed's configuration has another" in output


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.glob("*.py")))
def test_the_files_agree_with_ours(file: str) -> None:
    text = (FILES / file).read_text()
    stage, _, name = file.removesuffix(".py").partition("_")
    devices = 1 if name == "tiny" else 8
    settings = load_config(ROOT / "configs" / stage / f"{name}.yaml")
    micro = settings.trainer.micro_batch_size or settings.trainer.global_batch_size // devices
    assert f'config="configs/{stage}/{name}.yaml"' in text
    assert f"dict(batch_size={micro})" in text
    assert f"accumulative_counts={settings.trainer.global_batch_size // (micro * devices)}," in text
    assert f"max_norm={yaml.safe_dump(settings.optimizer.max_grad_norm).split()[0]})" in text
    if devices > 1:
        assert f"NPROC_PER_NODE={devices}" in text

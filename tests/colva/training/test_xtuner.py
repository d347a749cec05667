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

from colva.config import dump
from colva.training import checkpoint
from colva.training.run import checked, run
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


def train(config: Path, *words: str) -> str:
    code, said = python("-m", "colva.cli", "train", str(config), "--engine", "xtuner", *words)
    assert code == 0, said
    return said


def written(settings: Any, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(dump(settings))
    return folder / "config.yaml"


@pytest.mark.parametrize("micro", [None, 2])
def test_stage_1_has_the_losses_of_our_engine(world: Path, unbroken: Path, tmp_path: Path, micro: int | None) -> None:
    settings = worlds.config(world, tmp_path / "run", run__micro_batch=micro, run__steps=20)
    train(written(settings, tmp_path))
    ours = worlds.config(world, tmp_path / "ours", run__micro_batch=micro, run__steps=20)
    assert worlds.finished(worlds.start(ours)) == 0
    assert len(worlds.lines(settings.out)) >= 20
    worlds.assert_close(worlds.figures(settings.out), worlds.figures(ours.out), abs=1e-5)
    assert sorted(p.name for p in (settings.out / "final").iterdir()) == sorted(
        p.name for p in (ours.out / "final").iterdir()
    )


def test_stage_2_has_the_losses_of_our_engine_with_dropout(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"lora": {"dropout": 0.1}, "run": {"steps": 20, "batch": 4, "micro_batch": 2}}
    ours = stage2_world.config(tiny, tmp_path / "ours", sources, **changes)
    run(ours)
    settings = stage2_world.config(tiny, tmp_path / "run", sources, **changes)
    train(written(settings, tmp_path))
    assert len(worlds.lines(settings.out)) == 20
    worlds.assert_close(worlds.figures(settings.out), worlds.figures(ours.out), abs=1e-5)


def test_a_run_goes_on_exactly_where_a_checkpoint_ends(world: Path, tmp_path: Path) -> None:
    settings = worlds.config(world, tmp_path / "whole", run__micro_batch=2)
    train(written(settings, tmp_path / "a"))
    cut = worlds.config(world, tmp_path / "cut", run__micro_batch=2)
    shutil.copytree(settings.out, cut.out)
    for left in ("final", "checkpoint-10"):  # a kill in the midst of the last one
        shutil.rmtree(cut.out / left)
    newest = checkpoint.latest(cut.out)
    assert newest is not None and newest.name == "checkpoint-8"
    train(written(cut, tmp_path / "b"), "--resume")
    assert worlds.figures(cut.out) == worlds.figures(settings.out)
    for file in (settings.out / "final").glob("*.safetensors"):
        assert file.read_bytes() == (cut.out / "final" / file.name).read_bytes()
    # once more: everything is done, the weights are written again
    shutil.rmtree(cut.out / "final")
    train(tmp_path / "b" / "config.yaml", "--resume")
    assert worlds.figures(cut.out) == worlds.figures(settings.out)
    assert (cut.out / "final").is_dir()


@pytest.mark.parametrize(
    "more", [(), ("--deepspeed", "zero2"), ("--deepspeed", "zero3")], ids=["ddp", "zero2", "zero3"]
)
def test_two_processes_equal_one(world: Path, unbroken: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    settings = worlds.config(world, tmp_path / "run")
    file = written(settings, tmp_path)
    train(file, "--nproc", "2", *more)
    worlds.assert_close(worlds.figures(settings.out), worlds.figures(unbroken), abs=1e-4)
    before = worlds.figures(settings.out)
    (settings.out / "checkpoint-10" / checkpoint.FILES).unlink()
    train(file, "--nproc", "2", "--resume", *more)
    worlds.assert_close(worlds.figures(settings.out), before, abs=1e-6)


def test_the_other_engines_checkpoints_and_a_missing_package_are_named(
    world: Path, unbroken: Path, tmp_path: Path
) -> None:
    settings = worlds.config(world, tmp_path / "run")
    shutil.copytree(unbroken, settings.out)
    file = written(settings, tmp_path)
    words = ("-m", "colva.cli", "train", str(file), "--engine", "xtuner", "--resume")
    code, said = python(*words)
    assert code == 2 and "begun with our engine, now it is xtuner" in said
    code, said = python(*words, with_xtuner=False)
    assert code == 2 and "xtuner, mmengine, torchvision not installed" in said


def test_reporting_elsewhere_is_refused_before_anything_is_made(world: Path, tmp_path: Path) -> None:
    settings = worlds.config(world, tmp_path / "run", run__report=["tensorboard"])
    code, said = python("-m", "colva.cli", "train", str(written(settings, tmp_path)), "--engine", "xtuner")
    assert code == 2 and "run.report: only our own engine reports elsewhere" in said
    assert not settings.out.exists()


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_xtuners_own_command_takes_our_files(
    stage: str, world: Path, tiny: Path, sources: list[dict[str, Any]], tmp_path: Path
) -> None:
    if stage == "pretrain":
        settings: Any = worlds.config(world, tmp_path / "run", run__batch=8)
        again: Any = worlds.config(world, tmp_path / "again", run__batch=8)
    else:
        shape = {"run": {"batch": 4, "micro_batch": 2, "steps": 6}}
        settings = stage2_world.config(tiny, tmp_path / "run", sources, **shape)
        again = stage2_world.config(tiny, tmp_path / "again", sources, **shape)
    shipped = (FILES / f"{stage}_tiny.py").read_text()
    named = f'config="configs/{stage}/tiny.yaml"'
    assert shipped.count(named) == 1
    (tmp_path / "ours.py").write_text(shipped.replace(named, f'config="{written(settings, tmp_path)}"'))
    code, said = python("-c", XTUNER_TRAIN, "ours.py", folder=tmp_path)
    assert code == 0, said
    train(written(again, tmp_path / "b"))
    assert worlds.figures(settings.out) == worlds.figures(again.out)
    assert (settings.out / "final").is_dir()
    # what the file says twice must be the same
    other = shipped.replace(named, f'config="{tmp_path / "config.yaml"}", changes=["run.micro_batch=1"]')
    other = other.replace(", changes=[], resume", ", resume").replace('config.yaml", changes', 'config.yaml", changes')
    (tmp_path / "other.py").write_text(other)
    shutil.rmtree(settings.out)
    code, said = python("-c", XTUNER_TRAIN, "other.py", folder=tmp_path)
    assert code != 0 and "train_dataloader.batch_size: " in said and "is 1" in said


def test_xtuners_own_command_takes_our_files_with_deepspeed(
    tiny: Path, sources: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"run": {"batch": 4, "micro_batch": 2, "steps": 6, "save_every": 3, "precision": "bf16"}}
    settings = stage2_world.config(tiny, tmp_path / "run", sources, **shape)
    again = stage2_world.config(tiny, tmp_path / "again", sources, **shape)
    text = (FILES / "finetune_tiny.py").read_text().replace('"nccl"', '"gloo"')
    ours = text.replace("configs/finetune/tiny.yaml", str(written(settings, tmp_path)))
    (tmp_path / "ours.py").write_text(ours)
    # mmengine looks for a GPU when it makes the processes' group; one that is there it takes
    begin = "import torch; torch.distributed.init_process_group('gloo'); "
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29517")):
        monkeypatch.setenv(name, value)
    words = ("-c", begin + XTUNER_TRAIN, "ours.py", "--deepspeed", "deepspeed_zero2")
    code, said = python(*words, folder=tmp_path)
    assert code == 0, said
    train(written(again, tmp_path / "b"), "--deepspeed", "zero2")
    assert worlds.figures(settings.out) == worlds.figures(again.out)

    (settings.out / "checkpoint-6" / checkpoint.FILES).unlink()
    (tmp_path / "ours.py").write_text(ours.replace("resume=False", "resume=True"))
    code, said = python(*words, folder=tmp_path)
    assert code == 0, said
    worlds.assert_close(worlds.figures(settings.out), worlds.figures(again.out), abs=1e-6)
    code, said = python("-c", XTUNER_TRAIN, "ours.py", folder=tmp_path)
    assert code != 0 and "begun with xtuner with ZeRO 2, now it is xtuner;" in said

    changed = ours.replace("changes=[]", 'changes=["run.precision=float32"]')
    (tmp_path / "ours.py").write_text(changed.replace("resume=False", "resume=True"))
    shutil.rmtree(settings.out)
    code, said = python(*words, folder=tmp_path)
    assert code != 0 and "run.precision: float32, but DeepSpeed's configuration has another" in said


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.glob("*.py")))
def test_the_files_agree_with_ours(file: str) -> None:
    text = (FILES / file).read_text()
    stage, _, name = file.removesuffix(".py").partition("_")
    devices = 1 if name == "tiny" else 8
    settings = checked(ROOT / "configs" / stage / f"{name}.yaml")
    micro = settings.run.micro_batch or settings.run.batch // devices
    assert f'config="configs/{stage}/{name}.yaml"' in text
    assert f"dict(batch_size={micro})" in text
    assert f"accumulative_counts={settings.run.batch // (micro * devices)}," in text
    assert f"max_norm={yaml.safe_dump(settings.optimiser.clip).split()[0]})" in text
    if devices > 1:
        assert f"NPROC_PER_NODE={devices}" in text

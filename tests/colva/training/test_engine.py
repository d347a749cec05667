"""The engine on stage 1 at toy size. Runs are forks of the test's process, so that they can be killed."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from colva.config import dump_config
from colva.training import checkpoint, stage1
from colva.training import run as runs
from colva.training.checkpoint import TrainingError
from colva.training.loader import shard_batch
from mmvm_data.core.errors import InputError, OutputError, UsageError
from tests.colva.training import world as worlds


def test_a_run_writes_its_log_its_checkpoints_and_its_weights(unbroken: Path, world: Path) -> None:
    lines = worlds.read_log(unbroken)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, worlds.STEPS + 1))
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 5, worlds.STEPS]
    assert {"accuracy", "lr", "grad_norm", "seconds", "data_share", "images_per_s", "memory_mb"} <= lines[-2].keys()
    assert checkpoint.find_latest(unbroken) == unbroken / "checkpoint-10"
    assert not list(unbroken.glob(".*"))
    # the folder is one that convert, merge and load know
    from colva.checkpoints.load import load

    model, plain = load(unbroken / "final"), load(world / "model")
    assert model.adapter is not None and plain.adapter is not None
    trained = load_file(unbroken / "final" / "adapter.safetensors")
    for name, tensor in model.adapter.state_dict().items():
        assert torch.equal(tensor, trained[name])
    assert not torch.equal(model.adapter[1].weight, plain.adapter[1].weight)
    assert sum(path.stat().st_size for path in (unbroken / "final").iterdir()) < 100_000


def test_a_run_killed_at_any_moment_resumes_to_the_same_result(
    world: Path, unbroken: Path, tmp_path: Path, kills: int = 3
) -> None:
    out = tmp_path / "run"
    worlds.run_with_kills(worlds.make_config(world, out), kills, seed=5)
    assert worlds.run_metrics(out) == worlds.run_metrics(unbroken)
    ours, theirs = (load_file(folder / "final" / "adapter.safetensors") for folder in (out, unbroken))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_workers_and_micro_batches_change_nothing(world: Path, unbroken: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "workers", trainer__num_workers=2)
    assert worlds.wait_for(worlds.start_run(settings)) == 0
    assert worlds.run_metrics(settings.output_dir) == worlds.run_metrics(unbroken)
    settings = worlds.make_config(world, tmp_path / "micro", trainer__micro_batch_size=1)
    assert worlds.wait_for(worlds.start_run(settings)) == 0
    worlds.assert_close(worlds.run_metrics(settings.output_dir), worlds.run_metrics(unbroken), abs=1e-5)


def test_a_finished_run_is_not_changed_and_needs_resume(unbroken: Path, world: Path) -> None:
    settings = worlds.make_config(world, unbroken)
    before = (unbroken / "log.jsonl").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        runs.train(settings)
    runs.train(settings, resume=True)
    assert (unbroken / "log.jsonl").read_bytes() == before
    with pytest.raises(InputError, match=r"optimizer\.learning_rate"):
        runs.train(worlds.make_config(world, unbroken, optimizer__learning_rate=3e-2), resume=True)


def test_a_second_run_is_refused_in_the_same_folder(world: Path, tmp_path: Path) -> None:
    """Without a word about the log of the first one, and with the id of its process."""
    settings = worlds.make_config(world, tmp_path / "run")
    child = worlds.start_run(settings)
    try:
        while not (tmp_path / "run/log.jsonl").exists():
            time.sleep(0.02)
        os.kill(child, signal.SIGSTOP)
        before = (tmp_path / "run/log.jsonl").read_bytes()
        for resume in (False, True):
            with pytest.raises(UsageError, match=rf"`colva train` \(pid {child}\) is writing here"):
                runs.train(settings, resume=resume)
        assert (tmp_path / "run/log.jsonl").read_bytes() == before
    finally:
        os.kill(child, signal.SIGKILL)
        worlds.wait_for(child)
    with runs.lock_run(tmp_path / "run", rank=0):  # what a killed run has left is no obstacle
        pass
    assert not (tmp_path / "run/.lock").exists()


def test_a_run_can_be_started_from_a_file(unbroken: Path, world: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(dump_config(worlds.make_config(world, unbroken)))
    for config in (path, str(path)):
        assert runs.train(config, resume=True) == unbroken / "final"
    with pytest.raises(UsageError, match="neither a file nor a shipped configuration"):
        runs.train("pretrain/tinny")


def test_a_loss_that_is_not_finite_stops_the_run_before_it_changes_weights(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = worlds.make_config(world, tmp_path / "run")
    whole, calls = stage1.contrastive_step, [0]

    def damaged(*arguments):
        step = whole(*arguments)
        calls[0] += torch.is_grad_enabled()
        return step if calls[0] < 4 else type(step)(step.loss * float("nan"), step.means)

    monkeypatch.setattr(stage1, "contrastive_step", damaged)
    with pytest.raises(TrainingError, match=r"step 4: the loss is nan \(items 12 to 15 of the run\)"):
        runs.train(settings)
    assert checkpoint.find_latest(settings.output_dir) == settings.output_dir / "checkpoint-2"
    saved = load_file(settings.output_dir / "checkpoint-2" / "adapter.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())


def test_an_unusable_record_is_left_out_listed_once_and_counted(world: Path, tmp_path: Path) -> None:
    import shutil

    damaged = tmp_path / "world"
    shutil.copytree(world / "videos", damaged / "videos")
    (damaged / "model").symlink_to(world / "model")
    for frame in (damaged / "videos/JPEGImages/480p/clip001").iterdir():
        frame.write_bytes(frame.read_bytes()[:300])
    settings = worlds.make_config(damaged, tmp_path / "run", trainer__max_reject_share=1.0)
    runs.train(settings)
    rejects = [json.loads(line) for line in (settings.output_dir / "rejects.jsonl").read_text().splitlines()]
    assert rejects
    assert {reject["video"] for reject in rejects} == {"clip001"}
    assert all("clip001" in reject["file"] and reject["reason"] for reject in rejects)
    assert len({json.dumps(reject) for reject in rejects}) == len(rejects)
    assert worlds.read_log(settings.output_dir)[-2]["rejects"] == len(rejects)
    # it is not replaced: the other pairs are those of a run in which it is intact
    whole = stage1.build_stage(worlds.make_config(world, tmp_path / "x")).train
    partly = stage1.build_stage(settings).train
    for ordinal in range(40):
        ours, theirs = partly[ordinal], whole[ordinal]
        assert whole.locate(ordinal) == partly.locate(ordinal)
        if partly.locate(ordinal)[1] != "clip001":
            assert torch.equal(ours.sides[0].canvas, theirs.sides[0].canvas)


def test_too_many_unusable_records_stop_the_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "world"
    (damaged / "videos").mkdir(parents=True)
    import shutil

    shutil.copytree(world / "videos", damaged / "videos", dirs_exist_ok=True)
    (damaged / "model").symlink_to(world / "model")
    for frame in (damaged / "videos/JPEGImages/480p").rglob("*.jpg"):
        frame.write_bytes(b"")
    with pytest.raises(TrainingError, match="none of the first"):
        runs.train(worlds.make_config(damaged, tmp_path / "run", data__held_out_share=0.0))


def test_a_full_disk_is_reported_and_the_last_checkpoint_is_kept(world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(world, tmp_path / "run", trainer__save_steps=1)
    assert worlds.wait_for(worlds.start_run(settings, kill_at=(4, 0))) == -signal.SIGKILL
    kept = checkpoint.find_latest(settings.output_dir)
    assert kept is not None
    import os

    child = os.fork()
    if not child:
        # no file may grow past this: the weights fit, the optimizer's state does not
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            runs.train(settings, resume=True)
        except (OutputError, TrainingError) as error:
            os._exit(7 if "checkpoint-" in str(error) and "cannot write" in str(error) else 8)
        finally:
            os._exit(9)
    assert worlds.wait_for(child) == 7
    assert checkpoint.find_latest(settings.output_dir) == kept
    assert worlds.wait_for(worlds.start_run(settings, resume=True)) == 0


def test_a_batch_that_cannot_be_divided_evenly_is_refused() -> None:
    assert shard_batch(12, None, 2, 0).accumulation_steps == 1
    assert shard_batch(12, 2, 2, 0).accumulation_steps == 3
    for batch, micro, processes, message in ((7, None, 2, "evenly over 2"), (12, 4, 2, "does not divide")):
        with pytest.raises(UsageError, match=message):
            shard_batch(batch, micro, processes, 0)


@pytest.mark.parametrize(("processes", "micro"), [(1, None), (1, 3), (2, 3), (4, 1)])
def test_every_item_is_in_one_micro_batch_of_the_same_step(processes: int, micro: int | None) -> None:
    for step in range(3):
        ordinals = []
        for rank in range(processes):
            sharding = shard_batch(12, micro, processes, rank)
            ordinals += [
                ordinal for turn in range(sharding.accumulation_steps) for ordinal in sharding.ordinals(step, turn)
            ]
        assert sorted(ordinals) == list(range(12 * step, 12 * step + 12))


@pytest.mark.slow
def test_memory_stays_flat(world: Path, tmp_path: Path) -> None:
    settings = worlds.make_config(
        world,
        tmp_path / "run",
        trainer__max_steps=120,
        trainer__save_steps=0,
        trainer__num_workers=2,
        trainer__eval_steps=0,
    )
    assert worlds.wait_for(worlds.start_run(settings)) == 0
    used = [line["memory_mb"] for line in worlds.read_log(settings.output_dir) if "loss" in line]
    assert np.median(used[-20:]) < 1.02 * np.median(used[20:40])


@pytest.mark.slow
def test_killed_ten_times(world: Path, unbroken: Path, tmp_path: Path) -> None:
    test_a_run_killed_at_any_moment_resumes_to_the_same_result(world, unbroken, tmp_path, kills=10)

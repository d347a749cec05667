"""The engine on stage 1 at toy size. Runs are forks of the test's process, so that they can be killed."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from colva.training import checkpoint, stage1
from colva.training import run as runs
from colva.training.checkpoint import TrainingFailed
from colva.training.loader import dealing
from mmvm_data.core.errors import InputError, OutputError, UsageError
from tests.colva.training import world as worlds


def test_a_run_leaves_its_log_its_checkpoints_and_its_weights(unbroken: Path, world: Path) -> None:
    lines = worlds.lines(unbroken)
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, worlds.STEPS + 1))
    assert [line["step"] for line in lines if "eval_loss" in line] == [0, 5, worlds.STEPS]
    assert {"accuracy", "lr", "grad_norm", "seconds", "data_share", "images_per_s", "memory_mb"} <= lines[-2].keys()
    assert checkpoint.latest(unbroken) == unbroken / "checkpoint-10"
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


def test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_been(
    world: Path, unbroken: Path, tmp_path: Path, kills: int = 3
) -> None:
    out = tmp_path / "run"
    worlds.killed(worlds.config(world, out), kills, seed=5)
    assert worlds.figures(out) == worlds.figures(unbroken)
    ours, theirs = (load_file(folder / "final" / "adapter.safetensors") for folder in (out, unbroken))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_workers_and_micro_batches_change_nothing(world: Path, unbroken: Path, tmp_path: Path) -> None:
    settings = worlds.config(world, tmp_path / "workers", run__workers=2)
    assert worlds.finished(worlds.start(settings)) == 0
    assert worlds.figures(settings.out) == worlds.figures(unbroken)
    settings = worlds.config(world, tmp_path / "micro", run__micro_batch=1)
    assert worlds.finished(worlds.start(settings)) == 0
    worlds.assert_close(worlds.figures(settings.out), worlds.figures(unbroken), abs=1e-5)


def test_a_finished_run_is_left_as_it_is_and_a_begun_one_is_not_begun_again(unbroken: Path, world: Path) -> None:
    settings = worlds.config(world, unbroken)
    before = (unbroken / "log.jsonl").read_bytes()
    with pytest.raises(UsageError, match="--resume"):
        runs.run(settings)
    runs.run(settings, resume=True)
    assert (unbroken / "log.jsonl").read_bytes() == before
    with pytest.raises(InputError, match=r"optimiser\.lr"):
        runs.run(worlds.config(world, unbroken, optimiser__lr=3e-2), resume=True)


def test_a_loss_that_is_no_number_stops_the_run_before_it_does_harm(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = worlds.config(world, tmp_path / "run")
    whole, calls = stage1.contrast, [0]

    def spoilt(objects, batch, negatives="frame"):
        step = whole(objects, batch, negatives)
        calls[0] += torch.is_grad_enabled()
        return step if calls[0] < 4 else type(step)(step.loss * float("nan"), step.means)

    monkeypatch.setattr(stage1, "contrast", spoilt)
    with pytest.raises(TrainingFailed, match=r"step 4: the loss is nan \(items 12 to 15 of the run\)"):
        runs.run(settings)
    assert checkpoint.latest(settings.out) == settings.out / "checkpoint-2"
    saved = load_file(settings.out / "checkpoint-2" / "adapter.safetensors")
    assert all(bool(torch.isfinite(tensor).all()) for tensor in saved.values())


def test_a_bad_record_is_left_out_listed_once_and_counted(world: Path, tmp_path: Path) -> None:
    import shutil

    spoilt = tmp_path / "world"
    shutil.copytree(world / "videos", spoilt / "videos")
    (spoilt / "model").symlink_to(world / "model")
    for frame in (spoilt / "videos/JPEGImages/480p/clip001").iterdir():
        frame.write_bytes(frame.read_bytes()[:300])
    settings = worlds.config(spoilt, tmp_path / "run", run__most_rejects=1.0)
    runs.run(settings)
    rejects = [json.loads(line) for line in (settings.out / "rejects.jsonl").read_text().splitlines()]
    assert rejects
    assert {reject["video"] for reject in rejects} == {"clip001"}
    assert all("clip001" in reject["file"] and reject["reason"] for reject in rejects)
    assert len({json.dumps(reject) for reject in rejects}) == len(rejects)
    assert worlds.lines(settings.out)[-2]["rejects"] == len(rejects)
    # nothing takes its place: the pairs of the others are those of a run in which it is whole
    whole = stage1.build(worlds.config(world, tmp_path / "x")).train
    partly = stage1.build(settings).train
    for ordinal in range(40):
        ours, theirs = partly[ordinal], whole[ordinal]
        assert whole.place(ordinal) == partly.place(ordinal)
        if partly.place(ordinal)[1] != "clip001":
            assert torch.equal(ours.sides[0].canvas, theirs.sides[0].canvas)


def test_too_many_bad_records_stop_the_run(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt = tmp_path / "world"
    (spoilt / "videos").mkdir(parents=True)
    import shutil

    shutil.copytree(world / "videos", spoilt / "videos", dirs_exist_ok=True)
    (spoilt / "model").symlink_to(world / "model")
    for frame in (spoilt / "videos/JPEGImages/480p").rglob("*.jpg"):
        frame.write_bytes(b"")
    with pytest.raises(TrainingFailed, match="none of the first"):
        runs.run(worlds.config(spoilt, tmp_path / "run", data__held_out=0.0))


def test_a_full_disk_is_said_and_the_last_checkpoint_stays(world: Path, tmp_path: Path) -> None:
    settings = worlds.config(world, tmp_path / "run", run__save_every=1)
    child = worlds.start(settings)
    worlds.kill_after(child, settings.out, 4, 0.2)
    kept = checkpoint.latest(settings.out)
    assert kept is not None
    import os

    child = os.fork()
    if not child:
        # no file may grow past this: the weights fit, the optimiser's state does not
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            runs.run(settings, resume=True)
        except (OutputError, TrainingFailed) as error:
            os._exit(7 if "checkpoint-" in str(error) and "cannot write" in str(error) else 8)
        finally:
            os._exit(9)
    assert worlds.finished(child) == 7
    assert checkpoint.latest(settings.out) == kept
    assert worlds.finished(worlds.start(settings, resume=True)) == 0


def test_what_cannot_be_dealt_evenly_is_refused() -> None:
    assert dealing(12, None, 2, 0).rounds == 1
    assert dealing(12, 2, 2, 0).rounds == 3
    for batch, micro, processes, said in ((7, None, 2, "evenly to 2"), (12, 4, 2, "does not divide")):
        with pytest.raises(UsageError, match=said):
            dealing(batch, micro, processes, 0)


@pytest.mark.parametrize(("processes", "micro"), [(1, None), (1, 3), (2, 3), (4, 1)])
def test_every_item_is_dealt_once_and_in_the_same_step(processes: int, micro: int | None) -> None:
    for step in range(3):
        dealt = []
        for rank in range(processes):
            deal = dealing(12, micro, processes, rank)
            dealt += [ordinal for turn in range(deal.rounds) for ordinal in deal.ordinals(step, turn)]
        assert sorted(dealt) == list(range(12 * step, 12 * step + 12))


@pytest.mark.slow
def test_memory_stays_flat(world: Path, tmp_path: Path) -> None:
    settings = worlds.config(
        world, tmp_path / "run", run__steps=120, run__save_every=0, run__workers=2, run__eval_every=0
    )
    assert worlds.finished(worlds.start(settings)) == 0
    used = [line["memory_mb"] for line in worlds.lines(settings.out) if "loss" in line]
    assert np.median(used[-20:]) < 1.02 * np.median(used[20:40])


@pytest.mark.slow
def test_killed_ten_times(world: Path, unbroken: Path, tmp_path: Path) -> None:
    test_killed_at_any_moment_a_run_goes_on_as_if_nothing_had_been(world, unbroken, tmp_path, kills=10)

"""Stage 2 on cases that are drawn from videos again in each epoch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from colva.data.mixture import open_record_sources
from colva.training.run import train
from colva.training.stage2 import Stage2Config
from mmvm_data.core.errors import InputError, UsageError
from tests.colva.training import stage2_world
from tests.colva.training import world as worlds
from tests.colva.training.stage2_world import prepare_stage
from tests.worlds import davis

SAMPLING = {"cases_per_video": 2, "none_share": 0.0, "min_sharpness": 0.0}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return davis(tmp_path_factory.mktemp("videos") / "davis", videos=5, frames=6, objects=4)


def make_config(tiny: Path, out: Path, videos: Path, **changes: Any) -> Stage2Config:
    data = {"packing": False, "held_out_share": 0.4, "vary_prompts": False, "renumber": False}
    data["sources"] = [{"kind": "davis", "path": str(videos), "sampling": SAMPLING}]
    data |= changes.pop("data", {})
    return stage2_world.make_config(tiny, out, [], data=data, **changes)


def read_epochs(config: Stage2Config, held_out: bool = False) -> list[dict[str, Any]]:
    """The object embeddings of each case, by its name, in three epochs."""
    stage = prepare_stage(config)
    data = stage.held_out if held_out else stage.train
    assert data is not None
    epochs = []
    for epoch in range(1 if held_out else 3):
        items = [data[epoch * len(data) + k] for k in range(len(data))]
        assert not any(item.rejects for item in items)
        epochs.append({item.value[0].name: item.value[0].object_embeddings for item in items})
    return epochs


def test_cases_are_drawn_again_in_each_epoch_and_held_out_videos_stay_apart(
    tmp_path: Path, tiny: Path, videos: Path
) -> None:
    config = make_config(tiny, tmp_path / "a", videos)
    first, second, third = read_epochs(config)
    assert first.keys() == second.keys() == third.keys() and len(first) == 3 * 2

    def count_equal(one: dict[str, Any], other: dict[str, Any]) -> int:
        return sum(one[name].shape == other[name].shape and bool(torch.equal(one[name], other[name])) for name in one)

    assert count_equal(first, second) < 3 and count_equal(second, third) < 3
    again = read_epochs(make_config(tiny, tmp_path / "b", videos))
    assert [count_equal(*pair) for pair in zip([first, second, third], again, strict=True)] == [6, 6, 6]
    assert count_equal(first, read_epochs(make_config(tiny, tmp_path / "c", videos, seed=9))[0]) < 3
    (held_out,) = read_epochs(config, held_out=True)
    assert len(held_out) == 2 * 2
    assert {name[:-2] for name in held_out}.isdisjoint(name[:-2] for name in first)
    other_seed = read_epochs(make_config(tiny, tmp_path / "d", videos, seed=9), held_out=True)[0]
    assert count_equal(held_out, other_seed) == 4
    assert not list((tmp_path / "a").rglob("*.jpg"))


def test_a_resumed_run_on_videos_equals_an_uninterrupted_one(tmp_path: Path, tiny: Path, videos: Path) -> None:
    shape = {"max_steps": 6, "save_steps": 2, "save_total_limit": 5}

    def settings(name: str) -> Stage2Config:
        return make_config(tiny, tmp_path / name, videos, trainer=shape, tune="full")

    train(settings("whole"))
    train(settings("broken"))
    for gone in ("checkpoint-6", "checkpoint-4", "final"):
        shutil.rmtree(tmp_path / "broken" / gone)
    train(settings("broken"), resume=True)
    assert worlds.run_metrics(tmp_path / "broken") == worlds.run_metrics(tmp_path / "whole")


def test_what_needs_a_build_is_refused(tmp_path: Path, tiny: Path, videos: Path) -> None:
    def open_sources(**data: Any) -> None:
        open_record_sources(make_config(tiny, tmp_path, videos, data=data).data, None)

    with pytest.raises(UsageError, match=r"data\.sources\.0: .*set packing=false"):
        open_sources(packing=True)
    source = {"kind": "davis", "path": str(videos)}
    with pytest.raises(UsageError, match=r"data\.sources\.0\.sampling: variants and embeddings need a build"):
        open_sources(sources=[source | {"sampling": {"variants": True}}])
    with pytest.raises(InputError):
        open_sources(sources=[source | {"path": str(tmp_path)}])
    shutil.copytree(videos, tmp_path / "davis")
    (tmp_path / "davis/JPEGImages/480p/clip000/00002.jpg").write_bytes(b"")
    (reader,) = open_record_sources(make_config(tiny, tmp_path, tmp_path / "davis").data, None)
    cases = [reader.read_case(k, (0, epoch, 0)) for k in (0, 1) for epoch in range(5)]
    assert all(frame.index != 2 for case in cases for frame in case.frames)

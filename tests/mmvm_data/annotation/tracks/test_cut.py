"""Shots and pictures, on a real clip and on clips with known cuts."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.annotation.tracks import cut as module
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.layout import iter_shots, read_clip
from mmvm_data.core.options import OptionError
from mmvm_data.io import media
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.worlds import tree


def test_a_real_clip_is_one_shot_whose_pictures_are_its_frames(realdata: Path, tmp_path: Path) -> None:
    clip = realdata / "sam2_bedroom_video/bedroom.mp4"
    done = cut_clips([clip], tmp_path / "out")
    assert done.problems == []
    ((name, shot),) = iter_shots(tmp_path / "out")
    assert name == "bedroom/shot000"
    assert (shot.first, shot.last, len(shot.frames)) == (0, 199, 16)
    assert shot.frames[0].index == 0
    first = shot.frames[5]
    assert first.time == pytest.approx(first.index / 30, abs=1e-3)
    kept = media.read_frame_bgr(tmp_path / "out", first).astype(int)
    own = media.read_frame_bgr(clip.parent, first.model_copy(update={"path": clip.name, "video_frame": first.index}))
    assert kept.shape == (540, 960, 3)
    assert np.abs(kept - own).mean() < 3


def test_cuts_are_found_and_the_same_clip_gives_the_same_bytes(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", (40, 30, 8, 50))
    options = CutOptions(min_shot=1.0, max_frames=4)
    done = cut_clips([clip], tmp_path / "one", options)
    shots = [(s.first, s.last) for _, s in iter_shots(tmp_path / "one")]
    assert shots == [(0, 39), (40, 69), (78, 127)]
    assert [(x.first, x.last, x.reason) for x in done.clips[0].left_out] == [(70, 77, "lasts 0.40 s")]
    for _, shot in iter_shots(tmp_path / "one"):
        assert 2 <= len(shot.frames) <= 4
        assert all(shot.first <= f.index <= shot.last for f in shot.frames)
    before = tree(tmp_path / "one")
    again = cut_clips([clip], tmp_path / "one", options)
    assert (again.unchanged, tree(tmp_path / "one")) == (1, before)
    cut_clips([clip], tmp_path / "two", options)
    assert tree(tmp_path / "two") == before


def test_only_pictures_with_enough_change_are_taken(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4", (60,))
    few, many = (
        next(s for _, s in iter_shots(tmp_path / str(share))).frames
        for share in (0.2, 0.02)
        if cut_clips([clip], tmp_path / str(share), CutOptions(min_change=share, min_step=0, max_frames=60)).clips
    )
    assert 2 <= len(few) < len(many)
    grays = [
        cv2.GaussianBlur(cv2.cvtColor(media.read_frame_bgr(tmp_path / "0.2", f), cv2.COLOR_BGR2GRAY), (5, 5), 0)
        for f in few
    ]
    for a, b in pairwise(grays):
        assert np.mean(cv2.absdiff(a, b) > 25) > 0.18


def test_times_follow_a_variable_rate(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "v.mp4", (30,), variable=True)
    cut_clips([clip], tmp_path / "out", CutOptions(min_step=0, min_change=0.02))
    frames = next(iter_shots(tmp_path / "out"))[1].frames
    for frame in frames:
        n = frame.index
        assert frame.time == pytest.approx(sum(0.02 + 0.01 * k for k in range(1, n + 1)), abs=0.002)


def test_bad_clips_are_reported_and_never_stop_the_rest(tmp_path: Path) -> None:
    good = write_clip(tmp_path / "good.mp4")
    (tmp_path / "other").mkdir()
    bad = {
        "text.mp4": b"no video",
        "empty.mp4": b"",
        "cut.mp4": good.read_bytes()[:3000],
        ".hidden.mp4": good.read_bytes(),
        "other/good.mp4": good.read_bytes(),
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    write_clip(tmp_path / "single.mp4", (1,))
    write_clip(tmp_path / "still.mp4", (40,), still=True)
    names = ["text.mp4", "empty.mp4", "cut.mp4", ".hidden.mp4", "missing.mp4", "single.mp4", "good.mp4"]
    done = cut_clips([tmp_path / n for n in (*names, "other/good.mp4", "still.mp4")], tmp_path / "out")
    assert [clip.name for clip in done.clips] == ["good", "still"]
    problems = {Path(where).relative_to(tmp_path).as_posix(): what for where, what in done.problems}
    assert sorted(problems) == sorted([*names[:6], "other/good.mp4"])
    assert "missing" in problems["missing.mp4"]
    assert "one frame" in problems["single.mp4"]
    assert "same name" in problems["other/good.mp4"]
    assert "hidden" in problems[".hidden.mp4"]
    assert done.clips[1].shots == ()
    assert done.clips[1].left_out[0].reason == "nothing changes enough"


def test_a_cut_that_was_killed_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    cut_clips([clip], tmp_path / "whole")
    real, left = module.fsync_path, [3]

    def fails(*arguments):  # type: ignore[no-untyped-def]
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "fsync_path", fails)
    with pytest.raises(KeyboardInterrupt):
        cut_clips([clip], tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out/clips").exists()
    for folder in ("a/shot000", ".a.partial"):  # as a kill leaves them
        (tmp_path / "out/frames" / folder).mkdir(parents=True)
        (tmp_path / "out/frames" / folder / "999999.jpg").write_bytes(b"left over")
    cut_clips([clip], tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_another_clip_or_other_options_are_refused(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "a.mp4")
    cut_clips([clip], tmp_path / "out")
    before = tree(tmp_path / "out")
    assert "other options" in cut_clips([clip], tmp_path / "out", CutOptions(max_frames=3)).problems[0][1]
    (tmp_path / "b").mkdir()
    other = write_clip(tmp_path / "b/a.mp4", (30,))
    assert "another clip of this name" in cut_clips([other], tmp_path / "out").problems[0][1]
    assert tree(tmp_path / "out") == before
    shutil.copy(tmp_path / "out/clips/a.json", tmp_path / "b.json")
    assert read_clip(tmp_path / "b.json").name == "a"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_frames": 1}, "max_frames must be at least 2, got 1"),
        ({"threshold": 1.0}, "threshold must be above 1, got 1.0"),
        ({"quality": 0}, r"quality must be in \[1, 100\], got 0"),
        ({"min_change": 2.0}, r"min_change must be in \[0, 1\], got 2.0"),
        ({"min_shot": "1"}, "min_shot must be a number, got '1'"),
        ({"max_frames": 2.5}, "max_frames must be an integer, got 2.5"),
        ({"frames": 3}, "frames is an unknown option"),
    ],
)
def test_invalid_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CutOptions(**wrong)


def test_the_record_holds_every_option(tmp_path: Path) -> None:
    """Its bytes decide whether a clip is cut again, so numbers are written as they always were."""
    cut_clips([write_clip(tmp_path / "a.mp4", (3,))], tmp_path / "out", CutOptions(min_step=0))
    assert read_clip(tmp_path / "out/clips/a.json").options == {
        "threshold": 3.0,
        "min_shot": 1.0,
        "min_change": 0.1,
        "min_step": 0.0,
        "max_frames": 16,
        "quality": 95,
    }

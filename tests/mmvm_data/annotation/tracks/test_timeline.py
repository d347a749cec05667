"""Boxes of Label Studio's timeline: the video of a shot, and what is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmvm_data.annotation.tracks import timeline
from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.annotation.tracks.interpret import read_tracks
from mmvm_data.annotation.tracks.layout import Shot, iter_shots
from mmvm_data.annotation.tracks.pull import pull
from mmvm_data.annotation.tracks.push import TrackPushOptions, push
from mmvm_data.builders import open_source
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from tests.mmvm_data.annotation.conftest import Studio
from tests.mmvm_data.annotation.tracks.clips import write_clip
from tests.mmvm_data.annotation.tracks.test_tracks import submit, tasks_of

NAME = "a/shot000"


def make_shot(count: int = 6) -> Shot:
    frames = [Frame(index=3 * k, path=f"frames/a/shot000/{3 * k:06d}.jpg", height=100, width=200) for k in range(count)]
    return Shot(first=0, last=3 * count, frames=tuple(frames))


def keyframe(frame: int, x: float, enabled: bool = True, y: float = 20.0) -> dict[str, Any]:
    """As the editor sends it, in per cent."""
    sides = {"x": x, "y": y, "width": 10.0, "height": 30.0, "rotation": 0}
    return sides | {"frame": frame, "enabled": enabled, "time": frame / timeline.RATE}


def track(*keyframes: dict[str, Any], number: str = "2") -> dict[str, Any]:
    value = {"framesCount": 6, "duration": 1.5, "sequence": list(keyframes), "labels": [number]}
    return {
        "id": f"track{number}",
        "type": "videorectangle",
        "from_name": "rectangle1",
        "to_name": "original1",
        "origin": "manual",
        "value": value,
    }


def xs(*keyframes: dict[str, Any]) -> dict[int, float]:
    """Picture -> x of the box in pixels."""
    video = read_tracks(NAME, make_shot(), [track(*keyframes)]).video
    return {p: video.regions(p)[0].box[0] for p in video.annotated}  # type: ignore[index]


def test_boxes_are_interpolated_as_the_editor_shows_them() -> None:
    assert xs(keyframe(2, 10), keyframe(5, 40)) == {1: 20, 2: 40, 3: 60, 4: 80, 5: 80}
    assert xs(keyframe(5, 40), keyframe(2, 10)) == {1: 20, 2: 40, 3: 60, 4: 80, 5: 80}  # in any order
    # ended at frame 3: shown there and not after it, until the next keyframe that is not an end
    assert xs(keyframe(1, 10), keyframe(3, 30, enabled=False)) == {0: 20, 1: 40, 2: 60}
    assert xs(keyframe(1, 10), keyframe(3, 30, enabled=False), keyframe(5, 50)) == {0: 20, 1: 40, 2: 60, 4: 100, 5: 100}
    assert xs(keyframe(4, 10), keyframe(9, 60)) == {3: 20, 4: 40, 5: 60}  # beyond the last picture


def test_numbers_categories_and_pixels_are_those_of_boxes_on_pictures() -> None:
    named = {"id": "track2", "type": "textarea", "from_name": "category", "value": {"text": ["dog"]}}
    one, two = track(keyframe(1, 10)), track(keyframe(6, 50.5), number="11")
    video = read_tracks(NAME, make_shot(), [one, two, named]).video
    assert video.prompt == "box"
    assert [(r.id, r.category, r.box) for r in video.regions(5)] == [
        ("2", "dog", (20, 20, 20, 30)),
        ("11", None, (101, 20, 20, 30)),
    ]
    assert [r.id for r in video.regions(0)] == ["2"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (track(), "a box of the timeline has no keyframes"),
        (track({"x": 1}), "a keyframe of a box has no frame, x, y, width and height"),
        (track(keyframe(1, 10) | {"x": "left"}), "a keyframe of a box has no frame, x, y, width and height"),
        (track(keyframe(1, 10) | {"rotation": 30}), "rectangle is rotated, boxes are not"),
        (track(keyframe(1, 10), number="dog"), "a rectangle on picture 1 has no number"),
    ],
)
def test_broken_boxes_are_refused(broken: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_tracks(NAME, make_shot(), [broken])


def test_the_video_shows_each_picture_once(tmp_path: Path) -> None:
    cut_clips([write_clip(tmp_path / "a.mp4", (40,))], tmp_path, CutOptions(max_frames=5))
    ((_, shot),) = iter_shots(tmp_path)
    timeline.write_video(tmp_path, shot)
    path = tmp_path / "frames/a/shot000.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.average_rate, stream.frames, stream.codec_context.name) == (timeline.RATE, 5, "h264")
        assert stream.duration * stream.time_base == 5 / timeline.RATE  # type: ignore[operator]
        decoded = list(container.decode(stream))
    assert all(frame.key_frame for frame in decoded)
    for shown, frame in zip(decoded, shot.frames, strict=True):
        difference = shown.to_ndarray(format="bgr24").astype(int) - media.read_frame_bgr(tmp_path, frame)
        assert np.abs(difference).mean() < 3
    before = path.stat().st_mtime_ns
    timeline.write_video(tmp_path, shot)
    assert path.stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.xdist_group("label-studio")
def test_a_real_server_keeps_the_boxes_of_a_timeline(studio: Studio) -> None:
    folder = studio.files / "timeline-clips"
    folder.mkdir()
    assert cut_clips([write_clip(folder / "a.mp4", (40,))], folder, CutOptions(max_frames=5)).problems == []
    client = studio.client()
    project = push(folder, client, "timeline-clips", TrackPushOptions(timeline=True)).project
    task = tasks_of(client, project)[NAME]
    assert studio.request("GET", task["data"]["video"]).content == (folder / "frames/a/shot000.mp4").read_bytes()
    assert push(folder, client, "timeline-clips", TrackPushOptions(timeline=True)).unchanged == 1
    submit(studio, task, [track(keyframe(1, 10), keyframe(3, 30, enabled=False)), track(keyframe(2, 5), number="4")])
    assert pull(folder, client, project).changed == [NAME]
    video = open_source("video", folder).load(NAME)
    assert {p: [(r.id, r.box[0]) for r in video.regions(p)] for p in video.annotated} == {  # type: ignore[index]
        0: [("2", 16)],
        1: [("2", 32), ("4", 8)],
        2: [("2", 48), ("4", 8)],
        3: [("4", 8)],
        4: [("4", 8)],
    }
    assert pull(folder, client, project).changed == []

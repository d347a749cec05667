"""Datumaro's own format: tracks of videos, frames of video files, parts, subsets, still images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mmvm_data.builders.datumaro import open_datumaro
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from tests.sets.every import write_set
from tests.sets.tool_sets import datumaro
from tests.sets.world import FRAMES, H, W, draw_bitmap


def edit(root: Path, change: Any, name: str = "default") -> None:
    file = root / f"annotations/{name}.json"
    content = json.loads(file.read_text())
    for item in content["items"]:
        change(item)
    file.write_text(json.dumps(content))


def test_parts_and_absent_shapes(tmp_path: Path) -> None:
    write_set("datumaro", "", tmp_path, 1)

    def change(item: dict[str, Any]) -> None:
        mask, other = item["annotations"][:2]
        mask["attributes"]["occluded"] = True
        polygon = {"type": "polygon", "points": [50, 40, 60, 40, 60, 46, 50, 46], "label_id": mask["label_id"]}
        item["annotations"] += [polygon | {"attributes": {"track_id": 0}}, {"type": "caption", "caption": "x"}]
        other["attributes"]["outside"] = True
        for entry in item["annotations"][2:]:
            if entry.get("attributes", {}).pop("track_id", None) is not None:
                entry["object_id"] = 7 if entry["type"] == "mask" else 0

    edit(tmp_path, change)
    video = open_datumaro("datumaro", tmp_path).load("clip0")
    regions = {region.id: region for region in video.regions(0)}
    assert sorted(regions) == ["0", "7"]
    expected = draw_bitmap(0, 0, 0)
    expected[40:46, 50:60] = 1
    assert regions["0"].mask is not None and np.array_equal(masks.decode(regions["0"].mask), expected)


def test_tracks_of_one_group_are_parts_of_one_object(tmp_path: Path) -> None:
    """Datumaro reads a file of CVAT with one track for each piece; groups tell which belong together."""
    write_set("datumaro", "", tmp_path, 1)

    def change(item: dict[str, Any]) -> None:
        for k, entry in enumerate(item["annotations"]):
            entry["group"] = 5 if k != 1 else 6 + item["attr"]["frame"]

    edit(tmp_path, change)
    video = open_datumaro("datumaro", tmp_path).load("clip0")
    regions = {region.id: region for region in video.regions(0)}
    assert sorted(regions) == ["0", "1"]
    expected = draw_bitmap(0, 0, 0) | draw_bitmap(0, 0, 2)
    assert regions["0"].mask is not None and np.array_equal(masks.decode(regions["0"].mask), expected)
    assert {region.id for p in video.annotated for region in video.regions(p)} == {"0", "1"}


def test_without_frame_numbers_names_give_the_order(tmp_path: Path) -> None:
    write_set("datumaro", "boxes", tmp_path, 1)

    def change(item: dict[str, Any]) -> None:
        number = FRAMES - item["attr"].pop("frame")
        former = tmp_path / "images" / item["image"]["path"]
        item["image"] = {"path": f"clip0/{number}.jpg"}
        former.rename(former.with_name(f"{number}.jpg"))

    edit(tmp_path, change)
    video = open_datumaro("datumaro", tmp_path / "annotations/default.json").load("clip0")
    assert [frame.path for frame in video.frames] == [f"images/clip0/{k + 1}.jpg" for k in range(FRAMES)]
    assert [frame.index for frame in video.frames] == [1, 2, 3, 4]
    assert len(video.regions(0)) < len(video.regions(FRAMES - 1))  # the last object leaves, now in reverse


def test_frames_of_a_video_file(tmp_path: Path) -> None:
    write_set("datumaro", "", tmp_path, 1)
    (tmp_path / "videos/default").mkdir(parents=True)
    writer = cv2.VideoWriter(str(tmp_path / "videos/default/a.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (W, H))
    for _ in range(9):
        writer.write(np.zeros((H, W, 3), np.uint8))
    writer.release()

    def change(item: dict[str, Any]) -> None:
        del item["image"]
        item["video_frame"] = {"video_path": "a.mp4", "frame_index": 2 * item["attr"]["frame"]}

    edit(tmp_path, change)
    source = open_datumaro("datumaro", tmp_path)
    video = source.load("clip0")
    assert len(video.frames) == 9 and video.annotated == (0, 2, 4, 6)
    mask = next(region.mask for region in video.regions(2) if region.id == "1")
    assert mask is not None and np.array_equal(masks.decode(mask), draw_bitmap(0, 1, 1))
    edit(tmp_path, lambda item: item["video_frame"].update(frame_index=8))
    with pytest.raises(
        InputError, match=r"items\[1\]\.video_frame\.frame_index: another frame from 0 to 8 is expected"
    ):
        open_datumaro("datumaro", tmp_path).load("clip0")


def test_items_without_tracks_are_still_images(tmp_path: Path) -> None:
    datumaro("stills")(tmp_path, 1)
    source = open_datumaro("datumaro", tmp_path)
    assert source.load_image is not None
    assert len(source.videos) == FRAMES
    objects = source.load_image("clip0/frame_000001").read_objects()
    assert [item.category for item in objects] == ["car", "person", "car"]
    assert [masks.decode(item.mask).tolist() for item in objects] == [draw_bitmap(0, 1, k).tolist() for k in range(3)]
    assert source.load("clip0/frame_000001").order == "views"

    def to_boxes(item: dict[str, Any]) -> None:
        item["annotations"] = [{"type": "bbox", "bbox": [1, 2, 3, 4], "label_id": 0}]

    edit(tmp_path, to_boxes)
    with pytest.raises(InputError, match="boxes only"):
        open_datumaro("datumaro", tmp_path).load_image("clip0/frame_000001").read_objects()  # type: ignore[misc]


def test_several_subsets_and_what_is_wrong_in_one(tmp_path: Path) -> None:
    write_set("datumaro", "", tmp_path, 1)
    text = (tmp_path / "annotations/default.json").read_text()
    (tmp_path / "annotations/train.json").write_text(text)
    (tmp_path / "annotations/broken.json").write_text(text[:-1])
    source = open_datumaro("datumaro", tmp_path)
    assert list(source.videos) == ["default/clip0", "train/clip0"]
    [reject] = source.rejects
    assert (reject.file, reject.reason[:14]) == ("annotations/broken.json", "not valid JSON")
    edit(tmp_path, lambda item: item["annotations"][0].update(label_id=9), "train")
    with pytest.raises(InputError, match=r"label_id: a position in the list of 2 labels is expected, found 9"):
        open_datumaro("datumaro", tmp_path).load("train/clip0").regions(0)
    edit(tmp_path, lambda item: item["image"].update(path="../../x.jpg"))
    with pytest.raises(InputError, match=r"items\[0\]\.image\.path"):
        open_datumaro("datumaro", tmp_path).load("default/clip0")

"""BURST, TAO, VIPSeg, MOTS, BDD100K: against independent readers, and with known faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from mmvm_data.builders import open_source
from mmvm_data.builders.vipseg import NUM_CATEGORIES
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from tests.sets import video_sets
from tests.sets.world import CATEGORIES, FRAMES, H, W, draw_bitmap, draw_labels


def edit(file: Path, change: Callable[[Any], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_burst_lists_more_frames_than_are_annotated(tmp_path: Path) -> None:
    video_sets.burst(tmp_path)
    source = open_source("burst", tmp_path, tmp_path / "cache")
    assert list(source.videos) == ["LaSOT/clip0", "LaSOT/clip1"]
    video = source.load("LaSOT/clip0")
    assert len(video.frames) == 6 * FRAMES
    assert video.annotated == (0, 6, 12, 18)
    assert video.frames[6].path == "frames/train/LaSOT/clip0/frame0007.jpg"
    regions = {r.id: r for r in video.regions(6)}
    assert [regions[t].extra for t in "123"] == [{}, *[{"is_gt": False, "score": 0.9}] * 2]
    assert list((tmp_path / "cache").iterdir())
    again = open_source("burst", tmp_path / "train/train.json", tmp_path / "cache")
    assert again.load("LaSOT/clip1").regions(0) == source.load("LaSOT/clip1").regions(0)


@pytest.mark.parametrize(
    ("file", "frames"),
    [
        ("val/all_classes.json", "frames/val"),
        ("annotations/train/train.json", "frames/train"),
        ("train.json", "train"),
        ("test/all_classes.json", "images"),
        ("train/train.json", "train/frames"),
    ],
)
def test_burst_is_found_in_every_published_layout(tmp_path: Path, file: str, frames: str) -> None:
    video_sets.burst(tmp_path / "made")
    for path, at in (("train/train.json", file), ("frames/train", frames)):
        (tmp_path / "set" / at).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / path).rename(tmp_path / "set" / at)
    video = open_source("burst", tmp_path / "set").load("LaSOT/clip1")
    assert len(video.regions(0)) == 3
    assert (video.root / video.frames[0].path).is_file()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.update(annotated_image_paths=["x.jpg"] * 4), "annotated_image_paths: a frame is listed twice"),
        (lambda s: s["annotated_image_paths"].__setitem__(1, "x.jpg"), r"'x\.jpg' is not among all_image_paths"),
        (lambda s: s["segmentations"].pop(), "segmentations: a list of 4 is expected.*, found 3"),
        (lambda s: s.update(width=0), "width: an integer from 1"),
        (lambda s: s["all_image_paths"].__setitem__(1, "../x.jpg"), r"path '\.\./x\.jpg' must be relative"),
        (lambda s: s.update(track_category_ids=[]), "an object of track: category is expected"),
    ],
)
def test_faults_of_a_sequence_of_burst(tmp_path: Path, change: Callable[[Any], object], reason: str) -> None:
    video_sets.burst(tmp_path)
    edit(tmp_path / "train/train.json", lambda c: change(c["sequences"][0]))
    source = open_source("burst", tmp_path)
    with pytest.raises(InputError, match=reason):
        source.load("LaSOT/clip0")
    assert source.load("LaSOT/clip1").regions(0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s["segmentations"][0].update({"1": {"rle": "0"}}), r"segmentations\[0\]\.1\.rle"),
        (lambda s: s["segmentations"][0].update({"9": s["segmentations"][0]["1"]}), "has no known category"),
        (lambda s: s["segmentations"].__setitem__(0, []), "an object of track: mask is expected, found list"),
        (lambda s: s["segmentations"][0]["1"].pop("rle"), "a track with a compressed COCO rle"),
    ],
)
def test_faults_of_a_frame_of_burst(tmp_path: Path, change: Callable[[Any], object], reason: str) -> None:
    video_sets.burst(tmp_path)
    edit(tmp_path / "train/train.json", lambda c: change(c["sequences"][0]))
    video = open_source("burst", tmp_path).load("LaSOT/clip0")
    with pytest.raises(InputError, match=reason):
        video.regions(0)
    assert video.regions(6)


def test_folders_of_burst_stay_inside_the_root(tmp_path: Path) -> None:
    video_sets.burst(tmp_path / "set")
    (tmp_path / "set/frames/train/LaSOT/clip0").rename(tmp_path / "clip0")
    for dataset, name in (("LaSOT", "../../../../clip0"), (str(tmp_path), "clip0"), ("..", "clip0")):
        entry = {"dataset": dataset, "seq_name": name}
        edit(tmp_path / "set/train/train.json", lambda c, entry=entry: c["sequences"][0].update(entry))
        source = open_source("burst", tmp_path / "set")
        with pytest.raises(InputError, match="must be relative and stay inside its root"):
            source.load(f"{dataset}/{name}")
        assert source.load("LaSOT/clip1").regions(0)


def test_pycocotools_agrees_on_tao(tmp_path: Path) -> None:
    video_sets.tao(tmp_path)
    theirs = COCO(str(tmp_path / "annotations/train.json"))
    source = open_source("tao", tmp_path)
    seen = 0
    for video in map(source.load, source.videos):
        for position in video.annotated:
            path = video.frames[position].path.removeprefix("frames/")
            (image,) = (i for i in theirs.dataset["images"] if i["file_name"] == path)
            expected = {
                str(a["track_id"]): (tuple(a["bbox"]), theirs.cats[a["category_id"]]["name"])
                for a in theirs.loadAnns(theirs.getAnnIds([image["id"]]))
            }
            assert {r.id: (r.box, r.category) for r in video.regions(position)} == expected
            assert video.frames[position].index == image["frame_index"]
            seen += len(expected)
    assert seen == len(theirs.anns) > 20


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["images"][0].update(frame_index=-1), "frame_index: a frame number is expected"),
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "must be relative and stay inside"),
        (
            lambda c: c["images"][0].update(frame_index=c["images"][1]["frame_index"]),
            "two images have the same frame_index",
        ),
        (lambda c: c["annotations"][-1].update(image_id=77777), "image_id: not an image of this video"),
    ],
)
def test_faults_of_a_video_of_tao(tmp_path: Path, change: Callable[[Any], object], reason: str) -> None:
    video_sets.tao(tmp_path)
    edit(tmp_path / "annotations/train.json", change)
    source = open_source("tao", tmp_path)
    with pytest.raises(InputError, match=reason):
        source.load("1")
    assert source.load("0").regions(0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bbox": [1, 2, 0, 4]}, "bbox: x, y, width and height above 0 are expected"),
        ({"bbox": [1, 2, float("nan"), 4]}, "bbox: x, y, width"),
        ({"track_id": 1}, "track 1 occurs twice in one image"),
        ({"category_id": 9}, "category_id: not in the list of categories"),
        ({"iscrowd": 2}, "iscrowd: 0 or 1 is expected"),
    ],
)
def test_faults_of_an_annotation_of_tao(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    video_sets.tao(tmp_path)
    edit(tmp_path / "annotations/train.json", lambda c: c["annotations"][0].update(change))
    video = open_source("tao", tmp_path).load("0")
    with pytest.raises(InputError, match=reason):
        video.regions(0)
    assert video.regions(1)


def test_tao_skips_crowds_and_unknown_videos(tmp_path: Path) -> None:
    video_sets.tao(tmp_path)

    def change(content: Any) -> None:
        content["annotations"][0]["iscrowd"] = 1
        content["annotations"].append({"video_id": 99, "image_id": 1})
        content["videos"].append({"id": 0, "name": "again"})

    edit(tmp_path / "annotations/train.json", change)
    source = open_source("tao", tmp_path)
    assert list(source.videos) == ["1"]
    assert {(r.video, r.reason) for r in source.rejects} == {
        ("0", "two entries of videos have this id"),
        ("99", "99 is not in the list of videos, but parts name it"),
    }


def test_real_categories_of_vipseg(realdata: Path, tmp_path: Path) -> None:
    video_sets.vipseg(tmp_path)
    real = json.loads((realdata / "vipseg_categories/panoVIPSeg_categories.json").read_text())
    by_name = json.loads((realdata / "vipseg_categories/label_num_dic_final.json").read_text())
    (tmp_path / "panoVIPSeg_categories.json").write_text(json.dumps(real))
    regions = {r.id: r.category for r in open_source("vipseg", tmp_path).load("clip0").regions(0)}
    assert regions == {"6100": "person", "6101": "person", "300": "door"}
    assert (by_name["person"], by_name["door"]) == ("61", "3")
    assert len(real) == NUM_CATEGORIES
    (tmp_path / "panoVIPSeg_categories.json").unlink()
    regions = {r.id: r.category for r in open_source("vipseg", tmp_path).load("clip0").regions(0)}
    assert regions["6100"] == "category 61"


def test_unknown_numbers_of_vipseg(tmp_path: Path) -> None:
    video_sets.vipseg(tmp_path)
    file = tmp_path / "panomasks/clip0/00000007.png"
    Image.fromarray(draw_labels(0, 0, (12501, 300, 301), np.uint16)).save(file)
    video = open_source("vipseg", tmp_path).load("clip0")
    with pytest.raises(InputError, match="12501 is neither stuff"):
        video.regions(0)
    assert video.regions(1)


def test_mots_text_and_pngs_give_the_same_regions(tmp_path: Path) -> None:
    video_sets.kitti_mots(tmp_path / "png")
    written = video_sets.mots(tmp_path / "text")
    (tmp_path / "png/training/instances_txt").mkdir()
    for v in range(2):  # the text of KITTI counts frames from 0
        lines = (written.root / f"train/MOTS20-0{v}/gt/gt.txt").read_text().splitlines()
        moved = [" ".join([str(int(line.split()[0]) - 1), *line.split()[1:]]) for line in lines]
        (tmp_path / f"png/training/instances_txt/{v:04d}.txt").write_text("\n".join(moved))
    by_text = [open_source("mots", tmp_path / "png").load(name) for name in ("0000", "0001")]
    (tmp_path / "png/training/instances_txt").rename(tmp_path / "png/training/unused")
    by_png = [open_source("mots", tmp_path / "png").load(name) for name in ("0000", "0001")]
    for ours in zip(by_text, by_png, strict=True):
        for position in range(FRAMES):
            found = [{r.id: (r.mask, r.category) for r in video.regions(position)} for video in ours]
            assert found[0] == found[1]
            assert len(found[0]) >= 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"2 1001 1 {H} {W}", "frame, id, class, height, width and rle are expected, found 5 columns"),
        (f"2 1001 2 {H} {W} 0", "object 1001 of class 2: an id of class"),
        (f"2 1001 1 {H} {W + 1} 0", f"mask is {W + 1} x {H}, its frame is {W} x {H}"),
        (f"2 1001 1 {H} {W} 0", "line 1, column rle"),
        (f"2 x 1 {H} {W} 0", "an integer is expected, found 'x'"),
    ],
)
def test_bad_lines_of_mots(tmp_path: Path, line: str, reason: str) -> None:
    video_sets.mots(tmp_path)
    file = tmp_path / "train/MOTS20-00/gt/gt.txt"
    file.write_text(line + "\n" + file.read_text())
    video = open_source("mots", tmp_path).load("MOTS20-00")
    with pytest.raises(InputError, match=reason):
        video.regions(1)
    assert video.regions(0)


def test_bdd100k_skips_crowds_and_keeps_flags(tmp_path: Path) -> None:
    video_sets.bdd100k(tmp_path / "box")
    regions = open_source("bdd100k", tmp_path / "box").load("b1c66a42-6f7d68c0").regions(0)
    assert [(r.category, r.extra) for r in regions] == [("car", {}), ("pedestrian", {"occluded": True}), ("car", {})]
    video_sets.bdd100k_seg(tmp_path / "seg")
    regions = open_source("bdd100k_seg", tmp_path / "seg").load("b1c66a42-6f7d68c0").regions(0)
    assert [r.extra for r in sorted(regions, key=lambda r: int(r.id))] == [{}, {"occluded": True}, {}]


def test_faults_of_bdd100k(tmp_path: Path) -> None:
    video_sets.bdd100k(tmp_path)
    file = tmp_path / "labels/box_track_20/train/b1c66a42-6f7d68c0.json"

    def change(frames: Any) -> None:
        frames[0]["labels"][0]["box2d"]["x2"] = -4
        frames[1]["labels"][1]["id"] = frames[1]["labels"][0]["id"]

    edit(file, change)
    video = open_source("bdd100k", tmp_path).load("b1c66a42-6f7d68c0")
    with pytest.raises(InputError, match=r"\[0\]\.labels\[0\]\.box2d: x2, y2 .* are below x1, y1"):
        video.regions(0)
    with pytest.raises(InputError, match="object 00000000 occurs twice in one frame"):
        video.regions(1)
    assert video.regions(2)
    edit(file, lambda frames: frames[0].update(name="../x-0000001.jpg"))
    with pytest.raises(InputError, match=r"there is no frame '\.\./x-0000001\.jpg'"):
        open_source("bdd100k", tmp_path).load("b1c66a42-6f7d68c0")


def test_bitmasks_with_one_identity_twice(tmp_path: Path) -> None:
    video_sets.bdd100k_seg(tmp_path)
    file = tmp_path / "labels/seg_track_20/bitmasks/train/b1c66a42-6f7d68c0/b1c66a42-6f7d68c0-0000001.png"
    pixels = np.array(Image.open(file))
    pixels[draw_bitmap(0, 0, 1) == 1, 0] = 9
    Image.fromarray(pixels).save(file)
    video = open_source("bdd100k_seg", tmp_path).load("b1c66a42-6f7d68c0")
    with pytest.raises(InputError, match="there is no category 9"):
        video.regions(0)
    pixels[draw_bitmap(0, 0, 1) == 1] = (1, 0, 0, 200)
    Image.fromarray(pixels).save(file)
    with pytest.raises(InputError, match="object 200 has two categories"):
        open_source("bdd100k_seg", tmp_path).load("b1c66a42-6f7d68c0").regions(0)
    assert len(CATEGORIES) == len(video.regions(1))
    assert all(r.mask is not None and masks.area(r.mask) for r in video.regions(1))

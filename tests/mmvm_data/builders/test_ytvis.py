"""The YouTube-VIS family on files made to its specification; pycocotools and json say what is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmvm_data.builders.source import Source
from mmvm_data.builders.ytvis import open_ytvis
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from tests.ytvis_files import FORMS, FRAMES, H, W, make_content, segmentation, write_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_files(tmp_path, make_content())


def _check(source: Source, content: dict[str, Any]) -> None:
    """Everything that the source gives is what the file says."""
    names = {c["id"]: c["name"] for c in content["categories"]}
    assert list(source.videos) == [str(v["id"]) for v in content["videos"]]
    for entry in content["videos"]:
        video = source.load(str(entry["id"]))
        assert [f.index for f in video.frames] == [0, 5, 10, 15]
        assert all((video.root / frame.path).is_file() for frame in video.frames)
        assert video.annotated == tuple(range(FRAMES))
        mine = [a for a in content["annotations"] if a["video_id"] == entry["id"]]
        for position in video.annotated:
            expected = {}
            for k, annotation in enumerate(mine):
                _, bitmap = segmentation(FORMS[(k + position) % len(FORMS)], entry["id"] - 1 + k + position)
                if bitmap is not None:
                    expected[str(annotation["id"])] = (names[annotation["category_id"]], bitmap)
            found = {r.id: (r.category, r.mask) for r in video.regions(position)}
            assert list(found) == list(expected)
            for track, (category, mask) in found.items():
                assert mask is not None
                assert category == expected[track][0]
                assert (masks.decode(mask) == expected[track][1]).all()


def test_every_form_of_a_mask_is_read(root: Path) -> None:
    source = open_ytvis("ytvis", root)
    assert source.rejects == ()
    _check(source, make_content())
    assert source.load("1").frames[1].path == "train/JPEGImages/clip0/00005.jpg"


@pytest.mark.parametrize(
    ("name", "file", "frames"),
    [
        ("ytvis", "train.json", "train/JPEGImages"),
        ("ytvis2021", "train/instances.json", "train/JPEGImages"),
        ("ytvis2021", "instances.json", "JPEGImages"),
        ("ovis", "annotations_train.json", "Images/train"),
        ("ovis", "annotations/annotations_train.json", "train"),
        ("lvvis", "train_instances.json", "JPEGImages/train"),
        ("lvvis", "train_instances.json", "train/JPEGImages"),
        ("uvo", "VideoDenseSet/UVO_video_train_dense_with_label.json", "uvo_videos_dense_frames"),
        ("ytvis", "mine.json", "frames"),
    ],
)
def test_published_layouts_are_found(tmp_path: Path, name: str, file: str, frames: str) -> None:
    content = make_content()
    write_files(tmp_path, content, file, frames)
    _check(open_ytvis(name, tmp_path), content)
    by_file = open_ytvis(name, tmp_path / file)
    _check(by_file, content)
    assert Path(by_file.root, by_file.load("1").frames[0].path).is_file()


def test_train_comes_before_the_other_splits(tmp_path: Path) -> None:
    for split, videos in (("valid", 1), ("train", 3), ("val", 2)):
        write_files(tmp_path, make_content(videos), f"{split}/instances.json", f"{split}/JPEGImages")
    assert len(open_ytvis("ytvis2021", tmp_path).videos) == 3
    assert len(open_ytvis("ytvis2021", tmp_path / "valid" / "instances.json").videos) == 1


def test_order_of_keys_and_text_ids_do_not_matter(tmp_path: Path) -> None:
    content = make_content()
    for video in content["videos"]:
        video["id"] = f"vidéo {video['id']}"
    for annotation in content["annotations"]:
        annotation["video_id"] = f"vidéo {annotation['video_id']}"
        annotation["nested"] = {"video_id": 7, "text": '"video_id": 7'}
    text = json.dumps({key: content[key] for key in sorted(content)}, ensure_ascii=False, indent=2, sort_keys=True)
    write_files(tmp_path, content)
    # some names escaped, others not
    (tmp_path / "train.json").write_text(text.replace('"video_id": "vidéo', '"video_id": "vid\\u00e9o'))
    source = open_ytvis("ytvis", tmp_path)
    assert list(source.videos) == ["vidéo 1", "vidéo 2", "vidéo 3"]
    assert len(source.load("vidéo 2").regions(0)) == 3


def test_crowds_are_skipped(tmp_path: Path) -> None:
    content = make_content()
    content["annotations"][0]["iscrowd"] = 1
    source = open_ytvis("ytvis", write_files(tmp_path, content))
    assert source.rejects == ()
    assert [r.id for r in source.load("1").regions(0)] == ["1", "2"]


def test_occlusion_words_are_kept_and_generic_categories_dropped(tmp_path: Path) -> None:
    content = make_content()
    content["annotations"][0]["occlusion"] = ["no_occlusion", "slight_occlusion", "severe_occlusion", None]
    content["annotations"][1]["occlusion"] = ["no_occlusion", "slight_occlusion", "severe_occlusion", "no_occlusion"]
    content["categories"][0]["name"] = "object"
    write_files(tmp_path, content)
    regions = {r.id: r for r in open_ytvis("ovis", tmp_path).load("1").regions(1)}
    assert regions["0"].extra == {}
    assert regions["1"].extra == {"occlusion": "slight_occlusion"}
    assert {r.category for r in regions.values()} == {"object", "kind 2"}
    dense = open_ytvis("uvo", tmp_path).load("1")
    assert {r.category for r in dense.regions(1)} == {None, "kind 2"}
    assert dense.frames[3].time == 0.5


def set_value(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one field; ``path`` is keys and places with dots."""

    def change(content: dict[str, Any]) -> None:
        *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
        at: Any = content
        for step in steps:
            at = at[step]
        if value is set_value:
            del at[last]
        else:
            at[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "video", "field", "reason"),
    [
        ("videos.0.id", 2, "2", "videos[1].id", "two videos have this id"),
        ("videos.0.id", True, "", "videos[0]", "an object with an id"),
        ("videos.0", None, "", "videos[0]", "an object with an id"),
        ("annotations.0.video_id", 77, "77", "annotations[0]", "not in the list of videos"),
        ("annotations.0.video_id", None, "", "annotations[0]", "an object with a video_id"),
        ("annotations.0", [], "", "annotations[0]", "an object with a video_id"),
        ("annotations.1.id", 0, "1", "annotations[1].id", "track 0 occurs twice"),
        ("annotations.1.id", 1.5, "1", "annotations[1].id", "an id is expected, found 1.5"),
        ("annotations.1.iscrowd", "no", "1", "annotations[1].iscrowd", "0 or 1"),
        ("annotations.1.category_id", 9, "1", "annotations[1].category_id", "category 9 is not"),
        ("annotations.1.category_id", set_value, "1", "annotations[1].category_id", "a category is expected"),
        ("annotations.1.segmentations", [], "1", "annotations[1].segmentations", "0 segmentations for the 4 frames"),
        (
            "annotations.1.segmentations",
            set_value,
            "1",
            "annotations[1].segmentations",
            "a list with one entry per frame",
        ),
    ],
)
def test_inconsistent_files_only_break_their_video(
    tmp_path: Path, path: str, value: Any, video: str, field: str, reason: str
) -> None:
    content = make_content()
    set_value(path, value)(content)
    write_files(tmp_path, make_content())
    (tmp_path / "train.json").write_text(json.dumps(content))
    source = open_ytvis("ytvis", tmp_path)
    assert (video, field) in [(r.video, r.field) for r in source.rejects]
    assert any(reason in r.reason and r.file == "train.json" for r in source.rejects)
    assert video not in source.videos
    assert "3" in source.videos
    for usable in source.videos:
        assert source.load(usable).regions(0)


@pytest.mark.parametrize(
    ("path", "value", "field", "reason"),
    [
        ("videos.0.width", 0, "video 1, width", "from 1 to 65535"),
        ("videos.0.height", "24", "video 1, height", "found '24'"),
        ("videos.0.file_names", None, "video 1, file_names", "a list of file names"),
        ("videos.0.file_names.1", 3, "video 1, file_names", "a list of file names"),
        ("videos.0.file_names.1", "../x.jpg", "video 1, file_names[1]", "stay inside"),
        ("videos.0.file_names.1", "/etc/x.jpg", "video 1, file_names[1]", "stay inside"),
        ("videos.0.file_names.1", "clip0/00000.jpg", "video 1, file_names", "listed twice"),
        ("videos.0.file_names.1", "\ud800.jpg", "video 1, file_names", "a list of file names"),
        ("videos.0.length", 7, "video 1, length", "length is 7, but there are 4 files"),
    ],
)
def test_a_bad_video_is_an_error_when_it_is_loaded(
    tmp_path: Path, path: str, value: Any, field: str | None, reason: str
) -> None:
    content = make_content()
    set_value(path, value)(content)
    write_files(tmp_path, make_content())
    (tmp_path / "train.json").write_text(json.dumps(content))
    source = open_ytvis("ytvis", tmp_path)
    with pytest.raises(InputError) as caught:
        source.load("1")
    assert (caught.value.field, caught.value.file) == (field, str(tmp_path / "train.json"))
    assert reason in caught.value.reason
    assert source.load("2").regions(0)


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        ({"size": [H, W + 1], "counts": "0"}, ".size", f"size [24, 33], its frame of [{H}, {W}]"),
        ({"size": [H, W]}, "", "polygons, an RLE of size and counts, or null"),
        ({"size": [H, W], "counts": "é"}, "", "polygons, an RLE"),
        ({"size": [H, W], "counts": "\ud800"}, "", "polygons, an RLE"),
        ({"size": [H, W], "counts": "5"}, ".counts", "runs cover 5 pixels"),
        ({"size": [H, W], "counts": [H * W, 1]}, ".counts", "runs cover 769 pixels"),
        ({"size": [H, W], "counts": [-1, H * W + 1]}, "", "polygons, an RLE"),
        ({"size": [H, W], "counts": [10**400]}, "", "polygons, an RLE"),
        ({"size": [H, W], "counts": [True, H * W - 1]}, "", "polygons, an RLE"),
        ({"size": [H, W], "counts": []}, "", "polygons, an RLE"),
        ([[1, 2, 3, 4, 5, True]], "", "three or more x, y"),
        ([[1, 2, 3, 4, 5, 10**400]], "", "far outside the frame"),
        ([[1, 2, 3, 4, 5, 10**12]], "", "far outside the frame"),
        ([[1, 2, 3, 4]], "", "three or more x, y"),
        ([[1, 2, 3, 4, 5, 6, 7]], "", "three or more x, y"),
        ([[1, 2, 3, 4, 5, None]], "", "three or more x, y"),
        ([1, 2, 3, 4, 5, 6], "", "three or more x, y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "", "far outside the frame, or is not a number"),
        ([[1, 2, 3, 4, 5, 1e300]], "", "far outside the frame"),
        (7, "", "polygons, an RLE"),
        ("0", "", "polygons, an RLE"),
    ],
)
def test_bad_mask_only_breaks_its_frame(tmp_path: Path, value: Any, field: str, reason: str) -> None:
    content = make_content()
    content["annotations"][0]["segmentations"][2] = value
    write_files(tmp_path, content)
    video = open_ytvis("ytvis", tmp_path).load("1")
    with pytest.raises(InputError) as caught:
        video.regions(2)
    assert caught.value.field == f"annotation 0, segmentations[2]{field}"
    assert reason in caught.value.reason
    assert video.regions(1)
    assert video.regions(3)


@pytest.mark.parametrize(
    ("content", "field", "reason"),
    [
        (json.dumps(make_content())[:5000], "byte ", "the file ends"),
        ("[1]", "byte 0", "an object is expected"),
        ("", "byte 0", "the file ends"),
        (json.dumps({"videos": [], "categories": []}), None, "'annotations' is missing"),
        (json.dumps({"videos": [], "annotations": []}), None, "'categories' is missing"),
        (json.dumps({"categories": [], "annotations": []}), None, "'videos' is missing"),
        (json.dumps({**make_content(), "annotations": None}), "annotations", "test server"),
        (json.dumps({**make_content(), "videos": {}}), "videos", "a list is expected, found dict"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole(tmp_path: Path, content: str, field: str | None, reason: str) -> None:
    write_files(tmp_path, content)
    with pytest.raises(InputError) as caught:
        open_ytvis("ytvis", tmp_path)
    assert caught.value.file == str(tmp_path / "train.json")
    assert (caught.value.field or "").startswith(field or "")
    assert reason in caught.value.reason


def test_missing_annotations_or_frames_are_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no annotation file"):
        open_ytvis("ytvis", tmp_path)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InputError, match="several JSON files"):
        open_ytvis("ytvis", tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(make_content()))
    with pytest.raises(InputError, match=r"frames not found: .* holds clip0/00000.jpg"):
        open_ytvis("ytvis", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        open_ytvis("ytvis", tmp_path / "none")

"""The YouTube-VIS family on files made to its specification; pycocotools and json say what is right."""

from __future__ import annotations

import json
import os
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from mmvm_data import masks
from mmvm_data.builders import ytvis_index
from mmvm_data.builders.source import Source
from mmvm_data.builders.ytvis import open_ytvis
from mmvm_data.errors import InputError

H, W, FRAMES = 24, 32, 4
FORMS = ("text", "list", "polygons", "null", "empty")


def _bitmap(seed: int) -> np.ndarray:
    bitmap = np.zeros((H, W), np.uint8)
    y, x = 2 + seed % 7, 3 + seed % 11
    bitmap[y : y + 9, x : x + 12] = 1
    bitmap[y + 3 : y + 5, x + 4 : x + 6] = 0
    return bitmap


def _runs(bitmap: np.ndarray) -> list[int]:
    flat = bitmap.T.ravel().tolist()
    runs, last = [0], 0
    for value in flat:
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return runs


def _segmentation(form: str, seed: int) -> tuple[Any, np.ndarray | None]:
    """One entry and the mask that it stands for, None when nothing is visible."""
    bitmap = _bitmap(seed)
    if form == "text":
        coded = coco.encode(np.asfortranarray(bitmap))
        return {"size": [H, W], "counts": coded["counts"].decode()}, bitmap
    if form == "list":
        return {"counts": _runs(bitmap), "size": [H, W]}, bitmap
    if form == "polygons":
        flat = [[1.5, 2.0, 12.25, 2.0, 12.0, 9.0, 1.0, 9.5], [10, 6, 20, 6, 20, 15, 10, 15]]
        return flat, coco.decode(coco.merge(coco.frPyObjects(flat, H, W)))
    if form == "empty":
        return {"size": [H, W], "counts": coco.encode(np.zeros((H, W), np.uint8, order="F"))["counts"].decode()}, None
    return None, None


def _content(videos: int = 3, objects: int = 5) -> dict[str, Any]:
    """A file in which every segmentation form occurs, with the keys that published files have beside ours."""
    content: dict[str, Any] = {
        "info": {"description": "é"},
        "licenses": [{"id": 1}],
        "videos": [],
        "categories": [{"id": k, "name": f"kind {k}", "supercategory": "object"} for k in (1, 2)],
        "annotations": [],
    }
    for v in range(videos):
        files = [f"clip{v}/{5 * f:05d}.jpg" for f in range(FRAMES)]
        content["videos"].append(
            {"id": v + 1, "width": W, "height": H, "length": FRAMES, "file_names": files, "license": 1}
        )
        for k in range(objects):
            entries = [_segmentation(FORMS[(k + f) % len(FORMS)], v + k + f)[0] for f in range(FRAMES)]
            content["annotations"].append(
                {
                    "id": 10 * v + k,
                    "video_id": v + 1,
                    "category_id": 1 + k % 2,
                    "iscrowd": 0,
                    "segmentations": entries,
                    "bboxes": [None] * FRAMES,
                    "areas": [None] * FRAMES,
                    "length": 1,
                }
            )
    return content


def _write(root: Path, content: Any, file: str = "train.json", frames: str = "train/JPEGImages") -> Path:
    root.joinpath(file).parent.mkdir(parents=True, exist_ok=True)
    root.joinpath(file).write_text(content if isinstance(content, str) else json.dumps(content))
    videos = content["videos"] if isinstance(content, dict) else _content()["videos"]
    for name in (name for video in videos for name in video["file_names"]):
        path = root / frames / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.new("RGB", (W, H)).save(path)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return _write(tmp_path, _content())


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
                _, bitmap = _segmentation(FORMS[(k + position) % len(FORMS)], entry["id"] - 1 + k + position)
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
    _check(source, _content())
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
    content = _content()
    _write(tmp_path, content, file, frames)
    _check(open_ytvis(name, tmp_path), content)
    by_file = open_ytvis(name, tmp_path / file)
    _check(by_file, content)
    assert Path(by_file.root, by_file.load("1").frames[0].path).is_file()


def test_train_comes_before_the_other_splits(tmp_path: Path) -> None:
    for split, videos in (("valid", 1), ("train", 3), ("val", 2)):
        _write(tmp_path, _content(videos), f"{split}/instances.json", f"{split}/JPEGImages")
    assert len(open_ytvis("ytvis2021", tmp_path).videos) == 3
    assert len(open_ytvis("ytvis2021", tmp_path / "valid" / "instances.json").videos) == 1


def test_order_of_keys_and_text_ids_do_not_matter(tmp_path: Path) -> None:
    content = _content()
    for video in content["videos"]:
        video["id"] = f"vidéo {video['id']}"
    for annotation in content["annotations"]:
        annotation["video_id"] = f"vidéo {annotation['video_id']}"
        annotation["nested"] = {"video_id": 7, "text": '"video_id": 7'}
    text = json.dumps({key: content[key] for key in sorted(content)}, ensure_ascii=False, indent=2, sort_keys=True)
    _write(tmp_path, content)
    # some names escaped, others not
    (tmp_path / "train.json").write_text(text.replace('"video_id": "vidéo', '"video_id": "vid\\u00e9o'))
    source = open_ytvis("ytvis", tmp_path)
    assert list(source.videos) == ["vidéo 1", "vidéo 2", "vidéo 3"]
    assert len(source.load("vidéo 2").regions(0)) == 3


def test_crowds_are_left_out(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][0]["iscrowd"] = 1
    source = open_ytvis("ytvis", _write(tmp_path, content))
    assert source.rejects == ()
    assert [r.id for r in source.load("1").regions(0)] == ["1", "2"]


def test_words_for_occlusion_are_kept_and_categories_without_meaning_are_not(tmp_path: Path) -> None:
    content = _content()
    content["annotations"][0]["occlusion"] = ["no_occlusion", "slight_occlusion", "severe_occlusion", None]
    content["annotations"][1]["occlusion"] = ["no_occlusion", "slight_occlusion", "severe_occlusion", "no_occlusion"]
    content["categories"][0]["name"] = "object"
    _write(tmp_path, content)
    regions = {r.id: r for r in open_ytvis("ovis", tmp_path).load("1").regions(1)}
    assert regions["0"].extra == {}
    assert regions["1"].extra == {"occlusion": "slight_occlusion"}
    assert {r.category for r in regions.values()} == {"object", "kind 2"}
    dense = open_ytvis("uvo", tmp_path).load("1")
    assert {r.category for r in dense.regions(1)} == {None, "kind 2"}
    assert dense.frames[3].time == 0.5


def _edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one field; ``path`` is keys and places with dots."""

    def change(content: dict[str, Any]) -> None:
        *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
        at: Any = content
        for step in steps:
            at = at[step]
        if value is _edit:
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
        ("annotations.1.id", 0, "1", "annotations[1].id", "track 0 is there twice"),
        ("annotations.1.id", 1.5, "1", "annotations[1].id", "an id is expected, found 1.5"),
        ("annotations.1.iscrowd", "no", "1", "annotations[1].iscrowd", "0 or 1"),
        ("annotations.1.category_id", 9, "1", "annotations[1].category_id", "category 9 is not"),
        ("annotations.1.category_id", _edit, "1", "annotations[1].category_id", "a category is expected"),
        ("annotations.1.segmentations", [], "1", "annotations[1].segmentations", "0 segmentations for the 4 frames"),
        ("annotations.1.segmentations", _edit, "1", "annotations[1].segmentations", "a list with one entry a frame"),
    ],
)
def test_what_does_not_fit_together_spoils_its_video_alone(
    tmp_path: Path, path: str, value: Any, video: str, field: str, reason: str
) -> None:
    content = _content()
    _edit(path, value)(content)
    _write(tmp_path, _content())
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
        ("videos.0.file_names.1", "../x.jpg", None, "stay inside"),
        ("videos.0.file_names.1", "/etc/x.jpg", None, "stay inside"),
        ("videos.0.file_names.1", "clip0/00000.jpg", "video 1, file_names", "listed twice"),
        ("videos.0.file_names.1", "\ud800.jpg", "video 1, file_names", "a list of file names"),
        ("videos.0.length", 7, "video 1, length", "length is 7, but there are 4 files"),
    ],
)
def test_a_bad_video_is_an_error_when_it_is_loaded(
    tmp_path: Path, path: str, value: Any, field: str | None, reason: str
) -> None:
    content = _content()
    _edit(path, value)(content)
    _write(tmp_path, _content())
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
def test_a_bad_mask_spoils_its_frame_alone(tmp_path: Path, value: Any, field: str, reason: str) -> None:
    content = _content()
    content["annotations"][0]["segmentations"][2] = value
    _write(tmp_path, content)
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
        (json.dumps(_content())[:5000], "byte ", "the file ends"),
        ("[1]", "byte 0", "an object is expected"),
        ("", "byte 0", "the file ends"),
        (json.dumps({"videos": [], "categories": []}), None, "'annotations' is missing"),
        (json.dumps({"videos": [], "annotations": []}), None, "'categories' is missing"),
        (json.dumps({"categories": [], "annotations": []}), None, "'videos' is missing"),
        (json.dumps({**_content(), "annotations": None}), "annotations", "test server"),
        (json.dumps({**_content(), "videos": {}}), "videos", "a list is expected, found dict"),
    ],
)
def test_a_file_that_cannot_be_read_as_a_whole(tmp_path: Path, content: str, field: str | None, reason: str) -> None:
    _write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        open_ytvis("ytvis", tmp_path)
    assert caught.value.file == str(tmp_path / "train.json")
    assert (caught.value.field or "").startswith(field or "")
    assert reason in caught.value.reason


def test_no_annotations_and_no_frames_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no annotation file"):
        open_ytvis("ytvis", tmp_path)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(InputError, match="several JSON files"):
        open_ytvis("ytvis", tmp_path)
    (tmp_path / "train.json").write_text(json.dumps(_content()))
    with pytest.raises(InputError, match=r"frames not found: .* holds clip0/00000.jpg"):
        open_ytvis("ytvis", tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        open_ytvis("ytvis", tmp_path / "none")


def test_an_unknown_video_is_an_error(root: Path) -> None:
    with pytest.raises(InputError, match="no usable video '9'"):
        open_ytvis("ytvis", root).load("9")


def test_a_file_that_changes_under_an_open_source_is_an_error(root: Path) -> None:
    source = open_ytvis("ytvis", root)
    video = source.load("1")
    content = _content()
    content["videos"].reverse()
    content["annotations"].reverse()
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"changed after it was opened|not valid JSON"):
        source.load("1")
    with pytest.raises(InputError, match=r"changed after it was opened|not valid JSON"):
        video.regions(0)


def test_annotations_that_change_their_video_in_place_are_noticed(root: Path) -> None:
    source = open_ytvis("ytvis", root)
    video = source.load("1")
    file = root / "train.json"
    text = file.read_text()
    file.write_text(text.replace('"video_id": 1,', '"video_id": 2,'))
    assert file.stat().st_size == len(text.encode())
    with pytest.raises(InputError, match="changed after it was opened"):
        video.regions(0)


def test_annotations_in_any_order_find_their_video_and_keep_the_order_of_the_file(tmp_path: Path) -> None:
    content = _content(7, 25)
    random.Random(2).shuffle(content["annotations"])
    random.Random(3).shuffle(content["videos"])
    for k, annotation in enumerate(content["annotations"]):
        annotation["id"] = 5000 + k
        annotation["segmentations"][0] = _segmentation("text", k)[0]
    source = open_ytvis("ytvis", _write(tmp_path, content))
    assert list(source.videos) == [str(v["id"]) for v in content["videos"]]
    for video in source.videos:
        expected = [str(a["id"]) for a in content["annotations"] if str(a["video_id"]) == video]
        assert [r.id for r in source.load(video).regions(0)] == expected


def test_the_index_is_kept_and_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _content()
    content["annotations"][1]["id"] = 0
    (root / "train.json").write_text(json.dumps(content))
    cache = root / "new" / "cache"
    first = open_ytvis("ytvis", root, cache)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(ytvis_index, "build", lambda file: pytest.fail("read again"))
    again = open_ytvis("ytvis", root, cache)
    assert (again.videos, again.rejects) == (first.videos, first.rejects)
    assert list(again.videos) == ["2", "3"]
    for video in again.videos:
        for position in range(FRAMES):
            assert again.load(video).regions(position) == first.load(video).regions(position)


def test_a_stale_or_damaged_index_is_made_again(root: Path) -> None:
    cache = root / "cache"
    whole = open_ytvis("ytvis", root, cache)
    kept = next(cache.iterdir())
    data = kept.read_bytes()
    rng = random.Random(5)
    for _ in range(40):
        at = rng.randrange(len(data))
        kept.write_bytes(rng.choice((data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], b"")))
        assert open_ytvis("ytvis", root, cache).videos == whole.videos
        assert kept.read_bytes() == data
    (root / "train.json").write_text(json.dumps(_content(2)))
    assert len(open_ytvis("ytvis", root, cache).videos) == 2
    stamp = os.stat(root / "train.json")
    os.utime(root / "train.json", ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    before = kept.read_bytes()
    open_ytvis("ytvis", root, cache)
    assert kept.read_bytes() != before


def test_a_cache_that_cannot_be_written_only_costs_time(root: Path) -> None:
    (root / "file").write_text("")
    assert len(open_ytvis("ytvis", root, root / "file").videos) == 3


def test_memory_is_that_of_one_video(tmp_path: Path) -> None:
    """Below 2 x one video's annotations plus the index, however many videos there are."""
    content = _content(20, 5)
    for annotation in content["annotations"]:
        # nothing to decode in the last frame: what is measured is the annotations
        annotation["segmentations"] = [{"size": [H, W], "counts": "0" * 5000} for _ in range(FRAMES - 1)] + [None]
    _write(tmp_path, content)
    one = sum(len(json.dumps(a)) for a in content["annotations"] if a["video_id"] == 1)
    assert (tmp_path / "train.json").stat().st_size > 19 * one
    source = open_ytvis("ytvis", tmp_path, tmp_path)
    assert source.load("1").regions(3) == ()
    tracemalloc.start()
    for video in source.videos:
        source.load(video).regions(3)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * one < peak < 2 * one


def _mutated(data: bytes, rng: random.Random) -> bytes:
    kind = rng.randrange(4)
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at] + data[at + rng.randrange(1, 20) :]
    if kind == 1:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4))) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    end = min(len(data), at + rng.randrange(200))
    return data[:end] + data[at:]


def _field_edited(content: Any, rng: random.Random) -> Any:
    """One value somewhere in the file replaced, removed or doubled."""
    at, parent, key = content, None, None
    for _ in range(rng.randrange(1, 6)):
        if isinstance(at, dict) and at:
            parent, key = at, rng.choice(sorted(at))
        elif isinstance(at, list) and at:
            parent, key = at, rng.randrange(len(at))
        else:
            break
        at = parent[key]
    odd = (
        None,
        True,
        -1,
        0,
        2,
        3.5,
        float("nan"),
        1e400,
        10**30,
        "",
        "1",
        "é\ud800",
        "../a",
        [],
        {},
        [[]],
        [1, 2],
        {"id": 1},
    )
    if rng.random() < 0.2 and parent is not None:
        del parent[key]
    elif parent is not None:
        parent[key] = rng.choice(odd)
    return content


def test_mutated_files_give_rejects_or_one_error(root: Path) -> None:
    clean = (root / "train.json").read_bytes()
    rng = random.Random(11)
    outcomes = {"opened": 0, "refused": 0, "video": 0, "frame": 0}
    for k in range(500):
        data = json.dumps(_field_edited(json.loads(clean), rng)).encode() if k % 2 else _mutated(clean, rng)
        (root / "train.json").write_bytes(data)
        try:
            source = open_ytvis("ytvis", root)
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
            continue
        outcomes["opened"] += 1
        assert len(set(source.videos)) == len(source.videos)
        json.dumps([r.to_json() for r in source.rejects], ensure_ascii=False).encode()
        for name in source.videos:
            try:
                video = source.load(name)
            except InputError:
                outcomes["video"] += 1
                continue
            for position in video.annotated:
                try:
                    for region in video.regions(position):
                        region.model_dump_json()
                        assert region.mask is not None
                        assert masks.decode(region.mask).any()
                except InputError:
                    outcomes["frame"] += 1
    assert all(count > 10 for count in outcomes.values()), outcomes

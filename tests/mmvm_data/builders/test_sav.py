"""SA-V on a real pair of annotation files (frames of the right size are made here), and on broken ones."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.builders import sav
from mmvm_data.builders.common.json_files import read_json_without_frames
from mmvm_data.builders.sav import open_sav, open_sav_auto
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError


def _frames(folder: Path, numbers: range, size: tuple[int, int]) -> None:
    folder.mkdir(parents=True)
    Image.new("RGB", size).save(folder / "first.jpg")
    data = (folder / "first.jpg").read_bytes()
    (folder / "first.jpg").unlink()
    for n in numbers:
        (folder / f"{n:05d}.jpg").write_bytes(data)


@pytest.fixture
def real(realdata: Path, tmp_path: Path) -> Path:
    """A root as published, but with extracted frames where the video would be."""
    folder = tmp_path / "sav_000"
    _frames(folder / "sav_000001", range(483), (480, 848))
    for kind in ("manual", "auto"):
        shutil.copy(realdata / "sav_train" / f"sav_000001_{kind}.json", folder)
    return tmp_path


@pytest.mark.parametrize(
    ("opened", "kind", "prefix", "count"),
    [(open_sav, "manual", "", 5), (open_sav_auto, "auto", "auto-", 9)],
)
def test_real_masklets_are_those_of_pycocotools(real: Path, opened, kind: str, prefix: str, count: int) -> None:
    source = opened("sav", real)
    assert (list(source.videos), source.rejects) == (["sav_000001"], ())
    video = source.load("sav_000001")
    content = json.loads((real / f"sav_000/sav_000001_{kind}.json").read_text())
    assert len(video.frames) == 483
    assert video.annotated == tuple(range(0, 483, 4))
    assert len(video.annotated) == len(content["masklet"]) == 121
    seen: dict[str, int] = {}
    for position in video.annotated:
        entries = content["masklet"][position // 4]
        expected = {f"{prefix}{k}": coco.decode(entry) for k, entry in enumerate(entries)}
        regions = {r.id: r.mask for r in video.regions(position)}
        assert list(regions) == [label for label, bitmap in expected.items() if bitmap.any()]
        for label, mask in regions.items():
            assert mask is not None
            assert mask.size == (848, 480)
            assert (masks.decode(mask) == expected[label]).all()
            seen.setdefault(label, position // 4)
    assert len(seen) == count
    first = [int(v) for v in content["masklet_first_appeared_frame"]]
    assert [seen[f"{prefix}{k}"] for k in range(count)] == first
    assert video.frames[48].time == 2.0


def test_annotations_without_frames_are_rejected(realdata: Path) -> None:
    for opened, kind in ((open_sav, "manual"), (open_sav_auto, "auto")):
        source = opened("sav", realdata / "sav_train")
        assert list(source.videos) == []
        assert [(r.video, r.file) for r in source.rejects] == [("sav_000001", f"sav_000001_{kind}.json")]
        assert source.rejects[0].reason.startswith("annotations without frames")


def test_annotations_are_read_when_they_are_asked_for(real: Path) -> None:
    (real / "sav_000/sav_000001_manual.json").write_text("{")
    video = open_sav("sav", real).load("sav_000001")
    with pytest.raises(InputError, match=r"sav_000001_manual\.json: not valid JSON"):
        video.regions(0)


def test_a_broken_file_is_read_once_not_for_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    monkeypatch.setattr(
        sav, "read_json_without_frames", lambda file: read.append(file) or read_json_without_frames(file)
    )
    video = open_sav("sav", write_sav(tmp_path, json.dumps(make_content())[:-9])).load("v")
    for position in video.annotated:
        with pytest.raises(InputError, match="not valid JSON"):
            video.regions(position)
    assert len(read) == 1


def _rle(filled: bool = True) -> dict[str, Any]:
    bitmap = np.zeros((12, 16), np.uint8, order="F")
    bitmap[2:5, 3:9] = filled
    coded = coco.encode(bitmap)
    return {"size": coded["size"], "counts": coded["counts"].decode()}


def make_content(lists: int = 3) -> dict[str, Any]:
    return {
        "video_id": "v",
        "masklet": [[_rle(), _rle(k > 0)] for k in range(lists)],
        "masklet_id": [4, 7],
        "masklet_first_appeared_frame": [0.0, 1.0],
        "masklet_num": 2,
    }


def write_sav(root: Path, content: object, numbers: range = range(12)) -> Path:
    _frames(root / "v", numbers, (16, 12))
    (root / "v_manual.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def test_mp4_beside_the_annotations(tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 24, (16, 12))
    for k in range(10):
        writer.write(np.full((12, 16, 3), 20 * k, np.uint8))
    writer.release()
    (tmp_path / "v_manual.json").write_text(json.dumps(make_content()))
    video = open_sav("sav", tmp_path).load("v")
    assert (len(video.frames), video.annotated) == (10, (0, 4, 8))
    assert (video.frames[8].path, video.frames[8].video_frame) == ("v.mp4", 8)
    assert [[r.id for r in video.regions(p)] for p in (0, 4, 8)] == [["4"], ["4", "7"], ["4", "7"]]


def test_extracted_frames_may_be_every_fourth_only_or_lie_in_the_folder_of_val(tmp_path: Path) -> None:
    root = write_sav(tmp_path / "a", make_content(), range(0, 12, 4))
    video = open_sav("sav", root).load("v")
    assert video.annotated == (0, 1, 2)
    assert [r.id for r in video.regions(1)] == ["4", "7"]
    (root / "JPEGImages_24fps").mkdir()
    (root / "v").rename(root / "JPEGImages_24fps/v")
    assert open_sav("sav", root).load("v").frames[1].path == "JPEGImages_24fps/v/00004.jpg"


def test_frames_numbered_in_another_way_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="numbered from 1; 0 is expected"):
        open_sav("sav", write_sav(tmp_path / "a", make_content(), range(1, 13))).load("v")
    video = open_sav("sav", write_sav(tmp_path / "b", make_content(9), range(9))).load("v")
    with pytest.raises(InputError, match="masklet: 9 lists for 9 frames: frames must keep their numbers"):
        video.regions(0)
    video = open_sav("sav", write_sav(tmp_path / "c", make_content(), range(16))).load("v")
    assert len(video.regions(8)) == 2
    with pytest.raises(InputError, match=r"masklet\[3\]: frame 12 has no masks: there are 3 lists"):
        video.regions(12)


def _change(path: tuple[str | int, ...], value: object) -> Callable[[dict[str, Any]], None]:
    def apply(content: Any) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("masklet", 1, 0, "size"),
            [16, 12],
            r"masklet\[1\]\[0\]: mask is of size \[16, 12\], its frame of \[12, 16\]",
        ),
        (("masklet", 1, 0, "counts"), "0", r"masklet\[1\]\[0\]\.counts: runs cover 0 pixels"),
        (("masklet", 1, 0, "counts"), "\u00e9", r"masklet\[1\]\[0\]: an RLE of size and counts is expected"),
        (("masklet", 1, 0, "counts"), "\ud800", r"masklet\[1\]\[0\]: an RLE of size and counts is expected"),
        (("masklet", 1, 0), None, r"masklet\[1\]\[0\]: an RLE of size and counts is expected"),
        (("masklet", 1), [], r"masklet\[1\]: 2 masks are expected, one for each id, found 0"),
        (("masklet", 1), None, r"masklet\[1\]: a list is expected, found NoneType"),
        (("masklet",), {}, r"masklet: a list is expected, found dict"),
        (("masklet_id",), None, r"masklet_id: a list is expected, found NoneType"),
        (("masklet_id",), [4, 4], r"masklet_id: an id occurs twice"),
        (("masklet_id",), [4, "7"], r"masklet_id\[1\]: an integer is expected, found '7'"),
        (("masklet_id",), [4, float("nan")], r"masklet_id\[1\]: an integer is expected, found nan"),
    ],
)
def test_content_that_cannot_be_used(tmp_path: Path, path: tuple[str | int, ...], value: object, message: str) -> None:
    content = make_content()
    _change(path, value)(content)
    video = open_sav("sav", write_sav(tmp_path, content)).load("v")
    with pytest.raises(InputError, match=rf"v_manual\.json: {message}"):
        video.regions(4)


def test_json_of_another_type_or_with_a_repeated_key(tmp_path: Path) -> None:
    for k, (text, message) in enumerate(
        [
            ("[]", "an object is expected, found list"),
            ('{"masklet": [], "masklet": []}', "masklet: the key occurs twice"),
        ]
    ):
        video = open_sav("sav", write_sav(tmp_path / str(k), text)).load("v")
        with pytest.raises(InputError, match=message):
            video.regions(0)


def test_names_and_links_that_cannot_be_used_are_rejected(tmp_path: Path) -> None:
    root = write_sav(tmp_path, make_content())
    (root / "copy").mkdir()
    shutil.copy(root / "v_manual.json", root / "copy")
    (root / os.fsdecode(b"caf\xe9_manual.json")).write_text("{}")
    (root / "copy/up").symlink_to("..")
    source = open_sav("sav", root)
    assert list(source.videos) == ["v"]
    assert [(r.video, r.reason) for r in source.rejects] == [
        ("caf\\xe9", "the file's name is not UTF-8"),
        ("up", "the link points back to a folder that contains it"),
        ("v", "two files have the same name, v_manual.json is read"),
    ]
    with pytest.raises(InputError, match="there is no video"):
        source.load("../v")
    (root / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file <video>_auto\.json"):
        open_sav_auto("sav_auto", root / "empty")


def test_val_with_a_png_for_each_object_may_overlap(tmp_path: Path) -> None:
    _frames(tmp_path / "JPEGImages_24fps/v", range(9), (16, 12))
    _frames(tmp_path / "JPEGImages_24fps/unmarked", range(9), (16, 12))
    person = np.zeros((12, 16), np.uint8)
    person[1:11, 2:10] = 1
    hand = np.zeros((12, 16), np.uint8)
    hand[4:6, 3:6] = 255
    for video in ("v", "unseen"):
        for label, bitmap in (("000", person), ("001", hand)):
            (tmp_path / "Annotations_6fps" / video / label).mkdir(parents=True)
            for n in (0, 4, 8):
                image = Image.fromarray(bitmap if n else bitmap * (label == "000"))
                image.save(tmp_path / "Annotations_6fps" / video / label / f"{n:05d}.png")
    source = open_sav("sav", tmp_path)
    assert list(source.videos) == ["v"]
    assert [(r.video, r.reason) for r in source.rejects] == [("unseen", "masks without frames")]
    video = source.load("v")
    assert (len(video.frames), video.annotated) == (9, (0, 4, 8))
    assert [r.id for r in video.regions(0)] == ["000"]
    both = {r.id: masks.decode(r.mask) for r in video.regions(4)}
    assert (both["000"] == person).all()
    assert (both["001"] == (hand > 0)).all()
    (tmp_path / "Annotations_6fps/v/001/00004.png").unlink()
    assert source.load("v").annotated == (0, 8)
    Image.new("L", (15, 12)).save(tmp_path / "Annotations_6fps/v/001/00008.png")
    with pytest.raises(InputError, match=r"001/00008\.png: mask is 15 x 12"):
        source.load("v").regions(8)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 40),
    st.floats(),
    st.text(max_size=4),
    st.just("\ud800"),
    st.builds(list),
    st.builds(dict),
    st.builds(lambda: [12, 16]),
)


@settings(max_examples=500)
@given(st.data())
def test_mutated_annotation_files_raise_nothing_but_input_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.getbasetemp() / "sav_mutated"
    if not root.exists():
        write_sav(root, "")
    content = make_content()
    for _ in range(data.draw(st.integers(0, 2))):
        node: Any = content
        while True:
            keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
            key = data.draw(st.sampled_from(keys)) if keys else None
            if key is None:
                break
            if not isinstance(node[key], (dict, list)) or data.draw(st.integers(0, 3)) == 0:
                if data.draw(st.booleans()):
                    node[key] = data.draw(VALUES)
                else:
                    del node[key]
                break
            node = node[key]
    text = bytearray(json.dumps(content).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(text)))
        kind = data.draw(st.sampled_from(["set", "cut", "drop"]))
        if kind == "set":
            text[at : at + 1] = data.draw(st.binary(min_size=1, max_size=2))
        elif kind == "cut" and data.draw(st.booleans()):
            del text[at:]
        else:
            del text[at : at + 3]
    (root / "v_manual.json").write_bytes(text)
    video = open_sav("sav", root).load("v")
    for position in video.annotated:
        try:
            regions = video.regions(position)
        except InputError as error:
            assert error.file.endswith("v_manual.json")
        else:
            assert all(r.mask is not None and r.mask.size == (12, 16) for r in regions)

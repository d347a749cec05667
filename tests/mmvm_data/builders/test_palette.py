"""The PNG family on real folders, counted with Pillow alone, and on folders that are broken in known ways."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.builders.palette import open_davis, open_davis2016, open_frames, open_mose, open_ytvos
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.io import media

LABELS = np.zeros((12, 16), np.uint8)
LABELS[1:5, 2:9], LABELS[6:11, 1:4] = 1, 2


def _video(frames: Path, marks: Path | None, numbers: range = range(3), labels: np.ndarray = LABELS) -> None:
    frames.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        Image.new("RGB", (16, 12)).save(frames / f"{n:05d}.jpg")
        if marks is not None:
            marks.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(labels, "P")
            image.putpalette(range(256))
            image.save(marks / f"{n:05d}.png")


def _check_against_pillow(source: Source, masks_in: Path) -> tuple[int, int]:
    """Frames and objects of a source, after every mask was found equal to the PNG of its frame."""
    frames = objects = 0
    for video in map(source.load, source.videos):
        ids = set()
        for position, frame in enumerate(video.frames):
            assert media.load_frame(source.root, frame).jpeg == (source.root / frame.path).read_bytes()
            png = masks_in / Path(video.id).name / f"{Path(frame.path).stem}.png"
            assert (position in video.annotated) == png.exists()
            labels = np.asarray(Image.open(png))
            expected = [v for v in np.unique(labels).tolist() if v not in (0, 254, 255)] or [255]
            regions = video.regions(position)
            assert [r.id for r in regions] == (["1"] if expected == [255] else [str(v) for v in expected])
            for region, value in zip(regions, expected, strict=True):
                assert region.mask is not None
                assert (masks.decode(region.mask) == (labels == value)).all()
                ids.add(region.id)
        frames += len(video.frames)
        objects += len(ids)
    return frames, objects


def test_davis2017_schoolgirls(realdata: Path) -> None:
    root = realdata / "davis2017_schoolgirls_240p"
    source = open_davis("davis2017", root)
    assert (list(source.videos), source.rejects) == (["schoolgirls"], ())
    assert _check_against_pillow(source, root / "Annotations" / "240p") == (80, 7)


def test_davis2017_with_void_and_masks_without_frames(realdata: Path) -> None:
    root = realdata / "davis2017_interactive"
    for place in (root, root / "DAVIS"):
        source = open_davis("davis2017", place)
        assert list(source.videos) == ["bear", "tennis"]
        assert [(r.video, r.ordinal, r.reason) for r in source.rejects] == [("blackswan", -1, "masks without frames")]
        assert source.rejects[0].file.endswith("Annotations/480p/blackswan")
        assert _check_against_pillow(source, root / "DAVIS/Annotations/480p") == (4, 3)


@pytest.mark.parametrize("opened", [open_davis2016, open_davis])
def test_davis2016_is_one_object_with_either_reader(realdata: Path, opened) -> None:
    root = realdata / "davis2016_val"
    source = opened("davis2016", root)
    assert list(source.videos) == ["kite-surf", "soapbox"]
    assert _check_against_pillow(source, root / "DAVIS/Annotations/480p") == (48, 2)


@pytest.mark.parametrize(
    ("folder", "videos", "frames"),
    [
        ("aot_demo", ["1001_3iEIq5HBY1s", "1007_YCTBBdbKSSg"], [2058, 2059, 2060, 2061]),
        ("deva_examples/example/vos", ["bmx-trees"], None),
    ],
)
def test_sets_with_one_annotated_frame_open_but_give_no_video(realdata: Path, folder: str, videos, frames) -> None:
    source = open_frames("frames", realdata / folder)
    assert list(source.videos) == videos
    for video in videos:
        with pytest.raises(InputError, match=r"only 1 annotated frame\(s\); two are needed"):
            source.load(video)


def test_frames_of_a_tree_are_named_by_their_path(realdata: Path) -> None:
    root = realdata / "davis2017_schoolgirls_240p"
    source = open_frames("frames", root)
    assert list(source.videos) == ["240p/schoolgirls"]
    assert _check_against_pillow(source, root / "Annotations" / "240p") == (80, 7)


@pytest.mark.parametrize(("images", "marks"), [("images", "masks"), ("JPEGImages", "Annotations"), ("frames", "masks")])
def test_frames_with_or_without_a_folder_per_video(tmp_path: Path, images: str, marks: str) -> None:
    _video(tmp_path / "many" / images / "a", tmp_path / "many" / marks / "a")
    _video(tmp_path / "one" / images, tmp_path / "one" / marks)
    for root, name in ((tmp_path / "many", "a"), (tmp_path / "one", "one")):
        source = open_frames("frames", root)
        assert list(source.videos) == [name]
        video = source.load(name)
        assert (len(video.frames), video.annotated) == (3, (0, 1, 2))
        assert [r.id for r in video.regions(1)] == ["1", "2"]
        with pytest.raises(InputError, match="there is no video 'b'"):
            source.load("b")


def test_mose_prefers_train(tmp_path: Path) -> None:
    _video(tmp_path / "valid/JPEGImages/v", tmp_path / "valid/Annotations/v", range(1))
    assert list(open_mose("mose", tmp_path).videos) == ["v"]
    _video(tmp_path / "train/JPEGImages/t", tmp_path / "train/Annotations/t")
    for root in (tmp_path, tmp_path / "train"):
        source = open_mose("mose", root)
        assert list(source.videos) == ["t"]
        assert source.load("t").frames[2].index == 2
    assert list(open_mose("mose", tmp_path / "valid").videos) == ["v"]


def test_davis_resolution(tmp_path: Path) -> None:
    for resolution in ("240p", "Full-Resolution", "360p"):
        _video(tmp_path / "JPEGImages" / resolution / "a", tmp_path / "Annotations" / resolution / "a")
    assert open_davis("davis2017", tmp_path).load("a").frames[0].path == "JPEGImages/Full-Resolution/a/00000.jpg"
    _video(tmp_path / "JPEGImages/480p/a", tmp_path / "Annotations/480p/a")
    assert open_davis("davis2017", tmp_path).load("a").frames[0].path == "JPEGImages/480p/a/00000.jpg"
    for name in ("480p", "Full-Resolution"):
        (tmp_path / "Annotations" / name).rename(tmp_path / name)
    with pytest.raises(
        InputError, match=r"one of the resolutions 480p, Full-Resolution, 1080p is expected, found 240p, 360p"
    ):
        open_davis("davis2017", tmp_path)


def _ytvos(root: Path, meta: object, frames: str = "train") -> Path:
    for video in ("0a", "frames"):
        _video(root / frames / "JPEGImages" / video, None, range(0, 30, 1 if frames != "train" else 5))
        _video(root / "unused", root / "train/Annotations" / video, range(0, 30, 5))
    text = meta if isinstance(meta, str) else json.dumps(meta)
    (root / "train/meta.json").write_text(text)
    return root


def _meta() -> dict:
    objects = {"1": {"category": "ape", "frames": ["00000", "00005"]}, "2": {"category": "cat", "frames": ["00000"]}}
    return {"videos": {"0a": {"objects": objects}, "frames": {"objects": objects}}}


def test_ytvos_takes_categories_from_meta_and_annotation_from_every_fifth_frame(tmp_path: Path) -> None:
    source = open_ytvos("ytvos", _ytvos(tmp_path / "a", _meta()))
    assert list(source.videos) == ["0a", "frames"]
    video = source.load("frames")
    assert [f.index for f in video.frames] == [0, 5, 10, 15, 20, 25]
    assert [(r.id, r.category) for r in video.regions(3)] == [("1", "ape"), ("2", "cat")]
    video = open_ytvos("ytvos", _ytvos(tmp_path / "b", _meta(), "train_all_frames")).load("0a")
    assert (len(video.frames), video.annotated) == (30, (0, 5, 10, 15, 20, 25))
    assert video.frames[7].path == "train_all_frames/JPEGImages/0a/00007.jpg"
    assert [r.category for r in video.regions(5)] == ["ape", "cat"]
    assert list(open_ytvos("ytvos", tmp_path / "a" / "train").videos) == ["0a", "frames"]


def test_ytvos_meta_that_cannot_be_used(tmp_path: Path) -> None:
    def opened(meta: object) -> Source:
        return open_ytvos("ytvos", _ytvos(tmp_path, meta))

    with pytest.raises(InputError, match=r"meta\.json: not valid JSON"):
        opened(json.dumps(_meta())[:50])
    with pytest.raises(InputError, match=r"meta\.json: 0a: the key occurs twice"):
        opened('{"videos": {"0a": {}, "0a": {}}}')
    with pytest.raises(InputError, match=r"meta\.json: videos: an object is expected, found list"):
        opened({"videos": []})
    with pytest.raises(InputError, match=r"videos\.0a\.objects: an object is expected, the video is not listed"):
        opened({"videos": {}}).load("0a")
    with pytest.raises(InputError, match=r"objects\.1: a number with a category .*incomplete\), found category None"):
        opened({"videos": {"0a": {"objects": {"1": {"frames": ["00000"]}}}}}).load("0a")
    with pytest.raises(InputError, match="object 1 is listed twice"):
        opened({"videos": {"0a": {"objects": {"1": {"category": "a"}, "01": {"category": "a"}}}}}).load("0a")
    (tmp_path / "train/meta.json").unlink()
    with pytest.raises(InputError, match=r"meta\.json: file is missing"):
        open_ytvos("ytvos", tmp_path)


@settings(max_examples=500)
@given(st.data())
def test_mutated_meta_files_raise_nothing_but_input_errors(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.getbasetemp() / "ytvos_mutated"
    if not root.exists():
        _ytvos(root, _meta())
    content: Any = _meta()
    node, key = content, "videos"
    for _ in range(data.draw(st.integers(0, 4))):
        if isinstance(node[key], dict) and node[key]:
            node, key = node[key], data.draw(st.sampled_from(sorted(node[key])))
    values = [
        None,
        True,
        3,
        float("nan"),
        "",
        "\ud800",
        "x",
        [],
        {},
        {"1": {}},
        {"x": {"category": "a"}},
        {"objects": 1},
    ]
    kind = data.draw(st.sampled_from(["keep", "delete", "replace", "rename"]))
    if kind == "replace":
        node[key] = data.draw(st.sampled_from(values))
    elif kind != "keep":
        value = node.pop(key)
        if kind == "rename":
            node[data.draw(st.text(max_size=3))] = value
    text = bytearray(json.dumps(content).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=2))
    (root / "train/meta.json").write_bytes(text[: data.draw(st.integers(0, len(text)))] if kind == "keep" else text)
    try:
        video = open_ytvos("ytvos", root).load("0a")
    except InputError as error:
        assert error.file.endswith("meta.json")
    else:
        assert len(video.with_tracks().model_dump_json()) > 100


def test_folders_that_are_no_video_are_rejected_with_a_reason(tmp_path: Path) -> None:
    _video(tmp_path / "JPEGImages/ok", tmp_path / "Annotations/ok")
    _video(tmp_path / "JPEGImages/unmarked", None)
    _video(tmp_path / "unused", tmp_path / "Annotations/unseen")
    (tmp_path / "JPEGImages/loop").symlink_to("loop")
    (tmp_path / "Annotations/loop").mkdir()
    (tmp_path / "Annotations/up").symlink_to("..")
    os.mkdir(os.fsencode(tmp_path / "JPEGImages") + b"/caf\xe9")
    source = open_davis("davis2017", tmp_path)
    assert list(source.videos) == ["ok"]
    assert {r.video: r.reason for r in source.rejects} == {
        "unmarked": "frames without masks",
        "unseen": "masks without frames",
        "up": "masks without frames",
        "loop": "the link is broken or points back to itself",
        "caf\\xe9": "the folder's name is not UTF-8",
    }
    assert json.dumps([r.to_json() for r in source.rejects]).isascii()


def test_broken_files_are_errors_of_the_video_or_of_the_frame(tmp_path: Path) -> None:
    frames, marks = tmp_path / "JPEGImages/a", tmp_path / "Annotations/a"
    _video(frames, marks, range(5))
    source = open_mose("mose", tmp_path)
    Image.fromarray(LABELS[:, :15]).save(marks / "00001.png")
    (marks / "00002.png").write_bytes((marks / "00003.png").read_bytes()[:60])
    video = source.load("a")
    with pytest.raises(InputError, match=r"00001\.png: mask is 15 x 12, its frame is 16 x 12"):
        video.regions(1)
    with pytest.raises(InputError, match=r"00002\.png: PNG is cut off or damaged"):
        video.regions(2)
    (marks / "00003.png").unlink()
    with pytest.raises(InputError, match=r"00003\.png: file is missing"):
        video.regions(3)
    assert len(video.regions(4)) == 2

    (frames / "00000.PNG").write_bytes(b"")
    with pytest.raises(InputError, match=r"two images have the same name: 00000\.PNG and 00000\.jpg"):
        source.load("a")
    (frames / "00000.PNG").rename(frames / os.fsdecode(b"caf\xe9.jpg"))
    with pytest.raises(InputError, match=r"caf\\xe9\.jpg: the file's name is not UTF-8"):
        source.load("a")
    for file in frames.iterdir():
        file.unlink()
    with pytest.raises(InputError, match="JPEGImages/a: the folder holds no images"):
        source.load("a")
    Image.new("RGB", (16, 12)).save(frames / "other.jpg")
    with pytest.raises(InputError, match="no PNG has the name of a frame"):
        source.load("a")
    with pytest.raises(InputError, match=r"there is no video '\.\./a'"):
        source.load("../a")


@pytest.mark.parametrize("opened", [open_davis, open_davis2016, open_mose, open_frames, open_ytvos])
def test_a_root_without_the_folders_says_what_is_expected(tmp_path: Path, opened) -> None:
    with pytest.raises(InputError, match=r"JPEGImages and .*Annotations"):
        opened("x", tmp_path)
    with pytest.raises(InputError, match=r"JPEGImages and .*Annotations"):
        opened("x", tmp_path / "nowhere")

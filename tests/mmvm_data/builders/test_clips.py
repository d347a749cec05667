"""Video files with folders of masks, on a real clip."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvm_data.builders.clips import open_clips
from mmvm_data.builders.palette import open_davis
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.io import media

ROOT = "davis2017_schoolgirls_240p"


def _marks(folder: Path, *names: str, size: tuple[int, int] = (432, 240)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        image = Image.new("P", size, 0)
        image.putpalette(range(256))
        image.paste(3, (10, 20, 40, 60))
        image.save(folder / name)


def test_real_clip_has_the_masks_of_its_png_tree_and_the_pixels_of_its_frames(realdata: Path) -> None:
    root = realdata / ROOT
    source = open_clips("video", root)
    assert (list(source.videos), source.rejects) == (["schoolgirls"], ())
    clip, tree = source.load("schoolgirls"), open_davis("davis2017", root).load("schoolgirls")
    assert clip.annotated == tree.annotated == tuple(range(80))
    assert (clip.frames[24].time, clip.frames[24].video_frame) == (1.0, 24)
    for position in range(80):
        assert clip.regions(position) == tree.regions(position)
    labels = np.asarray(Image.open(root / "Annotations/240p/schoolgirls/00042.png"))
    assert [masks.area(r.mask) for r in clip.regions(42)] == [np.count_nonzero(labels == v) for v in range(1, 8)]
    for position in (0, 42, 79):  # the tree's frames were stored as JPEG from this clip
        a, b = (media.read_frame_bgr(root, v.frames[position]).astype(int) for v in (clip, tree))
        assert np.abs(a - b).mean() < 3


def test_video_without_masks_is_rejected(realdata: Path) -> None:
    source = open_clips("video", realdata / "sam2_bedroom_video")
    assert list(source.videos) == []
    assert [(r.video, r.file) for r in source.rejects] == [("bedroom", "bedroom.mp4")]
    with pytest.raises(InputError, match="no video file"):
        open_clips("video", realdata / "aot_demo")


@pytest.mark.parametrize(
    "place", ["Annotations/x", "Annotations/480p/x", "masks/x", "in/masks/x", "in/x_masks", "in/x_mask", "in/x"]
)
def test_every_place_for_masks(realdata: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.mp4").symlink_to(realdata / ROOT / "schoolgirls.mp4")
    _marks(tmp_path / place, "mask_00070.png", "mask_00005.png")
    source = open_clips("video", tmp_path)
    assert list(source.videos) == ["in/x"]
    video = source.load("in/x")
    assert video.annotated == (5, 70)
    assert [(r.id, masks.bbox(r.mask)) for r in video.regions(70)] == [("3", (10, 20, 30, 40))]
    with pytest.raises(KeyError):
        video.regions(6)


def test_masks_that_fit_no_frame_are_errors(realdata: Path, tmp_path: Path) -> None:
    (tmp_path / "x.mp4").symlink_to(realdata / ROOT / "schoolgirls.mp4")
    for names, reason in (
        (("00001.png",), r"only 1 annotated frame\(s\)"),
        (("00080.png",), r"00080\.png: x\.mp4 has no frame 80, it has 80"),
        (("mask.png",), "must end in the number of its frame"),
        (("1.png", "001.png"), r"1\.png: 001\.png is a mask of frame 1 too"),
        ((os.fsdecode(b"caf\xe9_1.png"),), r"caf\\xe9_1\.png: the name of a mask"),
    ):
        _marks(tmp_path / "x", *names)
        with pytest.raises(InputError, match=reason):
            open_clips("video", tmp_path).load("x")
        for file in (tmp_path / "x").iterdir():
            file.unlink()
    _marks(tmp_path / "x", "1.png", "2.png", size=(432, 241))
    with pytest.raises(InputError, match=r"1\.png: mask is 432 x 241, its frame is 432 x 240"):
        open_clips("video", tmp_path).load("x").regions(1)


def test_names_and_links_that_cannot_be_used_are_rejected(realdata: Path, tmp_path: Path) -> None:
    for name in ("x.mp4", "x.mov", os.fsdecode(b"caf\xe9.mp4")):
        (tmp_path / name).symlink_to(realdata / ROOT / "schoolgirls.mp4")
    _marks(tmp_path / "x_masks", "1.png", "2.png")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    source = open_clips("video", tmp_path)
    assert list(source.videos) == ["x"]
    assert [(r.video, r.reason) for r in source.rejects] == [
        ("caf\\xe9", "the file's name is not UTF-8"),
        ("self", "the link is broken or points back to itself"),
        ("up", "the link points back to a folder that contains it"),
        ("x", "two videos have the same name, x.mov is read"),
    ]


def test_name_that_is_too_long_for_a_masks_folder(realdata: Path, tmp_path: Path) -> None:
    stem = "x" * 251
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/{stem}.mp4").symlink_to(realdata / ROOT / "schoolgirls.mp4")
    (tmp_path / f"{stem[1:]}.mp4").symlink_to(realdata / ROOT / "schoolgirls.mp4")
    _marks(tmp_path / "Annotations" / stem, "1.png", "2.png")
    source = open_clips("video", tmp_path)
    assert list(source.videos) == [f"in/{stem}"]
    assert [(r.video, r.reason[:20]) for r in source.rejects] == [(stem[1:], "no folder of masks; ")]


def test_finding_masks_does_not_list_all_other_folders(
    realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for k in range(20):
        (tmp_path / f"{k}.mp4").symlink_to(realdata / ROOT / "schoolgirls.mp4")
        _marks(tmp_path / f"Annotations/{k}", "1.png", "2.png", size=(9, 9))
    looked = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(Path(folder).name) or scandir(folder))
    assert len(open_clips("video", tmp_path).videos) == 20
    assert sorted(name for name in looked if name.isdigit()) == sorted(str(k) for k in range(20))


def test_broken_video_file_is_an_error_at_load(realdata: Path, tmp_path: Path) -> None:
    data = (realdata / ROOT / "schoolgirls.mp4").read_bytes()
    (tmp_path / "x.mp4").write_bytes(data[: len(data) // 2])
    _marks(tmp_path / "x_masks", "1.png", "2.png")
    with pytest.raises(InputError, match=r"x\.mp4: video cannot be opened"):
        open_clips("video", tmp_path).load("x")

"""Sets of single-object trackers on real annotations, against got10k's own readers, and with known faults."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from got10k import datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.builders import open_source
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Video
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from tests.sets import tracker_sets
from tests.sets.world import FRAMES, WrittenSet, encode_image


def _images(folder: Path, count: int, size: tuple[int, int] = (1280, 720), pattern: str = "{:08d}.jpg") -> None:
    folder.mkdir(parents=True)
    Image.new("RGB", size).save(folder / "first.jpg")
    data = (folder / "first.jpg").read_bytes()
    (folder / "first.jpg").unlink()
    for n in range(1, count + 1):
        (folder / pattern.format(n)).write_bytes(data)


def _boxes(video: Video) -> list[tuple[float, ...] | None]:
    """The box of the one object in each frame, None where it is absent."""
    found = [video.regions(position) for position in video.annotated]
    assert all(len(regions) <= 1 for regions in found)
    return [regions[0].box if regions else None for regions in found]


@pytest.mark.parametrize("name", ["person/person-1", "airplane/airplane-1", "zebra/zebra-1"])
def test_real_boxes_of_lasot(realdata: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(realdata / "lasot_gt" / name, tmp_path / name)
    expected = np.loadtxt(tmp_path / name / "groundtruth.txt", delimiter=",")
    absent = np.loadtxt(tmp_path / name / "absent.txt", delimiter=",").ravel()
    _images(tmp_path / name / "img", len(expected))
    source = open_source("lasot", tmp_path)
    assert (list(source.videos), source.rejects) == ([name.split("/")[1]], ())
    video = source.load(name.split("/")[1])
    assert len(video.annotated) == len(video.frames) == len(expected)
    gone = (absent == 1) | (expected[:, 2] == 0) | (expected[:, 3] == 0)
    for box, row, missing in zip(_boxes(video), expected.tolist(), gone.tolist(), strict=True):
        assert box == (None if missing else tuple(row))
    assert {r.category for p in video.annotated for r in video.regions(p)} == {name.split("/")[0]}


def test_lasot_annotations_without_frames_are_reported(realdata: Path) -> None:
    source = open_source("lasot", realdata / "lasot_gt")
    assert len(source.videos) == 3
    for name in source.videos:
        with pytest.raises(InputError, match="img: no frames: the folder is missing"):
            source.load(name)


def test_real_sequence_of_uav123(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "uav123_10fps"
    source = open_source("uav123", root)
    assert list(source.videos) == ["boat1", "person12_1", "truck4_1", "truck4_2", "wakeboard7"]
    video = source.load("wakeboard7")
    assert (len(video.frames), video.frames[0].width, video.frames[0].index) == (67, 1280, 1)
    expected = np.loadtxt(root / "anno/UAV123_10fps/wakeboard7.txt", delimiter=",")
    assert _boxes(video) == [tuple(row) for row in expected.tolist()]
    assert video.regions(0)[0].category == "person"
    for name in ("boat1", "truck4_2"):
        with pytest.raises(InputError, match=f"data_seq/UAV123_10fps/{name[:6].rstrip('_')}: no frames"):
            source.load(name)
    sampling = SamplingOptions(min_candidates=1, min_area=100, min_side=8)
    assert build("uav123", root, tmp_path / "b", BuildOptions(sampling=sampling)).cases == 4
    assert not bench.validate(tmp_path / "b", deep=True).problems


@pytest.mark.parametrize(("frames", "starts"), [(421, (1, 193)), (422, (1, 194)), (500, None)])
def test_parts_of_a_real_sequence_without_configseqs(realdata: Path, tmp_path: Path, frames: int, starts) -> None:
    """The parts of truck4 have 193 and 229 lines: 421 frames when they share one, as they do, and 422 when not."""
    shutil.copytree(realdata / "uav123_10fps/anno", tmp_path / "anno")
    _images(tmp_path / "data_seq/UAV123_10fps/truck4", frames, pattern="{:06d}.jpg")
    source = open_source("uav123", tmp_path)
    for name, start, lines in zip(("truck4_1", "truck4_2"), starts or (0, 0), (193, 229), strict=True):
        if starts is None:
            with pytest.raises(InputError, match=r"the first frame of this part is not known: configSeqs\.m"):
                source.load(name)
            continue
        video = source.load(name)
        assert [video.frames[p].index for p in video.annotated] == list(range(start, start + lines))
        assert video.regions(video.annotated[0])[0].category == "truck"


def _compare(written: WrittenSet, source: str, theirs: Callable[[str], np.ndarray]) -> None:
    opened = open_source(source, written.root)
    for name in opened.videos:
        expected = theirs(name)
        for box, row in zip(_boxes(opened.load(name)), expected.tolist(), strict=True):
            assert box is None or box == pytest.approx(row)
            assert box is not None or np.isnan(row).all() or row[2] == 0 or source == "got10k"


def test_got10k_toolkit_agrees_on_got10k(tmp_path: Path) -> None:
    written = tracker_sets.got10k(tmp_path)
    (tmp_path / "train/list.txt").write_text("GOT-10k_Train_000000\nGOT-10k_Train_000001\n")
    for v in range(2):
        (tmp_path / f"train/GOT-10k_Train_{v:06d}/cut_by_image.label").write_text("0\n" * FRAMES)
    theirs = datasets.GOT10k(str(tmp_path), "train", return_meta=True)
    _compare(written, "got10k", lambda name: theirs[name][1])
    opened = open_source("got10k", tmp_path)
    for name in opened.videos:
        _, _, meta = theirs[name]
        video = opened.load(name)
        for position in video.annotated:
            regions = video.regions(position)
            assert bool(regions) == (meta["absence"][position] == 0)
            for region in regions:
                assert region.extra == {"visibility": meta["cover"][position] / 8}
                assert region.category == meta["object_class"]


def test_got10k_toolkit_agrees_on_vot(tmp_path: Path) -> None:
    written = tracker_sets.vot(tmp_path)
    for file in (tmp_path / "bag/color").iterdir():  # VOT2017, without the folder
        file.rename(tmp_path / "bag" / file.name)
    (tmp_path / "bag/color").rmdir()
    (tmp_path / "list.txt").write_text("bag\nball\n")
    theirs = datasets.VOT(str(tmp_path), 2017, anno_type="default", download=False)

    def upright(name: str) -> np.ndarray:
        rows = theirs[name][1]
        if rows.shape[1] == 4:
            return rows
        x, y = rows[:, ::2], rows[:, 1::2]
        return np.stack((x.min(1), y.min(1), np.ptp(x, axis=1), np.ptp(y, axis=1)), axis=1)

    ball = tmp_path / "ball/groundtruth.txt"
    lines = [line if "nan" not in line else ",".join(["nan"] * 8) for line in ball.read_text().splitlines()]
    ball.write_text("\n".join(lines) + "\n")
    _compare(written, "vot", upright)


def test_got10k_toolkit_agrees_on_uav123_and_otb(tmp_path: Path) -> None:
    written = tracker_sets.uav123(tmp_path / "uav")
    entry = written.root / "anno/UAV123/car1.txt"
    rows = np.loadtxt(entry, delimiter=",")
    assert _boxes(open_source("uav123", written.root).load("car1")) == [tuple(row) for row in rows.tolist()]
    written = tracker_sets.otb(tmp_path / "otb")
    source = open_source("otb", written.root)
    theirs = datasets.OTB.__new__(datasets.OTB)  # its list of sequences is fixed
    names = {
        "Car": "groundtruth_rect.txt",
        "Jogging.1": "groundtruth_rect.1.txt",
        "Jogging.2": "groundtruth_rect.2.txt",
    }
    theirs.seq_names = list(names)
    theirs.seq_dirs = [str(written.root / name.split(".")[0]) for name in names]
    theirs.anno_files = [str(Path(folder) / file) for folder, file in zip(theirs.seq_dirs, names.values(), strict=True)]
    for name in names:
        images, expected = theirs[name]
        video, track = source.load(name.split(".")[0]), name.rpartition(".")[2] if "." in name else "1"
        for position, row in zip(video.annotated, expected.tolist(), strict=True):
            assert str(video.root / video.frames[position].path) == images[position]
            found = {r.id: r.box for r in video.regions(position)}
            assert found.get(track) in (tuple(row), None)


def test_otb_starts_david_at_frame_300(tmp_path: Path) -> None:
    _images(tmp_path / "David/img", 310, (64, 48), "{:04d}.jpg")
    (tmp_path / "David/groundtruth_rect.txt").write_text("".join(f"{n},2,3,4\n" for n in range(11)))
    video = open_source("otb", tmp_path).load("David")
    assert [video.frames[p].index for p in video.annotated] == list(range(300, 311))
    assert video.regions(300)[0].box == (1, 2, 3, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: (s / "groundtruth.txt").write_text("1,2,3,4\n" * 5), "5 lines for 4 frames"),
        (lambda s: (s / "groundtruth.txt").write_text("1,2,3,4\n" * 3), "3 lines for 4 frames"),
        (lambda s: (s / "groundtruth.txt").write_text("\n \n"), "the file holds no annotation"),
        (lambda s: (s / "groundtruth.txt").write_bytes(b"\xff\xfe"), "not a text file"),
        (lambda s: (s / "full_occlusion.txt").write_text("0,0,0"), "4 numbers are expected, one per frame, found 3"),
        (lambda s: (s / "full_occlusion.txt").write_text("0,0,0,2"), "number 4: a number from 0 to 1 is expected"),
        (lambda s: shutil.rmtree(s / "img"), "no frames: the folder is missing"),
        (lambda s: [p.unlink() for p in (s / "img").iterdir()], "the folder holds no images"),
    ],
)
def test_what_is_wrong_with_a_sequence(tmp_path: Path, change: Callable[[Path], object], reason: str) -> None:
    tracker_sets.lasot(tmp_path)
    change(tmp_path / "person/person-0")
    source = open_source("lasot", tmp_path)
    with pytest.raises(InputError, match=reason):
        source.load("person-0")
    assert len(_boxes(source.load("person-1"))) == FRAMES


def test_bad_line_only_breaks_its_frame(tmp_path: Path) -> None:
    tracker_sets.lasot(tmp_path)
    file = tmp_path / "person/person-0/groundtruth.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], "1,2,x,4", "1,2,-3,4", "1,2,3"]))
    video = open_source("lasot", tmp_path).load("person-0")
    assert len(video.regions(0)) == 1
    for position, reason in (
        (1, "line 2, column 3: a number is expected, found 'x'"),
        (2, "line 3, column width: a size is expected, found -3"),
        (3, "line 4: four numbers x, y, width, height are expected, found 3"),
    ):
        with pytest.raises(InputError, match=reason):
            video.regions(position)


def test_sequences_that_cannot_be_used_are_rejects(tmp_path: Path) -> None:
    tracker_sets.lasot(tmp_path)
    shutil.copytree(tmp_path / "person/person-0", tmp_path / "other/person-0")
    (tmp_path / "cat/cat-1/img").mkdir(parents=True)
    source = open_source("lasot", tmp_path)
    assert {(r.video, r.reason) for r in source.rejects} == {
        ("person-0", "two sequences have the same name, other/person-0 is read"),
        ("cat-1", "groundtruth.txt is missing"),
    }
    with pytest.raises(InputError, match=r"no folder with groundtruth\.txt exists here"):
        open_source("got10k", tmp_path / "cat/cat-1/img")
    with pytest.raises(InputError, match=r"no usable video '\.\./person-0'"):
        source.load("../person-0")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("m1,2,3", "x0, y0, w, h and run lengths are expected"),
        ("m1,2,3,4,x", "number 5: an integer is expected"),
        ("m1,2,3,4,5,90", "run lengths from 0 that fill at most 3 x 4 pixels"),
        ("m0,0,-1,4,1", "is no part of a frame"),
        ("1,2,3,4", "a box in a sequence that starts with masks"),
    ],
)
def test_bad_masks_of_vot(tmp_path: Path, line: str, reason: str) -> None:
    tracker_sets.vot_masks(tmp_path)
    file = tmp_path / "agility/groundtruth.txt"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], line]))
    with pytest.raises(InputError, match=reason):
        open_source("vot", tmp_path).load("agility").regions(3)


def test_vot_window_may_reach_over_the_frame_edge(tmp_path: Path) -> None:
    for n in (1, 2):
        path = tmp_path / f"v/color/{n:08d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_image(0, n))
    (tmp_path / "v/groundtruth.txt").write_text("m-2,46,5,4,0,20\nm62,-1,4,3,0,12\n")
    video = open_source("vot", tmp_path).load("v")
    for position, (rows, columns) in enumerate([(slice(46, 48), slice(0, 3)), (slice(0, 2), slice(62, 64))]):
        expected = np.zeros((48, 64), np.uint8)
        expected[rows, columns] = 1
        mask = video.regions(position)[0].mask
        assert mask is not None
        assert (masks.decode(mask) == expected).all()


@settings(max_examples=60)
@given(st.data())
def test_any_mask_survives_its_window(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.getbasetemp() / "windows"
    if not root.exists():
        _images(root / "v/color", 2, (16, 12))
    pixels = data.draw(st.binary(min_size=24, max_size=24))
    bitmap = np.unpackbits(np.frombuffer(pixels, np.uint8)).reshape(12, 16)
    edge = data.draw(st.integers(0, 3))
    (root / "v/groundtruth.txt").write_text(f"m0,0,16,12,0,192\n{tracker_sets.encode_window(bitmap, edge)}\n")
    regions = open_source("vot", root).load("v").regions(1)
    assert len(regions) == int(bitmap.any())
    for region in regions:
        assert region.mask is not None
        assert (masks.decode(region.mask) == bitmap).all()

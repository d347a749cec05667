"""The MOT family on real annotations (frames of SportsMOT are made here), and on broken ones."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from mmvm_data.builders.mot import COLUMNS, open_mot
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Video
from mmvm_data.pipeline.build import BuildOptions, build


def _images(folder: Path, numbers: range, size: tuple[int, int], digits: int = 6) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(folder / "first.jpg")
    data = (folder / "first.jpg").read_bytes()
    (folder / "first.jpg").unlink()
    for n in numbers:
        (folder / f"{n:0{digits}d}.jpg").write_bytes(data)


def _sequence(folder: Path, lines: str, frames: int = 3, info: str | None = None) -> Path:
    _images(folder / "img1", range(1, frames + 1), (64, 48))
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text(lines)
    if info is not None:
        (folder / "seqinfo.ini").write_text(info)
    return folder


INFO = "[Sequence]\nname=a\nimDir=img1\nframeRate=25\nseqLength=600\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
GOOD = "1,1,5,6,7,8,1,1,0.5\n1,2,20,6,7,8,1,1,1\n2,1,5,6,7,8,1,1,1\n3,1,5,6,7,8,1,1,1\n"


def _check(video: Video, file: Path, origin: int) -> None:
    """Every box of the video is what pandas reads, and nothing is missing."""
    table = pd.read_csv(file, header=None, names=list(COLUMNS), skipinitialspace=True)
    table = table[(table["flag"] != 0) & (table["class"] == 1)]
    for position in video.annotated:
        rows = table[table["frame"] == video.frames[position].index]
        expected = {
            str(row.id): ((row.left - origin, row.top - origin, row.width, row.height), row.visibility)
            for row in rows.itertuples()
        }
        found = {r.id: (r.box, r.extra["visibility"]) for r in video.regions(position)}
        assert found == expected
        assert len(found) == len(rows) > 0


def test_real_boxes_of_mot17_are_those_of_pandas(realdata: Path) -> None:
    source = open_mot("mot17", realdata / "mot17_mini")
    assert (list(source.videos), source.rejects) == (["MOT17-02-FRCNN", "MOT17-04-FRCNN"], ())
    for name, count in (("MOT17-02-FRCNN", 4), ("MOT17-04-FRCNN", 8)):
        video = source.load(name)
        # seqinfo.ini speaks of 600 and 1050 frames
        assert [f.index for f in video.frames] == list(range(1, count + 1))
        assert video.annotated == tuple(range(count))
        assert (video.prompt, video.frames[0].width, video.frames[0].height) == ("box", 1920, 1080)
        assert [f.time for f in video.frames] == [k / 30 for k in range(count)]
        assert video.frames[2].path == f"train/{name}/img1/000003.jpg"
        assert (video.root / video.frames[2].path).is_file()
        _check(video, realdata / f"mot17_mini/train/{name}/gt/gt.txt", 1)
    assert {r.category for r in source.load("MOT17-04-FRCNN").regions(0)} == {"pedestrian"}


def test_real_boxes_of_sportsmot_are_those_of_pandas(realdata: Path, tmp_path: Path) -> None:
    names = ["v_-6Os86HzwCs_c003", "v_ApPxnw_Jffg_c001"]
    for name, count in zip(names, (403, 235), strict=True):
        folder = tmp_path / "dataset" / "train" / name
        shutil.copytree(realdata / "sportsmot_gt" / "train" / name, folder)
        _images(folder / "img1", range(1, count + 1), (1280, 720))
    source = open_mot("sportsmot", tmp_path)
    assert (list(source.videos), source.rejects) == (names, ())
    for name, count in zip(names, (403, 235), strict=True):
        video = source.load(name)
        assert video.annotated == tuple(range(count))
        _check(video, realdata / "sportsmot_gt" / "train" / name / "gt" / "gt.txt", 0)
        assert {r.category for r in video.regions(0)} == {"player"}


def test_annotations_without_frames_are_an_error_of_their_video(realdata: Path) -> None:
    source = open_mot("sportsmot", realdata / "sportsmot_gt")
    assert len(source.videos) == 2
    for name in source.videos:
        with pytest.raises(InputError, match="no frames: the folder is missing"):
            source.load(name)


def test_one_detector_of_mot17_is_read(tmp_path: Path) -> None:
    for name in ("MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP", "MOT17-05-SDP", "MOT17-05-DPM", "MOT17-09-SDP"):
        _sequence(tmp_path / "train" / name, GOOD)
    source = open_mot("mot17", tmp_path)
    assert list(source.videos) == ["MOT17-02-FRCNN", "MOT17-05-DPM", "MOT17-09-SDP"]
    assert source.rejects == ()
    _sequence(tmp_path / "train" / "MOT17-05", GOOD)
    assert list(open_mot("mot17", tmp_path).videos) == ["MOT17-02-FRCNN", "MOT17-05", "MOT17-09-SDP"]


def test_splits_and_what_is_missing_in_them(tmp_path: Path) -> None:
    _sequence(tmp_path / "train" / "a", GOOD)
    _sequence(tmp_path / "val" / "b", GOOD)
    _sequence(tmp_path / "val" / "a", GOOD)
    for split, name in (("test", "c"), ("test1", "e"), ("val", "d")):
        _images(tmp_path / split / name / "img1", range(1, 3), (64, 48))
    source = open_mot("dancetrack", tmp_path)
    assert list(source.videos) == ["a", "b"]
    assert [(r.video, r.file) for r in source.rejects] == [("a", "val/a"), ("d", "val/d")]
    assert source.rejects[0].reason == "two sequences have the same name, train/a is read"
    assert source.rejects[1].reason == "gt/gt.txt is missing"
    assert list(open_mot("dancetrack", tmp_path / "val").videos) == ["a", "b"]
    assert list(open_mot("dancetrack", tmp_path / "val" / "b").videos) == ["b"]
    with pytest.raises(InputError, match="only sequences of the test server"):
        open_mot("dancetrack", tmp_path / "test")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no <sequence>/gt/gt\.txt exists here"):
        open_mot("dancetrack", tmp_path / "empty")


def test_images_numbered_from_0(tmp_path: Path) -> None:
    folder = _sequence(tmp_path / "a", GOOD)
    (folder / "img1/000003.jpg").rename(folder / "img1/000000.jpg")
    video = open_mot("mot17", tmp_path).load("a")  # lines 1 to 3 are those of images 0 to 2
    assert [f.index for f in video.frames] == [0, 1, 2]
    assert [[r.id for r in video.regions(p)] for p in video.annotated] == [["1", "2"], ["1"], ["1"]]
    (folder / "gt/gt.txt").write_text("0,7,5,6,7,8,1,1,1\n2,8,5,6,7,8,1,1,1\n")  # lines from 0
    video = open_mot("mot17", tmp_path).load("a")
    assert [[r.id for r in video.regions(p)] for p in video.annotated] == [["7"], [], ["8"]]
    (folder / "gt/gt.txt").write_text("1,7,5,6,7,8,1,1,1\n2,8,5,6,7,8,1,1,1\n")  # from 0 or from 1
    with pytest.raises(InputError, match=r"a/img1: images are numbered from 0 to 2, lines of gt.txt from 1 to 2"):
        open_mot("mot17", tmp_path).load("a")
    for k in range(3):
        (folder / f"img1/00000{k}.jpg").rename(folder / f"img1/{'abc'[k]}.jpg")
    with pytest.raises(InputError, match="not numbered from 1"):
        open_mot("mot17", tmp_path).load("a")


def test_lines_for_frames_without_images_are_problems(tmp_path: Path) -> None:
    _sequence(tmp_path / "a", GOOD + "4,1,5,6,7,8,1,1,1\n99,1,5,6,7,8,1,1,1\n")
    (problem,) = open_mot("mot17", tmp_path).load("a").problems
    assert problem.reason == "2 annotated frames have no image: 4, 99"
    result = build("mot17", tmp_path, tmp_path / "out")
    assert (problem.reason, 1) in result.common_reasons
    assert (
        '"2 annotated frames have no image: 4, 99", "file": "a/gt/gt.txt"'
        in (tmp_path / "out/rejects.jsonl").read_text()
    )


def test_whole_floats_are_numbers(tmp_path: Path) -> None:
    _sequence(tmp_path / "a", "1.0,1.0,5,6,7,8,1,1.0,1\n2.000e+00,1,5,6,7,8,1,1,1\n", info=INFO.replace("64", "64.0"))
    video = open_mot("mot17", tmp_path).load("a")
    assert [[r.id for r in video.regions(p)] for p in video.annotated] == [["1"], ["1"]]
    (tmp_path / "a/gt/gt.txt").write_text("1.5,1,5,6,7,8,1,1,1\n")
    with pytest.raises(InputError, match=r"a frame number is expected, found '1\.5'"):
        open_mot("mot17", tmp_path).load("a")


def test_recorded_lines_of_ten_columns(cases: Path, tmp_path: Path) -> None:
    text = (cases / "mot15_ten_columns/TUD-Campus/gt/gt.txt").read_text()
    numbers = sorted({int(line.split(",")[0]) for line in text.splitlines()})
    folder = tmp_path / "TUD-Campus"
    _images(folder / "img1", range(1, numbers[-1] + 1), (640, 480))
    (folder / "gt").mkdir()
    for lines in (text, "".join(line.rpartition(",")[0] + "\n" for line in text.splitlines())):
        (folder / "gt/gt.txt").write_text(lines)
        video = open_mot("mot17", tmp_path).load("TUD-Campus")
        found = [(video.frames[p].index, r.id, r.box, r.extra) for p in video.annotated for r in video.regions(p)]
        rows = [[float(v) for v in line.split(",")] for line in text.splitlines()]
        expected = [(int(r[0]), str(int(r[1])), (r[2] - 1, r[3] - 1, r[4], r[5]), {}) for r in rows if r[6]]
        assert sorted(found, key=str) == sorted(expected, key=str)


def test_recorded_class_minus_1_is_an_unknown_class(cases: Path, tmp_path: Path) -> None:
    video = open_mot("mot17", cases / "mot_class_minus1").load("SEQ-01")
    assert all(video.regions(p) for p in video.annotated)
    assert {r.category for p in video.annotated for r in video.regions(p)} == {None}
    options = BuildOptions(sampling=SamplingOptions(min_sharpness=0))
    assert build("mot17", cases / "mot_class_minus1", tmp_path / "out", options).cases > 0


def test_files_whose_lines_are_all_skipped_say_why(tmp_path: Path) -> None:
    folder = _sequence(tmp_path / "a", GOOD.replace(",1,1,", ",1,7,").replace(",1,0.5", ",8,0.5"))
    (folder / "gt/gt.txt").write_text("1,1,5,6,7,8,1,7,1\n2,1,5,6,7,8,1,7,1\n3,1,5,6,7,8,1,2,1\n")
    with pytest.raises(InputError, match=r"column class: no line has class 1; classes are 7 in 2, 2 in 1 lines"):
        open_mot("mot17", tmp_path).load("a")
    (folder / "gt/gt.txt").write_text("1,1,5,6,7,8,0,1,1\n2,1,5,6,7,8,0,1,1\n")
    with pytest.raises(InputError, match="column flag: every line has flag 0"):
        open_mot("mot17", tmp_path).load("a")


def test_unreadable_folder_only_rejects_its_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sequence(tmp_path / "a", GOOD)
    _sequence(tmp_path / "b", GOOD)
    stat = os.stat

    def closed(path, *args, **kwargs):
        if os.fspath(path) == str(tmp_path / "a/gt/gt.txt"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", closed)
    source = open_mot("mot17", tmp_path)
    assert list(source.videos) == ["b"]
    assert [(r.video, r.reason, r.file) for r in source.rejects] == [
        ("a", "cannot be read: Permission denied", "a/gt/gt.txt")
    ]


def test_only_dancetrack_may_have_eight_columns(tmp_path: Path) -> None:
    lines = "".join(line.rpartition(",")[0] + "\n" for line in GOOD.splitlines())
    _sequence(tmp_path / "a", lines, info=INFO)
    video = open_mot("dancetrack", tmp_path).load("a")
    assert [(r.id, r.box, r.extra) for r in video.regions(0)] == [
        ("1", (5, 6, 7, 8), {}),
        ("2", (20, 6, 7, 8), {}),
    ]
    with pytest.raises(InputError, match="line 1: 9 columns are expected, found 8"):
        open_mot("mot20", tmp_path).load("a").regions(0)


def test_frames_without_lines_are_annotated_between_the_first_and_the_last(tmp_path: Path) -> None:
    _sequence(tmp_path / "a", "2,1,5,6,7,8,1,1,1\n4,1,5,6,7,8,1,1,1\n99,1,5,6,7,8,1,1,1\n", frames=6)
    video = open_mot("sportsmot", tmp_path).load("a")
    assert video.annotated == (1, 2, 3, 4, 5)
    assert [len(video.regions(p)) for p in video.annotated] == [1, 0, 1, 0, 0]


def test_boxes_over_the_edge_are_not_clipped(tmp_path: Path) -> None:
    _sequence(tmp_path / "a", "1,1,-30,-7.5,900,80,1,1,0\n2,1,1,1,2,2,1,1,1\n")
    assert open_mot("mot17", tmp_path).load("a").regions(0)[0].box == (-31, -8.5, 900, 80)


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ("2,7,nan,6,7,8,1,1,1", "line 5, column left", "a number is expected, found 'nan'"),
        ("2,7,5,inf,7,8,1,1,1", "line 5, column top", "a number is expected, found 'inf'"),
        ("2,7,5,6,0,8,1,1,1", "line 5, column width", "a number above 0 is expected, found 0"),
        ("2,7,5,6,7,-8,1,1,1", "line 5, column height", "a number above 0 is expected, found -8"),
        ("2,7,5,6,7,8,1,1", "line 5", "9 columns are expected, found 8"),
        ("2,7,5,6,7,8,1,1,1,1", "line 5", "9 columns are expected, found 10"),
        ("2,7,5,6,x,8,1,1,1", "line 5, column width", "a number is expected, found 'x'"),
        ("2,7,5,6,7,8,,1,1", "line 5, column flag", "a number is expected, found ''"),
        ("2,7,1_0,6,7,8,1,1,1", "line 5, column left", "a number is expected, found '1_0'"),
        ("2,7.5,5,6,7,8,1,1,1", "line 5, column id", "an integer from 0"),
        ("2,-1,5,6,7,8,1,1,1", "line 5, column id", "an integer from 0"),
        ("2,1,5,6,7,8,1,1,1", "line 5, column id", "track 1 occurs twice in one frame"),
    ],
)
def test_bad_line_only_breaks_its_frame(tmp_path: Path, line: str, field: str, reason: str) -> None:
    folder = _sequence(tmp_path / "a", GOOD + line + "\n", info=INFO)
    video = open_mot("mot17", tmp_path).load("a")
    with pytest.raises(InputError) as caught:
        video.regions(1)
    assert caught.value.file == str(folder / "gt" / "gt.txt")
    assert caught.value.field == field
    assert reason in caught.value.reason
    assert len(video.regions(0)) == 2
    assert len(video.regions(2)) == 1


def test_bad_size_in_a_skipped_line_is_ignored(tmp_path: Path) -> None:
    _sequence(tmp_path / "a", GOOD + "2,1,5,6,-7,0,0,1,1\n2,1,5,6,-7,0,1,8,1\n")
    assert len(open_mot("mot17", tmp_path).load("a").regions(1)) == 1


def _without(path: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()


def overwrite(path: str, data: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / path).write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "file", "reason"),
    [
        (_without("img1"), "img1", "no frames: the folder is missing"),
        (lambda folder: [path.unlink() for path in (folder / "img1").iterdir()], "img1", "the folder holds no images"),
        (overwrite("gt/gt.txt", b"\n \n"), "gt/gt.txt", "the file holds no annotation"),
        (overwrite("gt/gt.txt", b"\xff\xfe1"), "gt/gt.txt", "not a text file"),
        (overwrite("gt/gt.txt", b"frame,id\n"), "gt/gt.txt", "a frame number is expected, found 'frame'"),
        (overwrite("gt/gt.txt", b"-1,1,5,6,7,8,1,1,1\n"), "gt/gt.txt", "a frame number is expected, found '-1'"),
        (overwrite("gt/gt.txt", b"1,1,5,6,7,8,1,1,1\n"), "gt/gt.txt", "only 1 annotated frame(s)"),
        (overwrite("gt/gt.txt", b"70,1,5,6,7,8,1,1,1\n"), "gt/gt.txt", "only 0 annotated frame(s)"),
        (overwrite("seqinfo.ini", b"no section"), "seqinfo.ini", "not an ini file"),
        (overwrite("seqinfo.ini", b"\xff"), "seqinfo.ini", "not a text file"),
        (overwrite("seqinfo.ini", b"[Other]\n"), "seqinfo.ini", "the section [Sequence] is missing"),
        (overwrite("seqinfo.ini", b"[Sequence]\nframeRate=0\n"), "seqinfo.ini", "a number above 0 is expected"),
        (overwrite("seqinfo.ini", b"[Sequence]\nimWidth=6.5\n"), "seqinfo.ini", "an integer is expected"),
        (overwrite("seqinfo.ini", b"[Sequence]\nimWidth=65\n"), "seqinfo.ini", "boxes would not fit"),
        (overwrite("seqinfo.ini", b"[Sequence]\nimDir=../../x\n"), "seqinfo.ini", "stay inside"),
        (overwrite("img1/000001.jpg", b"no image"), "img1/000001.jpg", ""),
    ],
)
def test_a_bad_sequence_is_an_error_when_it_is_loaded(
    tmp_path: Path, spoil: Callable[[Path], object], file: str, reason: str
) -> None:
    folder = _sequence(tmp_path / "a", GOOD, info=INFO)
    _sequence(tmp_path / "b", GOOD)
    spoil(folder)
    source = open_mot("mot17", tmp_path)
    with pytest.raises(InputError) as caught:
        source.load("a")
    assert caught.value.file == str(folder / file)
    assert reason in caught.value.reason
    assert source.load("b").regions(0)
    with pytest.raises(InputError, match="no usable video 'z'"):
        source.load("z")


def test_a_name_with_a_line_end_is_still_one_line(tmp_path: Path) -> None:
    folder = _sequence(tmp_path / "a", GOOD, info="[Sequence]\nimDir=img1\n =25\n")
    with pytest.raises(InputError) as caught:
        open_mot("mot17", tmp_path).load("a")
    assert str(caught.value) == f"{folder}/img1\\n=25: no frames: the folder is missing"


def _mutated(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        return data[:at] + data[at + rng.randrange(1, 20) :]
    if kind == 1:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 4))) + data[at + 1 :]
    if kind == 2:
        return data[:at]
    lines = [line.split(b",") for line in data.splitlines()]
    line = rng.choice(lines)
    line[rng.randrange(len(line))] = rng.choice(
        (b"nan", b"-1", b"0", b"1e400", b"", b"x", b"9" * 400, b"1 2", b"\xc2\xb2")
    )
    return b"\n".join(b",".join(line) for line in lines)


def test_mutated_files_break_frames_or_their_video(realdata: Path, tmp_path: Path) -> None:
    name = "MOT17-02-FRCNN"
    _images(tmp_path / name / "img1", range(1, 5), (1920, 1080))
    shutil.copytree(realdata / "mot17_mini" / "train" / name / "gt", tmp_path / name / "gt")
    shutil.copy(realdata / "mot17_mini" / "train" / name / "seqinfo.ini", tmp_path / name)
    source = open_mot("mot17", tmp_path)
    clean = {part: (tmp_path / name / part).read_bytes() for part in ("gt/gt.txt", "seqinfo.ini")}
    rng = random.Random(7)
    outcomes = {"video": 0, "frame": 0, "read": 0}
    for k in range(500):
        part = "seqinfo.ini" if k % 10 == 0 else "gt/gt.txt"
        (tmp_path / name / part).write_bytes(_mutated(clean[part], rng))
        try:
            video = source.load(name)
            for position in video.annotated:
                try:
                    json.dumps([r.model_dump() for r in video.regions(position)], allow_nan=False)
                    outcomes["read"] += 1
                except InputError as error:
                    assert "\n" not in str(error)
                    outcomes["frame"] += 1
        except InputError as error:
            assert "\n" not in str(error)
            outcomes["video"] += 1
        (tmp_path / name / part).write_bytes(clean[part])
    assert all(count > 20 for count in outcomes.values()), outcomes


def test_any_text_of_7_to_10_columns(cases: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a"
    _images(folder / "img1", range(1, 4), (64, 48))
    (folder / "gt").mkdir()
    text = "1,4,5.5,6,7,8,1,2,0.5\n2,4,5,6,7,8,0.3,3,-1\n2,6,5,6,7,8,0,3,1\n3,4,5,6,7,8,-1,-1,-1\n"

    def regions() -> list[tuple[str, object, str | None, dict[str, object]]]:
        video = open_mot("mot", tmp_path).load("a")
        return [(r.id, r.box, r.category, r.extra) for p in video.annotated for r in video.regions(p)]

    (folder / "gt/gt.txt").write_text(text)
    boxes = [("4", (5.5, 6, 7, 8)), *[("4", (5, 6, 7, 8))] * 2]  # not shifted; a line of flag 0 is not considered
    assert regions() == [
        (*boxes[0], "class 2", {"visibility": 0.5}), (*boxes[1], "class 3", {}), (*boxes[2], None, {})
    ]  # fmt: skip
    (folder / "gt/labels.txt").write_text("car\nbus\n")
    assert [r[2] for r in regions()] == ["bus", "class 3", None]
    for columns in (8, 7):
        (folder / "gt/gt.txt").write_text("".join(",".join(x.split(",")[:columns]) + "\n" for x in text.split()))
        assert [r[2:] for r in regions()] == [
            (c, {}) for c in (("bus", "class 3", None) if columns == 8 else [None] * 3)
        ]
    (folder / "gt/gt.txt").write_text("1,4,5,6,7,8,1,1.5,1\n2,4,5,6,7,8,1,-2,1\n")
    with pytest.raises(InputError, match=r"line 1, column class: an integer from 0, or -1 for unknown, .* 1\.5"):
        regions()
    (folder / "gt/gt.txt").write_text("1,4,5,6,7,8\n2,4,5,6,7,8\n")
    with pytest.raises(InputError, match="line 1: 7 to 10 columns are expected, found 6"):
        regions()
    (folder / "gt/gt.txt").write_text((cases / "mot15_ten_columns/TUD-Campus/gt/gt.txt").read_text())
    assert regions()[0] == ("1", (399, 182, 121, 229), None, {})

"""Cameras at one instant, crops on sheets, and boxes once a second: what is particular to them, and known faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from mmvm_data.annotation.rationale.surroundings import SourceVideos
from mmvm_data.builders import open_source
from mmvm_data.builders.reid import CELL, PEOPLE_PER_SHEET, SHEETS_PER_GROUP
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import InputError
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, build
from tests.sets import tracker_sets, view_sets
from tests.sets.world import encode_image

SMALL = SamplingOptions(min_area=60, min_side=4, cases_per_video=6, none_share=0.3)


def test_both_images_of_a_case_are_of_one_instant(tmp_path: Path) -> None:
    view_sets.multiview(8)(tmp_path / "set")
    build("wildtrack", tmp_path / "set", tmp_path / "b", BuildOptions(sampling=SMALL))
    cases = list(bench.read(tmp_path / "b"))
    orders = set()
    for case in cases:
        assert case.provenance is not None
        first, last = case.provenance.frames
        assert Path(first.path).name == Path(last.path).name == f"{case.provenance.video}.png"
        assert first.path != last.path
        assert case.provenance.gap == 0
        assert case.provenance.extra == {"views": "cameras at one instant"}
        around = SourceVideos(tmp_path / "set").measure_surroundings(case)
        assert (around.first_motion, around.last_motion) == ({}, {})
        orders.add(first.index < last.index)
    assert orders == {True, False}
    assert any(case.answer is None for case in cases)  # a person whom the other camera does not see


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[0]["views"][0].update(xmin=90), r"\[0\]\.views\[0\]: xmax, ymax .* must be above"),
        (lambda p: p[0]["views"][0].update(viewNum=1), r"\[0\]\.views\[1\]: camera 1 occurs twice"),
        (lambda p: p[1].update(personID=7), "person 7 occurs twice"),
        (lambda p: p[0].pop("views"), "an object with personID and views"),
        (lambda p: p[0]["views"][0].update(ymax=None), "xmin, ymin, xmax and ymax in pixels"),
    ],
)
def test_faults_of_an_instant(tmp_path: Path, change: Any, reason: str) -> None:
    view_sets.multiview(4)(tmp_path)
    file = tmp_path / "annotations_positions/0000.json"
    people = json.loads(file.read_text())
    change(people)
    file.write_text(json.dumps(people))
    source = open_source("multiviewx", tmp_path)
    with pytest.raises(InputError, match=reason):
        source.load("0000")
    assert source.load("0005").regions(0)


def test_a_camera_that_failed_is_missing_from_its_instant(tmp_path: Path) -> None:
    view_sets.multiview(8)(tmp_path)
    (tmp_path / "Image_subsets/C2/00000000.png").unlink()
    (tmp_path / "annotations_positions/notes.json").write_text("[]")
    source = open_source("wildtrack", tmp_path)
    assert [frame.index for frame in source.load("00000000").frames] == [1, 3]
    assert [r.video for r in source.rejects] == ["notes"]
    (tmp_path / "Image_subsets/C3/00000000.png").unlink()
    with pytest.raises(InputError, match=r"only 1 annotated frame\(s\)"):
        open_source("wildtrack", tmp_path).load("00000000")


def test_a_sheet_shows_each_person_once_and_never_the_same_crop_again(tmp_path: Path) -> None:
    view_sets.market(tmp_path)
    source = open_source("reid", tmp_path)
    assert list(source.videos) == ["000000"]  # nine people: eight on the sheets, and one alone makes no group
    video = source.load("000000")
    assert len(video.frames) == SHEETS_PER_GROUP - 1  # three crops each
    crops = [crop for sheet in video.note["crops"] for crop in sheet]
    assert len(set(crops)) == len(crops) == PEOPLE_PER_SHEET * 3
    places = set()
    for position in video.annotated:
        sheet = video.render_frame(position)
        assert sheet is not None
        regions = video.regions(position)
        assert len({r.id for r in regions}) == PEOPLE_PER_SHEET
        for region, crop in zip(regions, video.note["crops"][position], strict=True):
            assert region.box is not None
            x, y, w, h = map(int, region.box)
            assert Path(crop).name.startswith(region.id)
            assert (w, h) == CELL  # crops of 16 x 32 fill their cell
            original = cv2.imread(str(tmp_path / crop), cv2.IMREAD_COLOR)
            expected = cv2.resize(original, CELL, interpolation=cv2.INTER_LINEAR)
            assert (sheet[y : y + h, x : x + w] == expected).all()
            places.add((region.id, x, y))
    assert len(places) > PEOPLE_PER_SHEET
    cameras = [{Path(crop).name.split("_")[1] for crop in sheet} for sheet in video.note["crops"]]
    assert all(len(seen) > 1 for seen in cameras)


def test_real_crop_list_of_mot17(realdata: Path, tmp_path: Path) -> None:
    lines = (realdata / "reid_mot17_mmtracking/ann.txt").read_text().split("\n")
    (tmp_path / "ann.txt").write_text("\n".join(lines))
    people: dict[str, set[str]] = {}
    for line in filter(None, lines):
        path, person = line.split()
        people.setdefault(person, set()).add(path)
        (tmp_path / "imgs" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "imgs" / path).write_bytes(encode_image(int(person), len(people[person]) % 7, size=(40, 100)))
    source = open_source("reid", tmp_path)
    assert source.rejects == ()
    assert len(source.videos) == -(-len(people) // PEOPLE_PER_SHEET)
    seen = set()
    for name in source.videos:
        video = source.load(name)
        for position in video.annotated:
            for region, crop in zip(video.regions(position), video.note["crops"][position], strict=True):
                assert crop.removeprefix("imgs/") in people[region.id]
                seen.add(region.id)
    assert seen == set(people)
    result = build("reid", tmp_path, tmp_path / "b", BuildOptions(sampling=SamplingOptions(min_sharpness=0)))
    assert result.cases == 4 * len(source.videos)
    assert not bench.validate(tmp_path / "b", deep=True).problems


def test_one_of_the_lists_that_overlap_is_read(tmp_path: Path) -> None:
    view_sets.reid_list(tmp_path)
    lines = (tmp_path / "ann.txt").read_text()
    (tmp_path / "ann.txt").unlink()
    (tmp_path / "meta").mkdir()
    for name in ("train_80", "train_9", "val_20"):
        (tmp_path / f"meta/{name}.txt").write_text(lines if name == "train_80" else lines.replace("jpg 0", "jpg 7"))
    source = open_source("reid", tmp_path)
    assert source.rejects == ()
    assert {r.id for r in source.load("000000").regions(0)} == {"0", "1", "2", "3"}


def test_faults_of_crops(tmp_path: Path) -> None:
    view_sets.reid_list(tmp_path)
    text = (tmp_path / "ann.txt").read_text()
    first = text.split()[0]
    (tmp_path / "ann.txt").write_text(f"{text}../x.jpg 3\n/etc/passwd 3\nonly\n{first} 0\n{first} 3\n")
    source = open_source("reid", tmp_path)
    assert sorted((r.field, "stay inside" in r.reason) for r in source.rejects) == [
        ("line 17", True),
        ("line 18", True),
        ("line 19", False),
        ("line 21", False),
    ]
    assert any("this crop is already listed for person 0" in r.reason for r in source.rejects)
    first = source.load("000000").note["crops"][0][0]
    (tmp_path / first).unlink()
    with pytest.raises(InputError, match="not a readable image"):
        source.load("000000").regions(0)
    assert source.load("000000").regions(1)
    view_sets.market(tmp_path / "m")
    (tmp_path / "m/bounding_box_train/Thumbs.jpg").write_bytes(b"")
    assert [r.video for r in open_source("reid", tmp_path / "m").rejects] == ["Thumbs.jpg"]
    (tmp_path / "empty/bounding_box_train").mkdir(parents=True)
    with pytest.raises(InputError, match="no two people with two crops each"):
        open_source("reid", tmp_path / "empty")


def test_oxuva_is_annotated_where_every_object_has_a_line(tmp_path: Path) -> None:
    tracker_sets.oxuva(tmp_path)
    video = open_source("oxuva", tmp_path).load("vid0000")
    assert video.annotated == (0, 1, 2)
    assert [r.id for r in video.regions(0)] == ["obj0000", "obj0001"]
    file = tmp_path / "annotations/dev.csv"
    heading, *lines = file.read_text().splitlines()
    kept = [line for line in lines if not (line.startswith("vid0000,obj0001") and ",0,pre" not in line)]
    file.write_text("\n".join([heading, *kept]))
    video = open_source("oxuva", tmp_path).load("vid0000")
    assert video.annotated == (0, 1, 2, 3)
    assert [r.id for r in video.regions(0)] == ["obj0000"]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (",30,present", ",31,present", "column frame_num: the number of a frame is expected, found '31'"),
        (",30,present", ",0,present", "this object has two lines for one frame"),
        (",present,", ",here,", "column object_presence: present or absent is expected, found 'here'"),
        ("vid0000,obj0000,2", "../x,obj0000,2", ""),
        (",unknown,", ",", "12 columns are expected, found 11"),
    ],
)
def test_faults_of_oxuva(tmp_path: Path, old: str, new: str, reason: str) -> None:
    tracker_sets.oxuva(tmp_path)
    file = tmp_path / "annotations/dev.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    source = open_source("oxuva", tmp_path)
    if not reason:
        with pytest.raises(InputError, match="must be relative and stay inside its root"):
            source.load("../x")
    else:
        with pytest.raises(InputError, match=reason):
            video = source.load("vid0000")
            video.regions(0)
    assert source.load("vid0001").regions(0)


def test_sheet_pixels_are_a_new_array_each_time(tmp_path: Path) -> None:
    view_sets.market(tmp_path)
    video = open_source("reid", tmp_path).load("000000")
    first, second = video.render_frame(0), video.render_frame(0)
    assert first is not None
    assert second is not None
    first[:] = 0
    assert second.any()
    assert Image.fromarray(second).size == (video.frames[0].width, video.frames[0].height)
    assert np.array_equal(second, video.render_frame(0))

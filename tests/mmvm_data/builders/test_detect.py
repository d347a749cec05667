"""Finding the source of a folder: every tiny data set is recognized, and what is missing is named."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmvm_data.builders import SOURCES, open_source
from mmvm_data.builders.detect import choose_source, describe_problem, detect_sources
from mmvm_data.builders.layouts import LAYOUTS, compile_pattern
from mmvm_data.cli import cli
from mmvm_data.core.errors import InputError, UsageError
from tests.sets import tool_sets, video_sets
from tests.sets.every import IDS, write_set
from tests.sets.every import LAYOUTS as SETS

ALIKE = {
    "davis2016": "davis", "mose": "frames", "sportsmot": "mot", "dancetrack": "mot", "mot20": "mot17",
    "ytvis2021": "ytvis", "ovis": "ytvis", "lvvis": "ytvis", "uvo": "ytvis", "sa1b_published": "sa1b",
    "coco_published": "coco", "multiviewx": "wildtrack",
}  # fmt: skip
"""Sources whose layout another has, which is chosen where no name tells them apart."""


def test_every_source_has_a_layout() -> None:
    assert set(LAYOUTS) == set(SOURCES)


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/img1/*.img", "a/b/img1/000001.JPG", True),
        ("**/img1/*.img", "img1/1.png", True),
        ("**/img1/*.img", "img1/x/1.png", False),
        ("[{train,valid}/]JPEGImages/*/*.img", "valid/JPEGImages/a/1.jpg", True),
        ("[{train,valid}/]JPEGImages/*/*.img", "test/JPEGImages/a/1.jpg", False),
        ("**/x.vid", "x.mp4", True),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    assert bool(compile_pattern(pattern).fullmatch(path)) == matches


@pytest.mark.parametrize(("source", "layout"), SETS, ids=IDS)
def test_every_tiny_set_is_recognized(source: str, layout: str, tmp_path: Path) -> None:
    write_set(source, layout, tmp_path / "set")
    found = [detection for detection in detect_sources(tmp_path / "set") if detection.fits]
    assert found, detect_sources(tmp_path / "set")
    best = found[0].name
    assert SOURCES[best].open == SOURCES[source].open or best == ALIKE[source]
    if source in ALIKE:
        return
    assert best == source
    assert found[0].videos == len(open_source(source, tmp_path / "set").videos)


@pytest.mark.parametrize(("folder", "source"), [("DanceTrack", "dancetrack"), ("MOT20", "mot20"), ("mine", "mot")])
def test_the_name_of_a_folder_tells_sets_of_one_layout_apart(folder: str, source: str, tmp_path: Path) -> None:
    video_sets.mot_columns(9)(tmp_path / "plain", 1)
    (tmp_path / "plain").rename(tmp_path / folder)
    assert choose_source("auto", tmp_path / folder) == source
    assert open_source("auto", tmp_path / folder).name == source


def test_a_file_is_recognized(tmp_path: Path) -> None:
    files = {"coco_panoptic": "labels/segments.json", "cvat": "clip0/annotations.xml", "ytvis": "train.json"}
    for source, file in files.items():
        write_set(source, "", tmp_path / source)
        assert choose_source("auto", tmp_path / source / file) == source


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    write_set("ytvos", "", tmp_path / "set")
    (tmp_path / "set/train/meta.json").unlink()
    detections = {detection.name: detection for detection in detect_sources(tmp_path / "set")}
    assert detections["frames"].fits
    assert detections["ytvos"].missing == ("[train/]meta.json",)
    shutil.rmtree(tmp_path / "set/train/Annotations")
    with pytest.raises(UsageError) as caught:
        choose_source("auto", tmp_path / "set")
    assert "no source fits" in str(caught.value)
    assert re.search(r"\n  frames: there is no \*\*/\{Annotations,masks,", str(caught.value))
    write_set("mot17", "", tmp_path / "broken")
    for file in (tmp_path / "broken").rglob("gt.txt"):
        file.write_text("1,2,3\n2,2,3\n")
    detection = next(d for d in detect_sources(tmp_path / "broken") if d.name == "mot")
    assert not detection.fits and "7 to 10 columns are expected, found 3" in detection.reason
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.mp4").write_bytes(b"x")
    assert "video: there is no **/*.png" in [
        f"{d.name}: {describe_problem(d)}" for d in detect_sources(tmp_path / "raw")
    ]
    with pytest.raises(UsageError, match=r"`mmvm-data ingest cut \S*/raw/a.mp4 --out FOLDER`"):
        choose_source("auto", tmp_path / "raw")
    with pytest.raises(UsageError, match=r"`mmvm-data ingest cut \S*/raw/a.mp4 --out FOLDER`"):
        choose_source("auto", tmp_path / "raw/a.mp4")
    for kind, suffix in (("rgb", "jpg"), ("truth", "png")):
        (tmp_path / "own/clip" / kind).mkdir(parents=True)
        (tmp_path / f"own/clip/{kind}/0.{suffix}").write_bytes(b"x")
    assert [
        describe_problem(d).count("there is no **/{JPEGImages,images,frames}/**/*.{jpg,png,…} and no **/{Annotations,")
        for d in detect_sources(tmp_path / "own")
        if d.name == "frames"
    ] == [1]
    (tmp_path / "set/train/JPEGImages").rename(tmp_path / "set/train/pictures")
    assert "there is no [{train,valid}/]JPEGImages/*/*.{jpg,png,…} and no" in next(
        describe_problem(d) for d in detect_sources(tmp_path / "set", "mose")
    )
    with pytest.raises(UsageError, match="cannot be read"):
        choose_source("auto", tmp_path / "nothing")
    with pytest.raises(
        InputError, match=r"are expected here.*; `mmvm-data sources --root \S*/broken` says which source"
    ):
        open_source("davis", tmp_path / "broken")


def test_the_commands(tmp_path: Path) -> None:
    tool_sets.cvat_boxes(tmp_path / "set")
    run = CliRunner().invoke

    def output(*arguments: str, code: int = 0) -> str:
        result = run(cli, [*arguments], env={"COLUMNS": "200"})
        assert result.exit_code == code, result.output
        return result.output

    text = output("sources", "--root", str(tmp_path / "set"))
    assert "cvat" in text.splitlines()[0] and "2 videos" in text.splitlines()[0]
    assert f"build --source cvat --root {tmp_path / 'set'} --out bench" in text.replace("\n", "")
    assert json.loads(output("sources", "--root", str(tmp_path / "set"), "--json"))[0]["name"] == "cvat"
    (tmp_path / "empty").mkdir()
    assert "no source fits" in output("sources", "--root", str(tmp_path / "empty"), code=1)
    assert "there is no **/image_02" not in output("sources", "davis", "--root", str(tmp_path / "set"), code=1)
    text = output("sources", "davis")
    assert "DAVIS 2017" in text and "MOSE" not in text and "next: mmvm-data build --source davis --root" in text
    assert "ingest" not in output("sources", "--root", str(tmp_path / "empty"), code=1)
    shutil.copy(next((tmp_path / "set").rglob("*.xml")), tmp_path / "empty/notes.xml")
    (tmp_path / "empty/clip.mp4").write_bytes(b"x")
    assert "next: mmvm-data ingest cut" in output("sources", "--root", str(tmp_path / "empty"), code=1)
    assert list(json.loads(output("sources", "mot", "--json"))) == ["mot"]
    assert isinstance(run(cli, ["sources", "davs"]).exception, (SystemExit, UsageError))
    options = ["--min-area", "60", "--min-side", "4", "--max-cases", "1"]
    text = output(
        "build", "--source", "auto", "--root", str(tmp_path / "set"), "--out", str(tmp_path / "out"), *options
    )
    assert "source: cvat" in text
    [case] = (tmp_path / "out/cases.jsonl").read_text().splitlines()
    assert json.loads(case)["provenance"]["source"] == "cvat"

"""Broken sources: rejects or one clear error, never a traceback, never half a case."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from pycocotools import mask as coco

from mmvm_data import cli
from mmvm_data.core import errors
from mmvm_data.formats import bench
from tests.worlds import davis


def invoke(source: str, root: Path, out: Path, *more: str) -> Result:
    arguments = ["build", "--source", source, "--root", str(root), "--out", str(out), "--min-area", "100", *more]
    return CliRunner().invoke(cli.cli, arguments)


def rejects(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "rejects.jsonl").read_text().splitlines()]


def test_one_tree_with_many_faults(tmp_path: Path) -> None:
    root = davis(tmp_path / "world", videos=10, frames=4)
    images, labels = root / "JPEGImages/480p", root / "Annotations/480p"
    cut = images / "clip001/00001.jpg"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    Image.fromarray(np.ones((7, 9), np.uint8), "L").save(labels / "clip002/00001.png")
    shutil.rmtree(images / "clip003")
    for file in (labels / "clip004").iterdir():
        file.write_bytes(b"")
    (images / "clip005/00002.jpg").unlink()
    for file in (labels / "clip006").iterdir():
        Image.fromarray(np.zeros((120, 160), np.uint8), "L").save(file)
    (images / "loop").symlink_to(images / "loop")
    (labels / "loop").symlink_to(labels / "loop")
    strange = os.fsdecode(b"clip\xff\xfe")
    shutil.copytree(images / "clip000", images / strange)
    shutil.copytree(labels / "clip000", labels / strange)
    out = tmp_path / "b"
    done = invoke("davis", root, out, "--cases-per-video", "12")
    assert done.exit_code == 0, done.output
    assert not bench.validate(out, deep=True).problems
    records = rejects(out)
    named = {r["video"] for r in records}
    assert {"clip001", "clip002", "clip003", "clip004", "clip006"} <= named
    assert all(r["reason"] for r in records)
    videos = {case.provenance.video for case in bench.read(out) if case.provenance}
    assert {"clip000", "clip001", "clip002", "clip007", "clip008", "clip009"} <= videos
    assert not videos & {"clip003", "clip004", "clip006", strange}
    assert invoke("davis", root, tmp_path / "c", "--strict").exit_code == 1


def ytvis(root: Path) -> dict:
    """A YouTube-VIS file over the images of a DAVIS tree: squares as polygons."""
    davis(root, videos=3, frames=4)
    frames = [f"clip{v:03d}" for v in range(3)]
    return {
        "videos": [
            {"id": v, "width": 160, "height": 120, "length": 4, "file_names": [f"{n}/{f:05d}.jpg" for f in range(4)]}
            for v, n in enumerate(frames)
        ],
        "categories": [{"id": 1, "name": "square"}],
        "annotations": [
            {
                "id": 10 * v + k,
                "video_id": v,
                "category_id": 1,
                "iscrowd": 0,
                "segmentations": [[[30 * k, 10, 30 * k + 25, 10, 30 * k + 25, 40, 30 * k, 40]]] * 4,
                "bboxes": [[30 * k, 10, 25, 30]] * 4,
                "areas": [750] * 4,
            }
            for v in range(3)
            for k in range(4)
        ],
    }


def place(root: Path, text: str) -> Path:
    (root / "JPEGImages/480p").rename(root / "frames")
    shutil.rmtree(root / "JPEGImages")
    (root / "frames").rename(root / "JPEGImages")
    (root / "instances.json").write_text(text)
    return root


def test_faults_of_one_video_in_a_json_file(tmp_path: Path) -> None:
    content = ytvis(tmp_path / "w")
    content["videos"][0]["file_names"][1] = "../../../etc/passwd"
    content["annotations"][5]["segmentations"] = [{"size": [9, 9], "counts": [81]}] * 4
    root = place(tmp_path / "w", json.dumps(content))
    done = invoke("ytvis", root, tmp_path / "b")
    assert done.exit_code == 0, done.output
    records = rejects(tmp_path / "b")
    assert any(".." in r["reason"] for r in records)
    assert not bench.validate(tmp_path / "b").problems
    assert {c.provenance.video for c in bench.read(tmp_path / "b") if c.provenance} >= {"2"}


def _cut(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    ("source", "file", "message"),
    [
        ("ytvis", "train.json", r"w/train\.json: byte \d+: the file ends: "),
        ("ytvos", "train/meta.json", r"w/train/meta\.json: not valid JSON: "),
        ("davis", "x", r"w: folders JPEGImages and Annotations"),
        ("frames", "x", r"w: folders JPEGImages and Annotations"),
        ("mose", "x", r"w: folders JPEGImages and Annotations"),
        ("sav", "x", r"w: no file <video>_manual\.json"),
        ("sav_auto", "v_manual.json", r"w: no file <video>_auto\.json"),
        ("mot17", "x", r"w: no <sequence>/gt/gt\.txt"),
        ("video", "x", r"w: no video file"),
        ("burst", "train/train.json", r"w/train/train\.json: byte \d+: the file ends: "),
        ("tao", "annotations/train.json", r"w/annotations/train\.json: byte \d+: the file ends: "),
        (
            "coco",
            "annotations/instances_val2017.json",
            r"w/annotations/instances_val2017\.json: byte \d+: the file ends",
        ),
        ("coco", "x", r"w: no annotation file such as annotations/instances_train2017\.json"),
        ("vipseg", "x", r"w: folders imgs \(or images\) and panomasks"),
        ("mots", "x", r"w: no folder with gt/gt\.txt"),
        ("bdd100k", "x", r"w: folders images/track and labels/box_track_20"),
        ("lasot", "x", r"w: no folder with groundtruth\.txt"),
        ("vot", "x", r"w: no folder with groundtruth\.txt"),
        ("uav123", "x", r"w: folders anno/UAV123 and data_seq/UAV123"),
        ("oxuva", "x", r"w: annotations/dev\.csv and images/dev"),
        ("videocube", "x", r"w: the folder attribute/groundtruth is expected here"),
        ("trackingnet", "x", r"w: no <chunk>/anno/<sequence>\.txt"),
        ("wildtrack", "x", r"w: folders Image_subsets and annotations_positions"),
        ("sa1b", "x", r"w: no image <name>\.jpg with <name>\.json beside it"),
        ("reid", "x", r"w: folders such as bounding_box_train"),
    ],
)
def test_a_set_that_cannot_be_opened_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    source: str,
    file: str,
    message: str,
) -> None:
    for folder in ("JPEGImages", "Annotations"):
        if source == "ytvos":
            (tmp_path / "w/train" / folder).mkdir(parents=True)
    _cut(tmp_path / "w" / file, '{"videos": [{"id": 1, "file_names": ["a/1.jpg"]}], "annotations": []}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mmvm-data", "build", "--source", source, "--root", "w", "--out", "b"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.match(f"error: {message}", lines[0])
    assert not (tmp_path / "b").exists()


def test_a_json_file_cut_in_half_is_one_error(tmp_path: Path) -> None:
    text = json.dumps(ytvis(tmp_path / "w"))
    root = place(tmp_path / "w", text[: len(text) // 2])
    done = invoke("ytvis", root, tmp_path / "b")
    assert isinstance(done.exception, errors.InputError)
    assert "instances.json" in str(done.exception)
    assert not (tmp_path / "b/build.json").exists()


def test_a_folder_name_that_no_file_can_have_costs_its_sequence_alone(tmp_path: Path) -> None:
    davis(tmp_path / "w", videos=1, frames=5)
    for name, folder in (("MOT17-02-FRCNN", "img1"), ("MOT17-04-FRCNN", "a" * 300), ("MOT17-05-FRCNN", "a\0b")):
        sequence = tmp_path / "mot/train" / name
        (sequence / "gt").mkdir(parents=True)
        (sequence / "img1").mkdir()
        for f in range(5):
            shutil.copy(tmp_path / f"w/JPEGImages/480p/clip000/{f:05d}.jpg", sequence / f"img1/{f + 1:06d}.jpg")
        rows = [f"{f},{k},{1 + 30 * k},10,25,30,1,1,1" for f in range(1, 6) for k in range(1, 5)]
        (sequence / "gt/gt.txt").write_text("\n".join(rows))
        (sequence / "seqinfo.ini").write_text(f"[Sequence]\nimDir={folder}\n")
    done = invoke("mot17", tmp_path / "mot", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert {r["video"] for r in rejects(tmp_path / "b")} == {"MOT17-04-FRCNN", "MOT17-05-FRCNN"}
    videos = {case.provenance.video for case in bench.read(tmp_path / "b") if case.provenance}
    assert videos == {"MOT17-02-FRCNN"}


def masklets(root: Path) -> Path:
    """SA-V's layout over the images of a DAVIS tree, one annotation file cut, one with a mask of another size."""
    davis(root.with_name("w"), videos=3, frames=12)
    for v in range(3):
        name = f"clip{v:03d}"
        shutil.copytree(root.with_name("w") / "JPEGImages/480p" / name, root / name)
        rows = []
        for f in range(0, 12, 4):
            labels = np.array(Image.open(root.with_name("w") / f"Annotations/480p/{name}/{f:05d}.png"))
            coded = [coco.encode(np.asfortranarray(labels == k, dtype=np.uint8)) for k in range(1, 5)]
            rows.append([{"size": c["size"], "counts": c["counts"].decode()} for c in coded])
        if v == 1:
            rows[1][0]["size"] = [9, 9]
        text = json.dumps({"masklet_id": [0, 1, 2, 3], "masklet": rows})
        (root / f"{name}_manual.json").write_text(text[: len(text) // 2] if v == 0 else text)
    return root


def test_masklets_that_are_cut_or_of_another_size(tmp_path: Path) -> None:
    done = invoke("sav", masklets(tmp_path / "sav"), tmp_path / "b")
    assert done.exit_code == 0, done.output
    records = rejects(tmp_path / "b")
    faults = [(r["video"], r["file"], r["field"]) for r in records if r["file"]]
    assert sorted(faults) == [
        ("clip000", "clip000_manual.json", ""),
        ("clip001", "clip001_manual.json", "masklet[1][0]"),
    ]
    videos = {case.provenance.video for case in bench.read(tmp_path / "b") if case.provenance}
    assert videos == {"clip001", "clip002"}
    assert not bench.validate(tmp_path / "b").problems


@pytest.mark.parametrize(("source", "inner"), [("sav", ""), ("ytvis", ""), ("ytvis", "instances.json")])
def test_rejects_are_the_same_however_the_root_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, inner: str
) -> None:
    root = tmp_path / "in" / source
    if source == "sav":
        masklets(root)
    else:
        content = ytvis(root)
        content["videos"][0]["file_names"][1] = "../x.jpg"
        content["annotations"][5]["segmentations"] = [{"size": [9, 9], "counts": [81]}] * 4
        place(root, json.dumps(content))
    monkeypatch.chdir(tmp_path)
    records = []
    for k, folder in enumerate((tmp_path / "in", Path("in"), Path("../") / tmp_path.name / "in")):
        assert invoke(source, folder / source / inner, tmp_path / f"b{k}").exit_code == 0
        records.append(rejects(tmp_path / f"b{k}"))
    assert {r["file"] for r in records[0]} - {""} <= {"clip000_manual.json", "clip001_manual.json", "instances.json"}
    assert records[0] == records[1] == records[2]


@pytest.mark.parametrize("line", ["1,1,nan,5,9,9,1,1,1", "1,1,5,5,-9,9,1,1,1", "1,1,5", "x"])
def test_a_bad_line_of_boxes(tmp_path: Path, line: str) -> None:
    davis(tmp_path / "w", videos=1, frames=5)
    sequence = tmp_path / "mot/train/MOT17-02-FRCNN"
    (sequence / "gt").mkdir(parents=True)
    (sequence / "img1").mkdir()
    for f in range(5):
        shutil.copy(tmp_path / f"w/JPEGImages/480p/clip000/{f:05d}.jpg", sequence / f"img1/{f + 1:06d}.jpg")
    rows = [f"{f},{k},{1 + 30 * k},10,25,30,1,1,1" for f in range(1, 6) for k in range(1, 5)]
    (sequence / "gt/gt.txt").write_text("\n".join([*rows, line]) + "\n")
    done = invoke("mot17", tmp_path / "mot", tmp_path / "b", "--cases-per-video", "20")
    assert done.exit_code in (0, 3), done.output
    assert (done.exit_code == 3) == (not (tmp_path / "b/cases.jsonl").read_text())
    assert any("gt.txt" in r["file"] for r in rejects(tmp_path / "b"))
    assert not bench.validate(tmp_path / "b").problems

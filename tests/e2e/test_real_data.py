"""Real sources through the whole road, checked with libraries that the product does not use for it."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.types import Case, Frame
from mmvm_data.formats import bench
from mmvm_data.pipeline.build import BuildOptions, BuildResult, build

Truth = Callable[[Frame, str], np.ndarray]
"""Frame of the source and track -> bitmap, from the source's own files."""


def published_reader(item: dict) -> np.ndarray:
    """The rule of the published evaluator for one object of a case's JSON (DESIGN 3.1)."""
    outlines = [np.array(p) for p in item["segmentation"] if len(p) % 2 == 0 and len(p) >= 6]
    if not outlines:
        return np.zeros((item["height"], item["width"]), bool)
    layers = coco.decode(coco.frPyObjects(outlines, item["height"], item["width"])).sum(axis=2)
    return np.where(layers >= 2, 0, layers).astype(bool)


def made(source: str, root: Path, out: Path, **sampling: object) -> BuildResult:
    options = SamplingOptions(**{"cases_per_video": 6, "min_area": 150, "min_side": 6, **sampling})  # type: ignore[arg-type]
    return build(source, root, out, BuildOptions(sampling=options))


def checked(out: Path, truth: Truth) -> list[Case]:
    """Every case against the table, the images and the masks of the source."""
    report = bench.validate(out, deep=True)
    assert not report.problems
    table = pd.read_csv(out / "mllm_match_eval_full.tsv", sep="\t")
    cases = [Case.model_validate_json(line) for line in (out / "cases.jsonl").read_text().splitlines()]
    assert len(table) == len(cases) == report.cases > 0
    for (_, row), case in zip(table.iterrows(), cases, strict=True):
        assert case.provenance is not None
        first, last = case.provenance.frames
        paths = [out / p for p in ast.literal_eval(row.image_path)]
        query = json.loads(paths[0].with_suffix(".json").read_text())
        candidates = json.loads(paths[1].with_suffix(".json").read_text())
        assert (published_reader(query[0]) == truth(first, case.query[0].id)).all()
        assert [item["id"] for item in candidates] == list(range(1, len(candidates) + 1))
        for item, candidate in zip(candidates, case.candidates, strict=True):
            assert item["id"] == candidate.number
            assert (published_reader(item) == truth(last, candidate.region.id)).all()
        lines = dict(line.split(". ", 1) for line in row.choices.split("\n"))
        assert list(lines.values())[-1] == "None of the above choices are correct"
        assert row.question == row.pure_question + row.choices
        same = [c.number for c in case.candidates if c.region.id == case.query[0].id]
        assert lines[row.answer] == (str(same[0]) if same else "None of the above choices are correct")
    assert score(table, [row.answer for _, row in table.iterrows()]) == 1.0
    assert score(table, ["?"] * len(table)) == 0.0
    return cases


def score(table: pd.DataFrame, letters: list[str]) -> float:
    """Overall accuracy as DESIGN 6 states it: the mean of hits."""
    return float(np.mean([given == right for given, right in zip(letters, table.answer, strict=True)]))


def palette(folder: Path, single: bool = False) -> Truth:
    """Masks of a folder of PNGs <frame>.png, read by PIL."""

    def bitmap(frame: Frame, track: str) -> np.ndarray:
        labels = np.array(Image.open(folder / Path(frame.path).parent.name / f"{frame.index:05d}.png"))
        return labels == 255 if single else labels == int(track)

    return bitmap


def test_schoolgirls_from_its_png_tree(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "davis2017_schoolgirls_240p"
    result = made("davis", root, tmp_path / "b", cases_per_video=20)
    assert (result.cases, result.rejects) == (20, 0)
    cases = checked(tmp_path / "b", palette(root / "Annotations/240p"))
    for case in cases:
        assert case.provenance is not None
        for frame, written in zip(case.provenance.frames, case.frames, strict=True):
            assert (root / frame.path).read_bytes() == (tmp_path / "b" / written.path).read_bytes()


def test_schoolgirls_from_its_mp4(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "davis2017_schoolgirls_240p"
    result = made("video", root, tmp_path / "b", cases_per_video=8)
    assert (result.cases, result.rejects) == (8, 0)
    folder = root / "Annotations/240p/schoolgirls"
    cases = checked(tmp_path / "b", lambda f, t: np.array(Image.open(folder / f"{f.index:05d}.png")) == int(t))
    reader = cv2.VideoCapture(str(root / "schoolgirls.mp4"))
    frames = [reader.read()[1] for _ in range(80)]
    for case in cases:
        assert case.provenance is not None
        written = cv2.imread(str(tmp_path / "b" / case.frames[0].path)).astype(int)
        # JPEG at quality 95 of the frame that OpenCV's own decoder gives
        assert np.abs(written - frames[case.provenance.frames[0].index]).mean() < 3


def test_davis_2017(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "davis2017_interactive"
    result = made("davis", root, tmp_path / "b")
    assert result.cases > 0
    cases = checked(tmp_path / "b", palette(root / "DAVIS/Annotations/480p"))
    assert {case.provenance.video for case in cases if case.provenance} == {"tennis"}
    rejects = [json.loads(line) for line in (tmp_path / "b/rejects.jsonl").read_text().splitlines()]
    assert {"blackswan", "bear"} <= {r["video"] for r in rejects}


def test_davis_2016_has_one_object_a_video(realdata: Path, tmp_path: Path) -> None:
    root = realdata / "davis2016_val"
    assert made("davis2016", root, tmp_path / "none").cases == 0
    result = made("davis2016", root, tmp_path / "b", min_candidates=1)
    assert result.cases == 12
    cases = checked(tmp_path / "b", palette(root / "DAVIS/Annotations/480p", single=True))
    assert all(len(case.candidates) == 1 for case in cases)


def test_sav(realdata: Path, tmp_path: Path) -> None:
    root = tmp_path / "sav"
    shutil.copytree(realdata / "sav_train", root)
    rng = np.random.default_rng(0)
    folder = root / "sav_000001"
    folder.mkdir()
    texture = rng.integers(0, 255, (106, 60, 3), dtype=np.uint8)
    for index in range(0, 484, 4):
        picture = cv2.resize(np.roll(texture, index // 4, axis=1), (480, 848), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), picture)
    result = made("sav", root, tmp_path / "b")
    assert result.cases > 0
    manual = json.loads((root / "sav_000001_manual.json").read_text())

    def truth(frame: Frame, track: str) -> np.ndarray:
        column = manual["masklet_id"].index(int(track))
        return coco.decode(manual["masklet"][frame.index // 4][column]) == 1

    checked(tmp_path / "b", truth)


def mot_truth(root: Path, offset: float) -> Truth:
    """Filled rectangles of gt.txt, read by pandas."""

    def bitmap(frame: Frame, track: str) -> np.ndarray:
        sequence = root / Path(*Path(frame.path).parts[:-2])
        rows = pd.read_csv(sequence / "gt/gt.txt", header=None, skipinitialspace=True)
        row = rows[(rows[0] == frame.index) & (rows[1] == int(track))].iloc[0]
        x0, y0 = row[2] - offset, row[3] - offset
        filled = np.zeros((frame.height, frame.width), bool)
        filled[max(round(y0), 0) : round(y0 + row[5]), max(round(x0), 0) : round(x0 + row[4])] = True
        return filled

    return bitmap


def test_mot17(realdata: Path, tmp_path: Path) -> None:
    result = made("mot17", realdata / "mot17_mini", tmp_path / "b", min_area=400, min_side=12)
    assert result.cases > 6
    cases = checked(tmp_path / "b", mot_truth(realdata / "mot17_mini", 1))
    assert all(case.prompt == "box" and "bounding box" in case.question for case in cases)


def test_sportsmot(realdata: Path, tmp_path: Path) -> None:
    root = tmp_path / "sportsmot"
    shutil.copytree(realdata / "sportsmot_gt", root)
    assert made("sportsmot", root, tmp_path / "none").cases == 0
    picture = np.random.default_rng(1).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 30])
    for sequence in (root / "train").iterdir():
        (sequence / "img1").mkdir()
        for index in range(1, 31):
            (sequence / f"img1/{index:06d}.jpg").write_bytes(coded.tobytes())
    result = made("sportsmot", root, tmp_path / "b")
    assert result.cases == 12
    checked(tmp_path / "b", mot_truth(root, 0))


@pytest.mark.parametrize(("root", "videos"), [("aot_demo", 2), ("deva_examples/example/vos", 1)])
def test_sets_with_one_annotated_frame_say_so(realdata: Path, tmp_path: Path, root: str, videos: int) -> None:
    result = made("frames", realdata / root, tmp_path / "b")
    assert (result.cases, result.rejects) == (0, videos)
    rejects = [json.loads(line) for line in (tmp_path / "b/rejects.jsonl").read_text().splitlines()]
    assert all("two are needed" in r["reason"] for r in rejects)
    assert not bench.validate(tmp_path / "b").problems


def test_the_installed_command_without_torch(realdata: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'pandas', 'transformers', 'fiftyone', 'label_studio_sdk']))\n"
        "import mmvm_data.cli\n"
        "mmvm_data.cli.main()\n"
    )
    root = realdata / "davis2017_schoolgirls_240p"
    arguments = ["build", "--source", "davis", "--root", str(root), "--out", str(tmp_path / "b"), "--max-cases", "2"]
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)
    assert len(list((tmp_path / "b/match_bench").iterdir())) == 2

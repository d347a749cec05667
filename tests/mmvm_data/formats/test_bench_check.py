"""The check finds what is wrong, names it, and never stops."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.cases import prompts
from mmvm_data.core import masks
from mmvm_data.core.types import Candidate, Case, Frame, Provenance, Region
from mmvm_data.formats import bench, tsv

CASE = "match_bench/case_000000"
Change = Callable[[Path], None]


@pytest.fixture
def folder(cases: list[Case], root: Path, tmp_path: Path) -> Path:
    """A benchmark without a fault."""
    bench.write(cases, tmp_path / "bench", root)
    return tmp_path / "bench"


def _said(folder: Path, deep: bool = False) -> str:
    return "\n".join(f"{where}: {what}" for where, what in bench.validate(folder, deep=deep).problems)


def _cell(column: str, value: str, row: int = 0) -> Change:
    """Change one cell of the table."""

    def change(folder: Path) -> None:
        rows = [r.cells for r in tsv.read_rows(folder / bench.TSV)]
        rows[row][column] = value
        tsv.write_rows(rows, list(rows[0]), folder / bench.TSV)

    return change


def _json(name: str, edit: Callable[[Any], Any]) -> Change:
    """Change the content of a JSON file of the first case; ``edit`` changes it in place or returns another."""

    def change(folder: Path) -> None:
        path = folder / CASE / name
        content = json.loads(path.read_text())
        changed = edit(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return change


def _record(**update: Any) -> Change:
    """Change the first line of cases.jsonl."""

    def change(folder: Path) -> None:
        lines = (folder / bench.CASES).read_text().splitlines(keepends=True)
        case = Case.model_validate_json(lines[0]).model_copy(update=update)
        (folder / bench.CASES).write_text(case.model_dump_json() + "\n" + "".join(lines[1:]))

    return change


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-700])


def _repaint(path: Path, shape: tuple[int, int] = (0, 0)) -> None:
    image = cv2.imread(str(path))
    assert image is not None
    if shape != (0, 0):
        image = cv2.resize(image, shape)
    else:
        image[:] = cv2.blur(image, (9, 9))
    cv2.imwrite(str(path), image)


def _first_row_twice(folder: Path) -> None:
    rows = [r.cells for r in tsv.read_rows(folder / bench.TSV)]
    tsv.write_rows([rows[0], *rows], list(rows[0]), folder / bench.TSV)


LAST, QUERY = "FRAME01_CAND.json", "FRAME00.json"
NONE = "None of the above choices are correct"
FAULTS: dict[str, tuple[Change, str]] = {
    "drawn image missing": (lambda f: (f / CASE / "FRAME00.jpg").unlink(), "FRAME00.jpg: file cannot be read"),
    "original missing": (lambda f: (f / CASE / "FRAME01_ORI.jpg").unlink(), "FRAME01_ORI.jpg: file cannot be read"),
    "json missing": (lambda f: (f / CASE / LAST).unlink(), "FRAME01_CAND.json: file cannot be read"),
    "image cut": (lambda f: _cut(f / CASE / "FRAME00_ORI.jpg"), "FRAME00_ORI.jpg: JPEG is cut off"),
    "image of another size": (lambda f: _repaint(f / CASE / "FRAME01_ORI.jpg", (100, 50)), "image is 100 x 50"),
    "json is no json": (lambda f: (f / CASE / QUERY).write_text('[{"height"'), "FRAME00.json: not JSON"),
    "json is no list": (_json(QUERY, lambda c: {"a": 1}), "expected a list of objects, found dict"),
    "json is empty": (_json(LAST, lambda c: []), "list of objects is empty"),
    "height is text": (_json(QUERY, lambda c: c[0].update(height="240")), "height: expected a number of pixels"),
    "sizes differ": (_json(LAST, lambda c: [c[0], {**c[1], "height": 9, "rle": c[0]["rle"]}]), "differs from height"),
    "rle broken": (_json(QUERY, lambda c: c[0]["rle"].update(counts="0é")), "object 0: rle: counts are not in COCO's"),
    "rle too short": (_json(QUERY, lambda c: c[0]["rle"].update(counts="5")), "rle: runs cover"),
    "polygon moved": (
        _json(LAST, lambda c: c[0].update(segmentation=[[v + 1 for v in c[0]["segmentation"][0]]])),
        "object 0: polygons differ from rle in",
    ),
    "polygon twice": (_json(LAST, lambda c: c[0]["segmentation"].append(c[0]["segmentation"][0])), "polygons overlap"),
    "polygon odd": (_json(LAST, lambda c: c[0]["segmentation"].append([1, 2, 3])), "1 polygons of odd length"),
    "polygon of text": (_json(LAST, lambda c: c[0].update(segmentation=[["a"] * 6])), "expected a list of polygons"),
    "polygon infinite": (_json(LAST, lambda c: c[0].update(segmentation=[[1e400] * 6])), "expected a list of polygons"),
    "number twice": (_json(LAST, lambda c: c[0].update(id=2)), "numbers repeat: [2]"),
    "number unknown": (_json(LAST, lambda c: c[0].update(id=9)), "choices: numbers [1] are not among the candidates"),
    "candidate gone": (_json(LAST, lambda c: c[1:]), "candidates: is '7', the image has 6"),
    "number is text": (_json(LAST, lambda c: c[0].update(id="1")), "id: id '1' must be a number from 1"),
    "number not offered": (_cell("choices", f"A. 1\nB. 2\nC. {NONE}"), "candidates [3, 4, 5, 6, 7] are not offered"),
    "letter unknown": (_cell("answer", "Q"), "answer: 'Q' is not one of A, B"),
    "letter changed": (_cell("answer", "A"), "answer: differs: cases.jsonl has 2, table and folder 1"),
    "answer none": (_cell("answer", "H"), "answer: is none, but track ['2'] of the query is a candidate"),
    "none not last": (_cell("choices", f"A. {NONE}\nB. 2\nC. 1"), "the last option must be"),
    "no none": (_cell("choices", "A. 1\nB. 2"), "the last option must be"),
    "question": (_cell("pure_question", "Which one? \n"), "pure_question: is not the official question"),
    "question and parts": (_cell("question", "Which?"), "question: is not pure_question followed by choices"),
    "question of boxes": (_cell("prompt", "box"), "is not the official question"),
    "head": (_cell("choices_head", "A, B"), "choices_head: is 'A, B', the letters are"),
    "types": (_cell("match_type", "[1, 9]"), "match_type: expected numbers from 1 to 8"),
    "types unparsable": (_cell("match_type", "exit()"), "match_type: expected a list"),
    "types huge": (_cell("match_type", "[0x" + "f" * 5000 + "]"), "match_type: expected numbers from 1 to 8, found a"),
    "types missing": (_cell("match_type", ""), "match_type: is missing"),
    "paths unparsable": (_cell("image_path", "[1"), "image_path: expected a list"),
    "path leaves": (_cell("image_path", "['../a/FRAME00.jpg', '../a/FRAME01_CAND.jpg']"), "must be relative"),
    "v3 elsewhere": (_cell("image_path_v3", "['match_bench/x.jpg', 'match_bench/y.jpg']"), "image_path_v3: missing"),
    "v3 leaves": (_cell("image_path_v3", "['/x.jpg', 'y.jpg']"), "image_path_v3: path '/x.jpg' must be relative"),
    "index gap": (_cell("index", "7", row=1), "index: 7 follows 0"),
    "index twice": (_cell("index", "1", row=2), "index: '1' occurs twice"),
    "row twice": (_first_row_twice, "case has a second row"),
    "case id": (_cell("case_id", "x"), "case_id: is 'x', the folder 'case_000000'"),
    "source": (_cell("source", "mose"), "source: differs: cases.jsonl has 'davis', table 'mose'"),
    "gap": (_cell("gap", "7"), "gap: differs: cases.jsonl has '20', table '7'"),
    "track": (_json(LAST, lambda c: c[4].update(track="9")), "candidates differ between cases.jsonl and the JSON"),
    "category": (_json(QUERY, lambda c: c[0].update(category="cat")), "query differs between cases.jsonl and the JSON"),
    "record: answer": (_record(answer=None), "answer: differs: cases.jsonl has None"),
    "record: types": (_record(match_types=(8,)), "match_types: differs: cases.jsonl has (8,)"),
    "record: name": (_record(id="case_9"), "has no line in cases.jsonl"),
    "record without row": (_record(id="case_9"), "case 'case_9' has no row in the table"),
    "record broken": (lambda f: (f / bench.CASES).write_text("{}\n"), "cases.jsonl: line 1: not a case record"),
    "folder without row": (lambda f: shutil.copytree(f / CASE, f / "match_bench/x"), "match_bench/x: no row"),
    "table missing": (lambda f: (f / bench.TSV).unlink(), "file cannot be read"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_reported_and_the_check_continues(folder: Path, name: str) -> None:
    change, message = FAULTS[name]
    assert _said(folder) == ""
    change(folder)
    report = bench.validate(folder)
    said = _said(folder)
    assert message in said, said
    assert report.cases == {"row twice": 5, "table missing": 0}.get(name, 4)
    if name not in ("table missing", "record broken", "folder without row"):
        others = [p for p in report.problems if "case_000003" in p.where]
        assert others == []


def test_boxes_have_the_pixels_of_their_polygons(folder: Path) -> None:
    path = folder / "match_bench/case_000001" / LAST
    items = json.loads(path.read_text())
    items[1]["bbox"][0] += 3
    path.write_text(json.dumps(items))
    assert f"case_000001/{LAST}: object 1: has no bbox that its pixels fill" in _said(folder)


def test_37_candidates_pass(tmp_path: Path) -> None:
    height, width = 240, 320
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / "a.png")
    regions = []
    for k in range(37):
        pixels = np.zeros((height, width), np.uint8)
        pixels[5 + 32 * (k // 6) : 25 + 32 * (k // 6), 8 + 50 * (k % 6) : 40 + 50 * (k % 6)] = 1
        pixels[15 + 32 * (k // 6), 12 + 50 * (k % 6)] = 0
        regions.append(Region(id=str(k), mask=masks.encode(pixels)))
    case = Case(
        id="case_000000",
        frames=tuple(Frame(path="a.png", index=k, width=width, height=height) for k in range(2)),
        query=(regions[3],),
        candidates=tuple(Candidate(number=k, region=region) for k, region in enumerate(regions, 1)),
        answer=4,
        question=prompts.format_question(),
        options=prompts.build_options(range(1, 38), 4),
    )
    bench.write([case], tmp_path / "bench", tmp_path)
    assert _said(tmp_path / "bench", deep=True) == ""
    (tmp_path / "bench" / bench.CASES).unlink()
    assert _said(tmp_path / "bench") == ""
    assert next(bench.read(tmp_path / "bench")).candidates == case.candidates


def test_marks_are_compared_when_asked(folder: Path) -> None:
    assert _said(folder, deep=True) == ""
    last = folder / CASE / "FRAME01_CAND.jpg"
    shutil.copy(folder / CASE / "FRAME01_ORI.jpg", last)
    assert _said(folder) == ""
    assert "FRAME01_CAND.jpg: marks differ" in _said(folder, deep=True)
    shutil.copy(folder / "match_bench/case_000003/FRAME01_CAND.jpg", last)
    assert "FRAME01_CAND.jpg: marks differ" in _said(folder, deep=True)


def test_candidates_are_counted(folder: Path, cases: list[Case]) -> None:
    path = folder / CASE / LAST
    items = json.loads(path.read_text())
    path.write_text(json.dumps([{**items[0], "id": n} for n in range(1, 39)]))
    assert "38 candidates, expected 1 to 37" in _said(folder)


def test_an_index_of_any_length_is_text(folder: Path) -> None:
    _cell("index", "9" * 5000, row=3)(folder)
    assert bench.validate(folder).cases == 4


def test_problems_come_in_the_order_of_the_table(folder: Path) -> None:
    for name in ("case_000002", "case_000000", "case_000001"):
        (folder / "match_bench" / name / "FRAME00.jpg").unlink()
    where = [problem.where[:11] for problem in bench.validate(folder).problems]
    assert where == ["case_000000", "case_000001", "case_000002"]
    assert bench.validate(folder) == bench.validate(folder)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cases of small images, quick to check many times."""
    base = tmp_path_factory.mktemp("tiny")
    random = np.random.default_rng(0)
    cases = []
    for number in range(2):
        frames = []
        for k in range(2):
            cv2.imwrite(str(base / f"{number}_{k}.png"), random.integers(0, 256, (20, 24, 3), np.uint8))
            frames.append(Frame(path=f"{number}_{k}.png", index=k, width=24, height=20))
        regions = []
        for k in range(3):
            pixels = np.zeros((20, 24), np.uint8)
            pixels[2 + 5 * k : 6 + 5 * k, 3:12] = 1
            regions.append(Region(id=str(k), mask=masks.encode(pixels)))
        candidates = tuple(Candidate(number=k + 1, region=r) for k, r in enumerate(regions))
        cases.append(
            Case(
                id=f"case_{number:06d}",
                frames=tuple(frames),
                query=(regions[1],),
                candidates=candidates,
                answer=2,
                question=prompts.format_question(),
                options=prompts.build_options([1, 2, 3], 2),
                provenance=Provenance(
                    source="s", video="v", frames=tuple(frames), tracks=("1",), seed=0, ordinal=0, gap=1
                ),
            )
        )
    bench.write(cases, base / "bench", base)
    assert bench.validate(base / "bench", deep=True).problems == []
    return base / "bench"


@settings(max_examples=150)
@given(st.data())
def test_mutated_json_never_stops_the_check(tiny: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bench"
        shutil.copytree(tiny, folder)
        file = folder / data.draw(st.sampled_from([f"{CASE}/{LAST}", f"{CASE}/{QUERY}", bench.CASES]))
        lines = file.read_text().split("\n")
        content = json.loads(lines[0])
        node, path = content, []
        while isinstance(node, (dict, list)) and node and (not path or data.draw(st.integers(0, 3))):
            path.append(data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node)))))
            parent, node = node, node[path[-1]]
        if data.draw(st.booleans()):
            parent[path[-1]] = data.draw(json_values)
        else:
            del parent[path[-1]]
        lines[0] = json.dumps(content)
        file.write_text("\n".join(lines))
        report = bench.validate(folder, deep=data.draw(st.booleans()))
        assert report.cases == 2
        assert all(isinstance(p.where, str) and isinstance(p.what, str) for p in report.problems)
        problems: list[bench.Problem] = []
        for case in bench.read(folder, problems):
            Case.model_validate_json(case.model_dump_json())


@settings(max_examples=150)
@given(st.data())
def test_mutated_tables_never_stop_the_check(tiny: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "bench"
        shutil.copytree(tiny, folder)
        table = folder / bench.TSV
        if data.draw(st.booleans()):
            rows = [r.cells for r in tsv.read_rows(table)]
            column = data.draw(st.sampled_from(list(rows[0])))
            value = data.draw(
                st.text(st.characters(codec="utf-8"), max_size=12)
                | st.sampled_from(
                    ["[]", "[[]]", "['a','b']", "['a/b.','a/.c']", "[1, 1, True]", "9" * 5000, "A.\n.", "-1"]
                )
            )
            rows[0][column] = value
            with open(table, "w", encoding="utf-8", newline="") as handle:
                writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
                writer.writeheader()
                writer.writerows(rows)
        else:
            content = bytearray(table.read_bytes())
            at = data.draw(st.integers(0, len(content) - 1))
            content[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=6))
            table.write_bytes(bytes(content))
        report = bench.validate(folder)
        assert all(isinstance(p.where, str) and isinstance(p.what, str) for p in report.problems)
        (folder / bench.CASES).unlink()
        bench.validate(folder)

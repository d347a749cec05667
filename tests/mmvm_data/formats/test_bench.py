"""Writing and reading benchmarks, with the published evaluator's rules written out as the judge."""

from __future__ import annotations

import ast
import csv
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from mmvm_data.cases import prompts, render
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, Region
from mmvm_data.formats import bench, tsv


def _original_reader(item: dict[str, Any]) -> np.ndarray:
    """A mask as the published evaluator sees it."""
    pieces = [np.array(p) for p in item["segmentation"] if len(p) % 2 == 0 and len(p) >= 6]
    if not pieces:
        return np.zeros((item["height"], item["width"]), bool)
    summed = coco.decode(coco.frPyObjects(pieces, item["height"], item["width"])).sum(axis=2)
    return np.where(summed >= 2, 0, summed).astype(bool)


def _bitmap(region: Region, height: int, width: int) -> np.ndarray:
    rle = region.mask or masks.from_box(region.box, height, width)  # type: ignore[arg-type]
    return masks.decode(rle).astype(bool)


def test_the_evaluator_finds_every_file_and_every_mask(cases: list[Case], root: Path, tmp_path: Path) -> None:
    assert bench.write(cases, tmp_path, root) == 4
    table = pd.read_csv(tmp_path / bench.TSV, sep="\t")
    assert list(table.columns[:10]) == list(bench.PUBLISHED) and len(table) == 4
    for (_, row), case in zip(table.iterrows(), cases, strict=True):
        paths = ast.literal_eval(row["image_path"])
        assert row["image_path_v3"] == row["image_path"] and row["question_v3"] == row["question"]
        assert len(paths) == len(case.frames)
        for position, path in enumerate(paths):
            name = os.path.basename(path)
            original = tmp_path / os.path.dirname(path) / (name[: len("FRAME00")] + "_ORI." + name.split(".")[-1])
            assert original.read_bytes() == (root / case.frames[position].path).read_bytes()
            items = json.loads((tmp_path / (".".join(path.split(".")[:-1]) + ".json")).read_text())
            assert Image.open(tmp_path / path).size == (items[0]["width"], items[0]["height"])
            if position < len(paths) - 1:
                regions = {1: case.query[position]}
            else:
                regions = {c.number: c.region for c in case.candidates}
            assert [item["id"] for item in items] == list(regions)
            for item in items:
                expected = _bitmap(regions[item["id"]], item["height"], item["width"])
                assert np.array_equal(_original_reader(item), expected)
                assert item["track"] == regions[item["id"]].id
                if "rle" in item:
                    assert np.array_equal(coco.decode(item["rle"]).astype(bool), expected)
                else:
                    assert tuple(item["bbox"]) == regions[item["id"]].box
        assert row["question"] == prompts.format_question(case.prompt) + row["choices"]
        assert row["choices_head"] == ", ".join(line[0] for line in row["choices"].split("\n"))


def test_drawn_images_show_the_marks(cases: list[Case], root: Path, tmp_path: Path) -> None:
    bench.write(cases[:1], tmp_path, root)
    case, folder = cases[0], tmp_path / "match_bench/case_000000"
    for position, name in enumerate(("FRAME00.jpg", "FRAME01_CAND.jpg")):
        clean = np.asarray(Image.open(root / case.frames[position].path).convert("RGB"))
        if position == 0:
            expected = render.draw_query(clean, masks.decode(case.query[0].mask))  # type: ignore[arg-type]
        else:
            expected = render.draw_candidates(
                clean,
                [_bitmap(c.region, *clean.shape[:2]) for c in case.candidates],
                [c.number for c in case.candidates],
                render.distinct_colors(len(case.candidates) + 1),
            )
        shown = np.asarray(Image.open(folder / name).convert("RGB")).astype(int)
        marked = (expected != clean).any(axis=2)
        assert np.abs(shown - expected)[marked].mean() < 30 < 60 < np.abs(shown - clean)[marked].mean()


def test_a_scorer_of_the_design_gives_right_letters_full_marks(cases: list[Case], root: Path, tmp_path: Path) -> None:
    """Overall is the mean of hits, and a case counts in each of its types."""
    bench.write(cases, tmp_path, root)
    table = pd.read_csv(tmp_path / bench.TSV, sep="\t")

    def score(answers: list[str]) -> tuple[float, dict[int, float]]:
        hits = [given == right for given, right in zip(answers, table["answer"], strict=True)]
        types: dict[int, list[bool]] = {}
        for hit, cell in zip(hits, table["match_type"], strict=True):
            for kind in ast.literal_eval(cell):
                types.setdefault(kind, []).append(hit)
        return sum(hits) / len(hits), {kind: sum(found) / len(found) for kind, found in types.items()}

    right = []
    for case in cases:
        lines = prompts.format_choices(case.options).split("\n")
        wanted = str(case.answer) if case.answer is not None else prompts.NONE_TEXT
        right.append(next(line.split(".", 1)[0] for line in lines if line.split(".", 1)[1].strip() == wanted))
    assert score(right) == (1.0, {1: 1.0, 5: 1.0})
    assert score(["Z", *right[1:]]) == (0.75, {1: 2 / 3, 5: 2 / 3})


def test_written_cases_are_read_back(cases: list[Case], root: Path, tmp_path: Path) -> None:
    bench.write(cases, tmp_path, root)
    back = list(bench.read(tmp_path))
    for case, read in zip(cases, back, strict=True):
        same = case.model_dump() | {"frames": None}
        assert read.model_dump() | {"frames": None} == same
        assert [f.path for f in read.frames] == [
            f"match_bench/{case.id}/FRAME{k:02d}_ORI.jpg" for k in range(len(case.frames))
        ]
    (tmp_path / bench.CASES).unlink()
    problems: list[bench.Problem] = []
    from_table = list(bench.read(tmp_path, problems))
    assert problems == []
    for case, read in zip(cases, from_table, strict=True):
        for name in ("id", "query", "candidates", "answer", "prompt", "question", "options", "match_types"):
            assert getattr(read, name) == getattr(case, name), name
        assert [(f.width, f.height) for f in read.frames] == [(f.width, f.height) for f in case.frames]
        assert read.extra["source"] == "davis"


def test_the_same_bytes_twice_and_over_itself(cases: list[Case], root: Path, tmp_path: Path) -> None:
    def tree(folder: Path) -> dict[str, bytes]:
        return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}

    bench.write(cases, tmp_path / "a", root)
    bench.write(bench.read(tmp_path / "a"), tmp_path / "b", root=tmp_path / "a")
    before = tree(tmp_path / "b")
    assert before == tree(tmp_path / "a")
    bench.write(bench.read(tmp_path / "b"), tmp_path / "b")
    assert tree(tmp_path / "b") == before
    assert sorted(p.name for p in (tmp_path / "b/match_bench").iterdir()) == [case.id for case in cases]


def test_cases_know_where_their_images_are(cases: list[Case], root: Path, tmp_path: Path) -> None:
    """Two folders, by name alone, and cases held in between as a filter would hold them."""
    first, second, third = (str(tmp_path / name) for name in "abc")
    bench.write(cases, first, str(root))
    held = list(bench.read(first))
    assert {case.root for case in held} == {Path(first)}
    assert bench.write([pickle.loads(pickle.dumps(case)) for case in held[1:]], second) == 3
    assert list(bench.read(second)) == held[1:]  # where a case lies is no part of it
    assert "root" not in held[0].model_dump() and held[0].model_copy(update={"answer": None}).root == Path(first)
    os.unlink(f"{first}/{bench.CASES}")
    bench.write(bench.read(first), third)
    assert bench.validate(second, True).problems == bench.validate(third, True).problems == []


def test_other_images_are_encoded(cases: list[Case], png_root: Path, tmp_path: Path) -> None:
    bench.write(cases[:1], tmp_path / "out", png_root)
    original = tmp_path / "out/match_bench/case_000000/FRAME00_ORI.jpg"
    assert original.read_bytes().startswith(b"\xff\xd8\xff")
    assert Image.open(original).size == (cases[0].frames[0].width, cases[0].frames[0].height)
    assert bench.validate(tmp_path / "out", deep=True).problems == []


def test_known_outlines_are_written_as_they_are(schoolgirls: Callable[..., Case]) -> None:
    case = schoolgirls()
    outlines = [
        [masks.to_polygons(region.mask)] if k == 0 else [masks.to_polygons(c.region.mask) for c in case.candidates]
        for k, region in enumerate([case.query[0], case.query[0]])
        if region.mask
    ]
    for position, known in enumerate(outlines):
        assert bench.describe_objects(case, position, known) == bench.describe_objects(case, position)
    square = [0.0, 0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0]
    [query] = json.loads(bench.describe_objects(case, 0, [[square]]))
    assert query["segmentation"] == [square]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\nb", "it's"])
def test_ids_that_are_no_folder(schoolgirls: Callable[..., Case], root: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no name for a folder"):
        bench.write([schoolgirls(name)], tmp_path / "out", root)
    assert not (tmp_path / "out" / bench.TSV).exists()


def test_what_stops_writing(schoolgirls: Callable[..., Case], root: Path, tmp_path: Path) -> None:
    case = schoolgirls()
    with pytest.raises(InputError, match="repeats"):
        bench.write([case, case], tmp_path / "out", root)
    with pytest.raises(InputError, match="cannot be read"):
        bench.write([case], tmp_path / "out2", tmp_path)
    empty = masks.encode(np.zeros((case.frames[1].height, case.frames[1].width), np.uint8))
    hollow = case.candidates[0].model_copy(update={"region": Region(id="x", mask=empty)})
    with pytest.raises(InputError, match="candidate 1 has no pixels"):
        bench.write([case.model_copy(update={"candidates": (hollow, *case.candidates[1:])})], tmp_path / "out3", root)
    many = case.model_copy(update={"frames": case.frames[:1] * 101, "query": case.query * 100})
    with pytest.raises(InputError, match="101 images"):
        bench.write([many], tmp_path / "out4", root)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        bench.write([case], tmp_path / "file", root)


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@example(['lone\rreturn "quoted"\tand\r\nmore', "\n"], [1, 2, 3], "NA", "\r")
@given(st.lists(text, min_size=1, max_size=4), st.permutations(range(1, 9)), text, text)
def test_any_text_survives_the_table(words: list[str], types: list[int], source: str, video: str) -> None:
    import tempfile

    region = Region(id="1", box=(0, 0, 2, 2))
    base: dict[str, Any] = {
        "frames": [{"path": "a.jpg", "index": 0, "width": 4, "height": 4}] * 2,
        "query": [region],
        "candidates": [{"number": n, "region": region} for n in (1, 2)],
        "options": prompts.build_options([1, 2], 2),
        "match_types": types[:3],
    }
    cases = [Case(id=word, answer=2, question=word, extra={"source": source, "video": video}, **base) for word in words]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "t.tsv"
        bench.write_tsv(cases, path)
        rows = [row.cells for row in tsv.read_rows(path)]
        table = pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)
        tsv.write_lines(map(tsv.format_row, cases), Path(name) / "lines.tsv")
        assert (Path(name) / "lines.tsv").read_bytes() == path.read_bytes()
    for index, (case, row) in enumerate(zip(cases, rows, strict=True)):
        expected = {key: str(value) for key, value in bench.tsv_row(case, index).items()}
        assert row == expected
        assert dict(table.iloc[index]) == expected
        short = bench.TableRecord.model_validate_json(case.model_dump_json())
        assert bench.tsv_row(short, index) == bench.tsv_row(case, index)
        assert ast.literal_eval(row["match_type"]) == types[:3]


# a miniature of the published set, with what trips readers of it


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """No cases.jsonl, no rle, no second version; odd polygons; a case of three images, and one of a broken type."""
    rows = []
    for number, (name, frames, types) in enumerate(
        [("case_0285_inst_1358", 2, "[1, 5]"), ("case_0007", 3, "[2]"), ("case_0008", 2, "1 and 5")]
    ):
        folder = tmp_path / "match_bench" / name
        folder.mkdir(parents=True)
        paths = []
        for k in range(frames):
            stem = f"FRAME{k:02d}{'_CAND' if k == frames - 1 else ''}"
            paths.append(f"match_bench/{name}/{stem}.jpg")
            pixels = np.random.default_rng(k).integers(0, 256, (24, 30, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{stem}.jpg", quality=95)
            Image.fromarray(pixels).save(folder / f"FRAME{k:02d}_ORI.jpg", quality=95)
            square, far = [2, 2, 10, 2, 10, 10, 2, 10], [12.5, 3, 20, 3, 20, 15.5]
            items = [{"height": 24, "width": 30, "id": 77, "segmentation": [square]}]
            if k == frames - 1:
                items = [
                    {"height": 24, "width": 30, "id": 2, "segmentation": [square, [1, 2, 3], [1, 2, 3, 4], [0] * 7]},
                    {"height": 24, "width": 30, "id": 1, "segmentation": [far, [15, 3, 24, 3, 24, 9, 15, 9]]},
                ]
            (folder / f"{stem}.json").write_text(json.dumps(items))
        choices = "A. 1\nB. 2\nC. None of the above choices are correct"
        rows.append(
            {
                "index": name if number == 0 else f"case_{number}",
                "image_path": repr(paths),
                "question": prompts.format_question() + choices,
                "pure_question": prompts.format_question(),
                "choices": choices,
                "choices_head": "A, B, C",
                "answer": "B",
                "match_type": types,
                "annotator": "someone",
            }
        )
    with open(tmp_path / bench.TSV, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def test_the_published_set_is_read_without_guessing(original: Path) -> None:
    problems: list[bench.Problem] = []
    cases = list(bench.read(original, problems))
    assert [case.id for case in cases] == ["case_0285_inst_1358", "case_0007", "case_0008"]
    assert [len(case.frames) for case in cases] == [2, 3, 2]
    assert [case.match_types for case in cases] == [(1, 5), (2,), ()]
    assert cases[2].extra["match_type"] == "1 and 5" and cases[0].extra["annotator"] == "someone"
    for case in cases:
        assert case.answer == 2 and case.letter == "B"
        assert [c.number for c in case.candidates] == [1, 2]
        assert {region.id for region in case.query} == {case.candidates[1].region.id}
        folder = original / "match_bench" / case.id
        file = folder / f"FRAME{len(case.frames) - 1:02d}_CAND.json"
        for item in json.loads(file.read_text()):
            region = next(c.region for c in case.candidates if c.number == item["id"])
            assert region.mask and np.array_equal(masks.decode(region.mask).astype(bool), _original_reader(item))
    said = "\n".join(f"{where}: {what}" for where, what in problems)
    assert "columns are missing: image_path_v3, question_v3" in said
    assert said.count("3 polygons of odd length or under 6 values") == 3
    assert "match_type: expected a list such as [1, 5], found '1 and 5'" in said
    assert len(problems) == 5
    assert len(list(bench.read(original))) == 3


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_table_saved_elsewhere_is_read_the_same(original: Path, mark: bytes, end: bytes) -> None:
    """A byte-order mark, and line ends of another system inside the cells too."""
    before = list(bench.read(original))
    path = original / bench.TSV
    path.write_bytes(mark + path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", end))
    after = list(bench.read(original))
    for old, new in zip(before, after, strict=True):
        assert (new.options, new.answer, new.candidates) == (old.options, old.answer, old.candidates)
        assert new.question.split() == old.question.split() and new.extra["index"] == old.extra["index"]


def test_a_tight_box_beside_a_mask_makes_no_box_of_it(original: Path) -> None:
    """Annotations in COCO's style have both; the pixels are those of the polygons."""
    before = {case.id: case for case in bench.read(original)}
    for file in original.glob("match_bench/*/*.json"):
        items = json.loads(file.read_text())
        for item in items:
            ys, xs = np.nonzero(_original_reader(item))
            box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            item |= {"bbox": [int(v) for v in box], "area": len(xs), "iscrowd": 0}
        file.write_text(json.dumps(items))
    for case in bench.read(original):
        assert case.prompt == "mask" and case.candidates[0] == before[case.id].candidates[0]
        for ours, theirs in zip(case.candidates, before[case.id].candidates, strict=True):
            assert np.array_equal(_bitmap(ours.region, 24, 30), _bitmap(theirs.region, 24, 30))


def test_the_published_set_written_again_is_valid(original: Path, tmp_path: Path) -> None:
    bench.write(bench.read(original), tmp_path / "new", root=original)
    assert bench.validate(tmp_path / "new", deep=True).problems == []


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("answer", "D", "answer: 'D' is not one of A, B, C"),
        ("answer", "", "answer: '' is not one of A, B, C"),
        ("choices", "A. 1\nB. 2", "choices: the last option must be"),
        ("choices", "A. 1\nB two\nC. None of the above choices are correct", "choices: 'B two' is no option"),
        ("choices", "A. 1\nA. 2\nC. None of the above choices are correct", "choices: letters or numbers repeat"),
        ("image_path", "['match_bench/../../x/FRAME00.jpg', 'b']", "must be relative and stay inside"),
        ("image_path", "['/etc/FRAME00.jpg', '/etc/FRAME01_CAND.jpg']", "must be relative and stay inside"),
        ("image_path", "__import__('os').listdir('.')", "image_path: expected a list"),
        ("image_path", "['match_bench/a/FRAME00.jpg']", "image_path: expected two or more paths"),
        ("image_path", "['match_bench/a/FRAME00.jpg', 'match_bench/b/FRAME01_CAND.jpg']", "in different folders"),
        ("image_path", "['match_bench/a/FRAME00.jpg', 'match_bench/a/FRAME01_CAND.jpg']", "file cannot be read"),
        ("image_path", "(" * 500, "image_path: expected a list"),
    ],
)
def test_rows_that_make_no_case(original: Path, column: str, value: str, message: str) -> None:
    table = pd.read_csv(original / bench.TSV, sep="\t", dtype=str)
    table.loc[1, column] = value
    table.to_csv(original / bench.TSV, sep="\t", index=False)
    with pytest.raises(InputError) as caught:
        list(bench.read(original))
    assert message in str(caught.value)
    problems: list[bench.Problem] = []
    assert [case.id for case in bench.read(original, problems)] == ["case_0285_inst_1358", "case_0008"]
    found = [p for p in problems if message in f"{p.where}: {p.what}"]
    assert len(found) == 1 and "line 9" in found[0].where  # rows before it hold line breaks
    # the check says so too, and goes on
    report = bench.validate(original)
    assert report.cases == 3 and any(message.rpartition(": ")[2] in p.what for p in report.problems)


def test_tables_that_cannot_be_read(original: Path) -> None:
    path = original / bench.TSV
    whole = path.read_bytes()
    for content, message in [
        (b"", "table is empty"),
        (b"a\xff\tb\n", "table cannot be read"),
        (b"index\tquestion\n1\tx\n", "columns are missing: image_path, choices, answer"),
        (b"index\tindex\n1\t2\n", "columns repeat: index"),
        (whole + b"only one cell\n", "has 1 cells, expected 9"),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match=message):
            list(bench.read(original))
        assert any(message in p.what for p in bench.validate(original).problems), message
    shutil.rmtree(original / "match_bench")
    path.unlink()
    with pytest.raises(InputError, match="holds no benchmark"):
        list(bench.read(original))
    assert bench.validate(original).cases == 0


def test_broken_records(cases: list[Case], root: Path, tmp_path: Path) -> None:
    bench.write(cases, tmp_path, root)
    lines = (tmp_path / bench.CASES).read_bytes().splitlines(keepends=True)
    (tmp_path / bench.CASES).write_bytes(lines[0] + b"{half\n" + lines[2])
    with pytest.raises(InputError, match="line 2: not a case record"):
        list(bench.read(tmp_path))
    problems: list[bench.Problem] = []
    assert [case.id for case in bench.read(tmp_path, problems)] == ["case_000000", "case_000002"]
    assert problems[0].where == "cases.jsonl: line 2"


def test_records_of_other_ids_are_left_out(cases: list[Case], root: Path, tmp_path: Path) -> None:
    bench.write(cases, tmp_path, root)
    first, second, third, fourth = (json.loads(line) for line in (tmp_path / bench.CASES).read_text().splitlines())
    del first["query"]  # not wanted, and its id is at the start
    moved = {key: third[key] for key in sorted(third)}  # its id is further back
    records = [json.dumps(record, separators=(",", ":")) for record in (first, second, moved, fourth)]
    (tmp_path / bench.CASES).write_text("\n".join(records) + "\n")
    wanted = {second["id"], third["id"]}
    assert [case.id for case in bench.read(tmp_path, ids=wanted)] == [second["id"], third["id"]]
    assert [case.id for case in bench.read(tmp_path, ids={fourth["id"]})] == [fourth["id"]]
    assert list(bench.read(tmp_path, ids=())) == []
    with pytest.raises(InputError, match="line 1"):
        list(bench.read(tmp_path, ids={first["id"]}))

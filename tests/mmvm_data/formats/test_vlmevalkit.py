"""The newer protocol, read back by its own rules."""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import io
import runpy
import sys
import types
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, vlmevalkit


@pytest.fixture
def folder(cases: list[Case], root: Path, tmp_path: Path) -> Path:
    """A written benchmark."""
    bench.write(cases, tmp_path / "bench", root)
    return tmp_path / "bench"


def test_rows_are_what_the_kit_reads(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "vlm.tsv"
    vlmevalkit.write(bench.read(folder), folder, path)
    table = pd.read_csv(path, sep="\t")
    cases = list(bench.read(folder))
    assert list(table["index"]) == [0, 1, 2, 3] and len(table) == len(cases)
    for (_, row), case in zip(table.iterrows(), cases, strict=True):
        images = [str(x) for x in ast.literal_eval(row["image"])]
        names = ast.literal_eval(row["image_path"])
        assert len(images) == len(names) == len(case.frames) and len(set(names)) == len(names)
        for text, name, frame in zip(images, names, case.frames, strict=True):
            assert len(text) > 64
            data = base64.b64decode(text)
            assert Image.open(io.BytesIO(data)).size == (frame.width, frame.height)
            assert name.endswith(".png"), "the kit encodes an image again in the format of its name"
            drawn, _, digest = name.removeprefix(f"{case.id}_").removesuffix(".png").rpartition("_")
            assert digest == hashlib.sha256(data).hexdigest()[:12], "the kit keeps images of a name that it has"
            assert data == (folder / "match_bench" / case.id / f"{drawn}.jpg").read_bytes()
        assert "contour" in row["question"] or "bounding box" in row["question"]
        assert "options" not in row["question"] and "A. 1" not in row["question"]
        assert ast.literal_eval(row["match_type"]) == list(case.match_types)
        # the judge's prompt adds strings
        answer = f'"{case.answer}"' if case.answer else vlmevalkit.NONE_TEXT
        assert ("{" + row["answer"] + "}") == "{" + answer + "}"


def test_answers_that_are_all_numbers_stay_text(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "vlm.tsv"
    vlmevalkit.write((case for case in bench.read(folder) if case.answer), folder, path)
    assert all(isinstance(answer, str) for answer in pd.read_csv(path, sep="\t")["answer"])


# Python 3.10's csv writes no NUL character
_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(_TEXT | st.integers().map(str) | st.sampled_from(["nan", "NULL", "1e9", "-inf", "<NA>", "TRUE"]))
def test_quoted_cells_are_read_as_text(text: str) -> None:
    cell = vlmevalkit.quote_cell(text)
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([["cell"], [cell], [cell]])
    read = pd.read_csv(io.StringIO(buffer.getvalue()))["cell"]
    if text.strip():
        assert all(isinstance(value, str) for value in read)
        assert vlmevalkit.unquote_cell(cell) == (text.strip() if cell != text else vlmevalkit.unquote_cell(text))


@pytest.mark.parametrize("suffix", [".tsv", ".xlsx"])
def test_the_plugin_scores_as_the_kit_does(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Registration beside a stand-in for the kit whose judge's prompt adds strings, as the kit's does."""
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl")
    vlmevalkit.write(bench.read(folder), folder, tmp_path / "mine.tsv")

    class MMVMBench:
        @classmethod
        def evaluate(cls, file: str, **_: str) -> list[str]:
            table = pd.read_csv(file, sep="\t")
            return ["{" + row["answer"] + "} {" + row["prediction"] + "}" for row in table.to_dict("records")]

    kit = types.ModuleType("vlmeval.dataset")
    kit.MMVMBench, kit.DATASET_CLASSES = MMVMBench, []  # type: ignore[attr-defined]
    package = types.ModuleType("vlmeval")
    package.dataset = kit  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vlmeval", package)
    names = runpy.run_path(str(tmp_path / vlmevalkit.PLUGIN))
    assert [names["LocalMMVMBench"]] == kit.DATASET_CLASSES and set(names["LocalMMVMBench"].DATASET_URL) == {"mine"}
    local = names["LocalMMVMBench"]()
    table = local.load_data("mine").assign(prediction="3", answer="3")
    assert table["index"].tolist() == [0, 1, 2, 3] and table["question"].tolist() != []
    predictions = (tmp_path / "model_mine").with_suffix(suffix)
    kept = table.drop(columns=["image"])
    kept.to_csv(predictions, sep="\t", index=False) if suffix == ".tsv" else kept.to_excel(predictions, index=False)
    assert local.evaluate(str(predictions)) == ['{"3"} {"3"}'] * 4


def test_items_are_read_back_and_written_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    vlmevalkit.write(bench.read(folder), str(folder), str(first))
    items = list(vlmevalkit.read(str(first), str(tmp_path / "images")))
    assert [item.answer for item in items] == [case.answer for case in bench.read(folder)]
    assert [item.match_types for item in items] == [case.match_types for case in bench.read(folder)]
    assert items[0].images[0].suffix == ".jpg"
    assert items[0].images[0].read_bytes() == (folder / "match_bench/case_000000/FRAME00.jpg").read_bytes()
    vlmevalkit.write_items(items, second)
    assert first.read_bytes() == second.read_bytes()


def _table(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    return path


def _png(color: int) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), (color, 3, 4)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_published_forms(tmp_path: Path) -> None:
    """One bare image, a list, and a reference to the row above; names from the rows' numbers."""
    rows = [
        {"index": "a", "image": _png(1), "question": "q", "answer": "3", "match_type": "[1, 8]"},
        {"index": "b", "image": repr([_png(2), _png(3)]), "question": 'q\t"x"\n', "answer": "None", "match_type": ""},
        {"index": "c", "image": "b", "question": "q", "answer": "12", "match_type": "[9]"},
    ]
    problems: list[bench.Problem] = []
    items = list(vlmevalkit.read(_table(tmp_path / "t.tsv", rows), tmp_path / "into", problems))
    assert [item.answer for item in items] == [3, None, 12]
    assert [image.name for image in items[1].images] == ["000001_0.png", "000001_1.png"]
    assert items[2].images == items[1].images and items[1].question == 'q\t"x"\n'
    assert Image.open(items[1].images[1]).getpixel((0, 0)) == (3, 3, 4)
    assert [problem.where for problem in problems] == ["t.tsv: line 3: match_type", "t.tsv: line 5: match_type"]


def test_images_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    """Rows that all call their images the same, as case folders do."""
    names = "['FRAME00.png', 'FRAME01_CAND.png']"
    rows = [
        {"index": str(k), "image": repr([_png(2 * k), _png(2 * k + 1)]), "question": "q", "answer": "1"}
        | {"match_type": "[1]", "image_path": names}
        for k in range(3)
    ]
    items = list(vlmevalkit.read(_table(tmp_path / "t.tsv", rows), tmp_path / "into"))

    def shown(found: list[vlmevalkit.VlmEvalKitItem]) -> list[int]:
        return [Image.open(image).getpixel((0, 0))[0] for item in found for image in item.images]  # type: ignore[index]

    assert shown(items) == list(range(6))
    moved = []
    for item in items:
        folder = tmp_path / item.index
        folder.mkdir()
        images = tuple(folder / f"{k}.png" for k in range(2))
        for old, new in zip(item.images, images, strict=True):
            old.rename(new)
        moved.append(replace(item, images=images))
    vlmevalkit.write_items(moved, tmp_path / "u.tsv")
    table = pd.read_csv(tmp_path / "u.tsv", sep="\t")
    written = [name for cell in table["image_path"] for name in ast.literal_eval(cell)]
    assert len(set(written)) == 6 and [name[:2] for name in written] == ["0_", "1_"] * 3
    assert shown(list(vlmevalkit.read(tmp_path / "u.tsv", tmp_path / "again"))) == list(range(6))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "nobody"}, "line 2: image: 'nobody' is neither an image nor the index"),
        ({"image": "!" * 80}, "line 2: image: expected base64"),
        ({"image": base64.b64encode(b"x" * 90).decode()}, "line 2: image: image 1 is no image"),
        ({"image": "[" + "1," * 50 + "]"}, "line 2: image: expected base64"),
        ({"answer": "three"}, "line 2: answer: expected a number or none"),
        ({"image_path": "['../../x.png']"}, "must be relative"),
        ({"image_path": "['a.png', 'b.png']"}, "line 2: image_path: expected 1 name"),
    ],
)
def test_broken_rows_are_errors(tmp_path: Path, change: dict[str, str], message: str) -> None:
    row = {"index": "0", "image": _png(1), "question": "q", "answer": "3", "match_type": "[1]", "image_path": ""}
    path = _table(tmp_path / "t.tsv", [{**row, **change}, {**row, "index": "1"}])
    with pytest.raises(InputError, match=message):
        list(vlmevalkit.read(path, tmp_path / "into"))
    problems: list[bench.Problem] = []
    assert len(list(vlmevalkit.read(path, tmp_path / "into", problems))) == 1 and len(problems) == 1
    assert not (tmp_path / "x.png").exists()


def test_missing_columns_and_places(tmp_path: Path, folder: Path) -> None:
    path = _table(tmp_path / "t.tsv", [{"index": "0", "image": _png(1)}])
    with pytest.raises(InputError, match="columns are missing: question, answer"):
        list(vlmevalkit.read(path, tmp_path))
    with pytest.raises(OutputError):
        vlmevalkit.write(bench.read(folder), folder, tmp_path / "no" / "x.tsv")
    (folder / "match_bench/case_000001/FRAME00.jpg").unlink()
    with pytest.raises(InputError, match=r"FRAME00\.jpg"):
        vlmevalkit.write(bench.read(folder), folder, tmp_path / "x.tsv")
    assert not (tmp_path / "x.tsv").exists()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20), st.text("[]'\",1a ", max_size=90))
def test_any_cell_is_an_item_or_a_problem(text: str, image: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        row = {"index": text, "image": image, "question": text, "answer": text, "match_type": image, "image_path": text}
        path = _table(Path(name) / "t.tsv", [row])
        problems: list[bench.Problem] = []
        items = list(vlmevalkit.read(path, Path(name) / "into", problems))
        assert items or problems

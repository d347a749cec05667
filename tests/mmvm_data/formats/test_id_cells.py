"""Ids in tables that pandas loads with its defaults, in a column of their own and together."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from mmvm_data.core.types import Case
from mmvm_data.formats import bench, vlmevalkit
from mmvm_data.formats.id_cells import MISSING, format_index, quote_id, quote_name, unquote_id, unquote_name
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem

IDS = ("NA", "nan", "null", "None", "001", "0", "7", "1e5", "1.0", "true", "FALSE", "inf", "-5", " 5", "9" * 20, "'")
PLAIN = ("case_000000", "clip 0", "007a", "1_000", "'x", "0x1f")


def load(cells: list[int | str]) -> list[str]:
    """What pandas makes of cells in a column of a tsv that is written as ours are."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", quoting=csv.QUOTE_NONNUMERIC).writerows(
        [["a", "x"], *([cell, "y"] for cell in cells)]
    )
    return [str(value) for value in pd.read_csv(io.StringIO(text.getvalue()), sep="\t")["a"]]


def test_the_words_for_missing_values_are_those_of_pandas() -> None:
    assert set(STR_NA_VALUES) <= MISSING


@pytest.mark.parametrize("id", [*IDS, *PLAIN])
def test_an_id_survives_pandas_in_any_column(id: str) -> None:
    cell = quote_id(id)
    assert unquote_id(cell) == id
    assert (cell == id) == (id in (*PLAIN, "0", "7"))
    for others in ([], ["7"], ["abc"], ["'001"], ["-1.5"]):
        assert load([cell, *map(quote_id, others)])[0] == cell


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1)


@settings(max_examples=30)
@given(st.lists(st.one_of(st.sampled_from(IDS), TEXTS), min_size=1))
def test_any_ids_survive_together(ids: list[str]) -> None:
    assert [unquote_id(cell) for cell in load([quote_id(id) for id in ids])] == ids


@pytest.mark.parametrize("name", ["NA", "'NA", "''nan", "", "001", "clip 0", "'x"])
def test_names_come_back(name: str) -> None:
    assert unquote_name(quote_name(name)) == name
    assert unquote_id(quote_id(name)) == name
    assert quote_name(name) == (f"'{name}" if name.lstrip("'") in ("NA", "nan") else name)


@pytest.mark.parametrize(
    ("index", "cell"), [("0", 0), ("12", 12), ("001", "'001"), ("NA", "'NA"), ("a", "a"), ("'001", "'001")]
)
def test_an_index_is_a_number_or_text_that_stays(index: str, cell: int | str) -> None:
    assert format_index(index) == cell
    assert load([cell]) == [str(cell)]


def test_tables_with_such_ids(cases: list[Case], root: Path, tmp_path: Path) -> None:
    ids = ["NA", "001", "nan", "1e5"]
    named = []
    for id, case in zip(ids, cases, strict=True):
        assert case.provenance is not None
        named.append(
            case.model_copy(update={"id": id, "provenance": case.provenance.model_copy(update={"video": "NA"})})
        )
    bench.write(named, tmp_path, root)
    table = pd.read_csv(tmp_path / bench.TSV, sep="\t")
    assert [unquote_id(cell) for cell in table["case_id"]] == ids
    assert [unquote_name(cell) for cell in table["video"]] == ["NA"] * 4
    assert bench.validate(tmp_path).problems == []
    (tmp_path / bench.CASES).unlink()
    assert [(case.id, case.extra["video"]) for case in bench.read(tmp_path)] == [(id, "NA") for id in ids]


def test_an_index_of_a_table_with_images_inside(cases: list[Case], root: Path, tmp_path: Path) -> None:
    bench.write(cases[:1], tmp_path, root)
    image = tmp_path / "match_bench" / cases[0].id / "FRAME00.jpg"
    items = [VlmEvalKitItem(index, (image,), "?", 1) for index in ("NA", "001", "7")]
    vlmevalkit.write_items(items, tmp_path / "a.tsv")
    assert list(pd.read_csv(tmp_path / "a.tsv", sep="\t")["index"]) == ["'NA", "'001", "7"]
    again = list(vlmevalkit.read(tmp_path / "a.tsv", tmp_path / "images"))
    vlmevalkit.write_items(again, tmp_path / "b.tsv")
    assert [item.index for item in again] == ["'NA", "'001", "7"]
    assert list(pd.read_csv(tmp_path / "b.tsv", sep="\t")["index"]) == ["'NA", "'001", "7"]

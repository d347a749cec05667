from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colva.data.records import find_spans, open_records
from mmvm_data.core.errors import InputError

TEXTS = st.text(alphabet='ab"\\{}[],: \né', max_size=12)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def spans_of(path: Path, text: str, block: int) -> list[Any]:
    path.write_bytes(text.encode())
    data = path.read_bytes()
    return [json.loads(data[start:end]) for start, end in find_spans(path, block).tolist()]


@given(st.lists(VALUES, max_size=6), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_is_cut_where_json_cuts_it(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], block: int, indent: int | None, ascii_only: bool
) -> None:
    text = " " + json.dumps(values, indent=indent, ensure_ascii=ascii_only) + "\n"
    assert spans_of(tmp_path_factory.getbasetemp() / "list.json", text, block) == values


@given(st.lists(st.dictionaries(TEXTS, TEXTS, max_size=3), min_size=1, max_size=6), st.integers(1, 40), st.booleans())
def test_lines_are_records_and_blank_ones_are_not(
    tmp_path_factory: pytest.TempPathFactory, values: list[Any], block: int, ended: bool
) -> None:
    text = "\n\n".join(json.dumps(value) for value in values) + ("\n" if ended else "")
    assert spans_of(tmp_path_factory.getbasetemp() / "lines.jsonl", text, block) == values


def test_the_borders_are_kept_and_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file, cache = tmp_path / "a.json", tmp_path / "cache"
    file.write_text(json.dumps([{"n": n} for n in range(5)]))
    first = open_records(file, cache)
    assert isinstance(open_records(file, cache)._spans, np.memmap)
    assert [first.read(n)["n"] for n in range(len(first))] == [0, 1, 2, 3, 4]
    file.write_text(json.dumps([{"n": n} for n in range(3)]))
    again = open_records(file, cache)
    assert len(again) == 3 and again.stamp != first.stamp
    for kept in cache.iterdir():
        kept.write_bytes(b"damaged")
    assert len(open_records(file, cache)) == 3


@pytest.mark.parametrize(
    ("content", "reason"), [("", "no record"), ("[]", "no record"), ('[{"a": 1}, {"b": "]', "ends before its list")]
)
def test_a_file_without_records_or_cut_short_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=reason):
        open_records(tmp_path / "a.json", None)


def test_a_record_that_is_not_json_is_named_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": }\n')
    records = open_records(tmp_path / "a.jsonl", None)
    assert records.read(0) == {"a": 1}
    with pytest.raises(InputError, match=r"a\.jsonl: record 1: not JSON"):
        records.read(1)

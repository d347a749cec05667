"""Set operations on finished benchmarks, and the expressions that filter them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case, Frame
from mmvm_data.formats import bench
from mmvm_data.formats.case_filter import parse_filter
from mmvm_data.formats.revisions import revise
from mmvm_data.formats.set_operations import filter_set, merge_sets, sample_set, split_set
from mmvm_data.formats.tsv import read_rows
from tests.builds import make_case
from tests.worlds import tree


def _own_case(i: int) -> Case:
    """Case ``i`` with images in its own folder."""
    case = make_case(i)
    folder = f"match_bench/{case.id}"
    frames = tuple(f.model_copy(update={"path": f"{folder}/FRAME{f.index:02d}_ORI.jpg"}) for f in case.frames)
    return case.model_copy(update={"frames": frames})


def write_benchmark(folder: Path, numbers: list[int]) -> Path:
    """A benchmark whose images are short texts: set operations do not read them."""
    cases = [_own_case(i) for i in numbers]
    for case in cases:
        (folder / "match_bench" / case.id).mkdir(parents=True)
        for frame in case.frames:
            (folder / frame.path).write_text(f"{case.id} {frame.index}")
    folder.mkdir(exist_ok=True)
    (folder / bench.CASES).write_text("".join(case.model_dump_json() + "\n" for case in cases))
    bench.write_tsv((case for case in cases if case.review.state != "rejected"), folder / bench.TSV)
    return folder


def _records(folder: Path) -> list[Case]:
    return list(bench.read(folder))


def _by_id(folder: Path) -> dict[str, Case]:
    return {case.id: case for case in _records(folder)}


numbers = st.lists(st.integers(0, 60), min_size=4, max_size=14, unique=True)


@settings(max_examples=3, deadline=None)
@given(numbers, st.integers(0, 3))
def test_merge_then_split_gives_the_same_records(chosen: list[int], seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        half = len(chosen) // 2
        a, b = write_benchmark(tmp / "a", chosen[:half]), write_benchmark(tmp / "b", chosen[half:])
        assert merge_sets([a, b], tmp / "m") == len(chosen)
        assert _records(tmp / "m") == _records(a) + _records(b)
        assert tree(tmp / "m/match_bench") == tree(a / "match_bench") | tree(b / "match_bench")
        counts = split_set(tmp / "m", tmp / "s", by="source")
        videos = {(c.provenance.source, c.provenance.video) for c in _records(tmp / "m") if c.provenance}
        if len(videos) >= 2:
            split_set(tmp / "m", tmp / "v", shares={"x": 0.7, "y": 0.3}, seed=seed)
            parts = [_by_id(tmp / "v/x"), _by_id(tmp / "v/y")]
            assert parts[0] | parts[1] == _by_id(tmp / "m") and all(parts)
            of = [{(c.provenance.source, c.provenance.video) for c in p.values() if c.provenance} for p in parts]
            assert not of[0] & of[1]
        again = merge_sets([tmp / "s" / part for part in counts], tmp / "again")
        assert again == len(chosen) and _by_id(tmp / "again") == _by_id(tmp / "m")


@settings(max_examples=3, deadline=None)
@given(numbers)
def test_filter_and_merge_commute(chosen: list[int]) -> None:
    where = "candidates >= 4 or source == 'davis' or 1 in match_types"
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        half = len(chosen) // 2
        sets = [write_benchmark(tmp / "a", chosen[:half]), write_benchmark(tmp / "b", chosen[half:])]
        merge_sets(sets, tmp / "m")
        wanted = [c for c in _records(tmp / "m") if parse_filter(where)(c)]
        if not wanted:
            return
        assert filter_set(tmp / "m", tmp / "f", where) == len(wanted)
        parts = []
        for k, folder in enumerate(sets):
            if any(map(parse_filter(where), _records(folder))):
                filter_set(folder, tmp / f"f{k}", where)
                parts.append(tmp / f"f{k}")
        merge_sets(parts, tmp / "fm")
        assert _records(tmp / "f") == _records(tmp / "fm") == wanted


def test_ids_that_clash_are_refused_or_numbered_again(tmp_path: Path) -> None:
    a, b = write_benchmark(tmp_path / "a", [1, 2]), write_benchmark(tmp_path / "b", [2, 4])
    with pytest.raises(UsageError, match=r"1 case ids .* \(case_000002\)"):
        merge_sets([a, b], tmp_path / "m")
    with pytest.raises(UsageError, match="same benchmark"):
        merge_sets([a, a], tmp_path / "m")
    assert not (tmp_path / "m").exists()
    merge_sets([a, b], tmp_path / "m", fresh_ids=True)
    cases = _records(tmp_path / "m")
    assert [c.id for c in cases] == [f"case_{k:06d}" for k in range(4)]
    assert [c.provenance for c in cases] == [c.provenance for c in _records(a) + _records(b)]
    assert (tmp_path / "m" / cases[3].frames[1].path).read_text() == "case_000004 1"
    origins = [json.loads(line) for line in (tmp_path / "m/origins.jsonl").read_text().splitlines()]
    assert origins[2] == {"id": "case_000002", "source": 2, "former_id": "case_000002"}
    assert len(list(read_rows(tmp_path / "m" / bench.TSV))) == 3  # case 4 is rejected


def test_sources_with_broken_records_are_refused(tmp_path: Path) -> None:
    a, b = write_benchmark(tmp_path / "a", [1, 2]), write_benchmark(tmp_path / "b", [3])
    lines = (a / bench.CASES).read_bytes().splitlines(keepends=True)
    (a / bench.CASES).write_bytes(lines[0] + lines[1] + lines[0])
    with pytest.raises(InputError, match="case id 'case_000001' repeats"):
        merge_sets([a, b], tmp_path / "m")
    (a / bench.CASES).write_bytes(lines[0] + lines[1].replace(b'"query"', b'"asked"'))
    with pytest.raises(InputError, match="line 2: not a case record"):
        merge_sets([a, b], tmp_path / "m")
    (a / bench.CASES).write_bytes(b"{}\n")
    with pytest.raises(InputError, match="line 1: not a case record"):
        merge_sets([a, b], tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_history_follows_and_a_later_change_leaves_the_source(tmp_path: Path) -> None:
    a, b = write_benchmark(tmp_path / "a", [1, 2]), write_benchmark(tmp_path / "b", [1, 3])
    first = next(bench.read(a))
    revise(a, {first.id: first.model_copy(update={"rationale": "new"})})
    (b / "annotation").mkdir()
    (b / "annotation/history.jsonl").write_text('{"case": "case_000003", "key": "k"}\n{"case": "gone", "key": "l"}\n')
    before = tree(a), tree(b)
    merge_sets([a, b], tmp_path / "m", fresh_ids=True)
    kept = (tmp_path / "m/revisions/source-01/cases.0001.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in kept] == ["case_000000", "case_000001"]
    assert json.loads(kept[0])["rationale"] == first.rationale
    history = (tmp_path / "m/revisions/source-02/annotation/history.jsonl").read_text()
    assert json.loads(history) == {"case": "case_000003", "key": "k"}
    revise(tmp_path / "m", {"case_000000": lambda case: case.model_copy(update={"rationale": "newer"})})
    assert (tree(a), tree(b)) == before


def test_splits_that_cannot_be_made_write_nothing(tmp_path: Path) -> None:
    a = write_benchmark(tmp_path / "a", [1, 2])
    for shares, message in (
        ({"x": 0.5, "y": 0.3, "z": 0.2}, "the 3 parts of `shares` need a video each; of its videos, 2 are not kept"),
        ({"x": 0.5, "y": 0.3}, "must sum to 1, got 0.8"),
        (None, "must give each part a share"),
        ({"../x": 0.5, "y": 0.5}, "names for folders"),
    ):
        with pytest.raises(UsageError, match=message):
            split_set(a, tmp_path / "s", shares=shares)
        assert not (tmp_path / "s").exists()
    split_set(a, tmp_path / "parts", shares={"x": 0.5, "y": 0.5})
    with pytest.raises(InputError, match=r"holds no benchmark, .*: expected one of the benchmarks in it, x, y"):
        split_set(tmp_path / "parts", tmp_path / "s", by="source")
    (a / bench.CASES).unlink()
    with pytest.raises(InputError, match=r"expected a benchmark with cases\.jsonl"):
        split_set(a, tmp_path / "s", by="source")


def test_samples_are_balanced(tmp_path: Path) -> None:
    a = write_benchmark(tmp_path / "a", [3 * k for k in range(12)] + [1, 4, 7, 10, 13])
    assert sum(case.review.state == "rejected" for case in _records(a)) == 3
    assert sample_set(a, tmp_path / "s", 8, ["source"]) == 8
    sources = [c.provenance.source for c in _records(tmp_path / "s") if c.provenance]
    assert sorted(sources) == ["davis"] * 4 + ["ytvos"] * 4
    with pytest.raises(OptionError, match=r"must be in 1\.\.14, the cases of .*/a that are not rejected, got 15"):
        sample_set(a, tmp_path / "t", 15)
    sample_set(a, tmp_path / "all", 14)
    assert len(list(read_rows(tmp_path / "all" / bench.TSV))) == 14
    with pytest.raises(OptionError, match="balance must be of"):
        sample_set(a, tmp_path / "t", 3, ["colour"])


@pytest.mark.parametrize(
    "where",
    [
        "__import__('os')",
        "id.upper()",
        "(lambda: 1)()",
        "colour == 1",
        "id is None",
        "candidates + 1 > 2",
        "[c for c in id]",
        "id == b'x'",
        "f'{id}'",
        "a = 1",
        "",
        "(" * 500,
        "not " * 60 + "none",
    ],
)
def test_expressions_of_anything_else_are_refused(where: str) -> None:
    with pytest.raises(OptionError, match="where must"):
        parse_filter(where)


def test_expressions_mean_what_they_say() -> None:
    case = make_case(7)
    assert case.provenance
    for where, wanted in {
        f"source == '{case.provenance.source}' and gap > -1": True,
        f"id in ['{case.id}', 'b']": True,
        f"1 <= candidates <= {len(case.candidates)} and not none": True,
        "reviewer < 'b' or 'b' in reviewer": False,
        "reviewer == None": True,
        "recipe_source == None": True,
        "match_types == [] or 1 in match_types": not case.match_types or 1 in case.match_types,
    }.items():
        assert parse_filter(where)(case) is wanted, where
    named = case.provenance.model_copy(update={"extra": {"recipe_source": "mine"}})
    assert parse_filter("recipe_source == 'mine'")(case.model_copy(update={"provenance": named}))
    with pytest.raises(UsageError, match="no common order"):
        parse_filter("gap < 'x'")(case)


def test_records_of_every_kind_are_renamed_alone(tmp_path: Path) -> None:
    """The id as the name of an object or of a file of the source, text that was written by hand, an id with an accent:
    only the id of the case and the paths of its images change."""
    first, second, third, fourth, fifth = (_own_case(k) for k in (1, 3, 5, 7, 9))
    region = first.query[0].model_copy(update={"id": first.id, "category": f'"id":"{first.id}"'})
    assert second.provenance is not None
    paths = {"path": f"match_bench/{second.id}/FRAME00_ORI.jpg"}
    provenance = second.provenance.model_copy(update={"extra": paths})
    cases = [
        first.model_copy(update={"query": (region, *first.query[1:])}),
        second.model_copy(update={"provenance": provenance}),
        third,
        fourth.model_copy(update={"id": "é", "frames": tuple(_moved(f, fourth.id, "é") for f in fourth.frames)}),
        fifth,
    ]
    lines = [case.model_dump_json() for case in cases]
    lines[2] = json.dumps(json.loads(lines[2]))  # with spaces
    lines[4] = f'{lines[4][:-1]},"id":"{fifth.id}"}}'  # a key that repeats: the last one counts
    folder = write_benchmark(tmp_path / "a", [1, 3, 5, 7, 9])
    (folder / "match_bench" / fourth.id).rename(folder / "match_bench/é")
    (folder / bench.CASES).write_text("\n".join(lines) + "\r\n")
    assert merge_sets([folder], tmp_path / "m", fresh_ids=True) == 5
    expected = []
    for k, case in enumerate(cases):
        name = f"case_{k:06d}"
        frames = tuple(_moved(frame, case.id, name) for frame in case.frames)
        expected.append(case.model_copy(update={"id": name, "frames": frames}))
    assert _records(tmp_path / "m") == expected
    rows = [row.cells for row in read_rows(tmp_path / "m" / bench.TSV)]
    bench.write_tsv((case for case in expected if case.review.state != "rejected"), tmp_path / "expected.tsv")
    assert rows == [row.cells for row in read_rows(tmp_path / "expected.tsv")]


def _moved(frame: Frame, former: str, name: str) -> Frame:
    return frame.model_copy(update={"path": frame.path.replace(f"match_bench/{former}/", f"match_bench/{name}/")})

"""One training set of several benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mmvm_data.cli import cli
from mmvm_data.core.errors import UsageError
from mmvm_data.formats import sft
from mmvm_data.formats.sft_sets import PROVENANCE, join_benchmarks
from tests.builds import make_case, write_build


@pytest.fixture
def sets(tmp_path: Path) -> list[Path]:
    """Two benchmarks with equal ids; each has a case that people rejected."""
    folders = [tmp_path / "sets/first", tmp_path / "sets/more/second"]
    for folder, numbers in zip(folders, (range(1, 5), range(3, 9)), strict=True):
        folder.mkdir(parents=True)
        write_build(folder, [make_case(k) for k in numbers])
    return folders


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words), "--to", "sft"])


def test_ids_and_paths_are_distinct_and_lead_back(sets: list[Path], tmp_path: Path) -> None:
    done = run(*sets, "--out", tmp_path / "out", "--include-flagged")
    assert done.exit_code == 0, done.output
    assert f"paths of images are relative to {tmp_path / 'sets'}" in done.output.replace("\n", "")
    wanted = ["first/case_000001", "first/case_000002", "first/case_000003"]
    wanted += [f"more/second/case_{k:06d}" for k in (3, 5, 6, 7, 8)]  # 4 and 9 are rejected
    read = list(sft.read(tmp_path / "out", tmp_path / "sets"))
    assert [case.id for case in read] == wanted
    pairs = [case for case in read if len(case.frames) == 2]  # of the others, the sample has no files
    assert all((tmp_path / "sets" / frame.path).is_file() for case in pairs for frame in case.frames)
    subsets = [json.loads((tmp_path / "out" / sft.FILES[kind]).read_text()) for kind in ("choices", "reasoning")]  # type: ignore[index]
    usable = [name for name in wanted if name != "more/second/case_000005"]  # has three images
    assert sorted(record["id"] for part in subsets for record in part) == usable and all(subsets)
    assert "1 case in neither published subset, whose training code cannot use more than two images" in done.output
    for conversation in sft.read_llava(tmp_path / "out"):
        assert len(conversation.images) == 3 or all((tmp_path / "sets" / i).is_file() for i in conversation.images)
    origins = [json.loads(line) for line in (tmp_path / "out" / PROVENANCE).read_text().splitlines()]
    assert [origin["id"] for origin in origins] == wanted
    third = origins[3]
    assert (third["benchmark"], third["case"], third["source"]) == ("more/second", "case_000003", "davis")
    assert third["video"] == "clip 3" and third["frames"][0] == {
        "path": "JPEGImages/clip/0.jpg",
        "index": 0,
        "time": 0.5,
    }


def test_one_benchmark_keeps_its_ids_and_paths(sets: list[Path], tmp_path: Path) -> None:
    assert run(sets[0], "--out", tmp_path / "out", "--include-flagged").exit_code == 0
    read = list(sft.read(tmp_path / "out", sets[0]))
    assert [case.id for case in read] == ["case_000001", "case_000002", "case_000003"]
    origins = [json.loads(line) for line in (tmp_path / "out" / PROVENANCE).read_text().splitlines()]
    assert {origin["benchmark"] for origin in origins} == {"."}


def test_what_cannot_be_joined(sets: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is named twice"):
        join_benchmarks([sets[0], sets[0] / ".." / "first"])
    with pytest.raises(UsageError, match="holds another benchmark"):
        join_benchmarks([sets[0], sets[0] / "match_bench"])
    done = CliRunner().invoke(cli, ["export", *map(str, sets), "--to", "hub", "--out", str(tmp_path / "out")])
    assert "several folders need" in str(done.exception) and not (tmp_path / "out").exists()

"""One function opens a benchmark of any form, and one writes it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import mmvm_data
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.open_benchmark import VLMEVALKIT_TSV, Form, open_benchmark, write_benchmark
from mmvm_data.formats.vlmevalkit import VlmEvalKitItem
from tests.worlds import tree


@pytest.fixture
def folder(cases: list[Case], root: Path, tmp_path: Path) -> Path:
    """A benchmark of ours."""
    write_benchmark(cases, tmp_path / "bench", root=root)
    return tmp_path / "bench"


def test_our_benchmark_is_read_again_and_again(folder: Path) -> None:
    benchmark = open_benchmark(folder)
    assert (benchmark.form, benchmark.path, benchmark.root, benchmark.has_regions) == ("bench", folder, folder, True)
    assert list(benchmark) == list(benchmark.cases()) == list(bench.read(folder))
    assert benchmark.problems == []


def test_the_published_layout_gives_the_same_questions(folder: Path) -> None:
    own = list(open_benchmark(folder).cases())
    (folder / bench.CASES).unlink()
    published = list(open_benchmark(str(folder)).cases())
    assert [(c.id, c.question, c.answer, c.root) for c in published] == [
        (c.id, c.question, c.answer, folder) for c in own
    ]
    table = folder / "other.tsv"
    (folder / bench.TSV).rename(table)
    benchmark = open_benchmark(table)
    assert (benchmark.form, benchmark.path, benchmark.root) == ("bench", table, folder)
    assert list(benchmark.cases()) == published


def test_what_cannot_be_read_is_left_out_and_named(folder: Path) -> None:
    (folder / bench.CASES).unlink()
    (folder / "match_bench/case_000001/FRAME00.json").write_text("[")
    problems: list[bench.Problem] = []
    benchmark = open_benchmark(folder, problems=problems)
    assert [case.id for case in benchmark.cases()] == ["case_000000", "case_000002", "case_000003"]
    assert benchmark.problems is problems
    assert ["case_000001/FRAME00.json" in problem.where for problem in problems] == [True]


def test_a_table_with_images_has_questions_and_no_cases(folder: Path, tmp_path: Path) -> None:
    own = list(open_benchmark(folder).cases())
    (table,) = write_benchmark(own, tmp_path / "newer", "vlmevalkit")
    assert table == tmp_path / "newer" / VLMEVALKIT_TSV
    for path in (table, tmp_path / "newer"):
        benchmark = open_benchmark(path, cache_dir=tmp_path / "cache")
        assert (benchmark.form, benchmark.path, benchmark.has_regions) == ("vlmevalkit", table, False)
        questions = list(benchmark)
        assert [question.answer for question in questions] == [case.answer for case in own]
        for question in questions:
            assert isinstance(question, VlmEvalKitItem)
            assert all(image.is_file() and image.is_relative_to(benchmark.root) for image in question.images)
        with pytest.raises(UsageError, match="questions without regions"):
            benchmark.cases()
    assert benchmark.root == tmp_path / "cache/images"


def test_a_data_set_of_the_hub_becomes_case_folders(folder: Path, tmp_path: Path) -> None:
    own = list(open_benchmark(folder).cases())
    (shard,) = write_benchmark(own, tmp_path / "hub", "hub")
    assert shard.suffix == ".parquet"
    benchmark = open_benchmark(tmp_path / "hub", cache_dir=tmp_path / "cache")
    assert (benchmark.form, benchmark.root) == ("hub", tmp_path / "cache/images")
    cases = list(benchmark.cases())
    assert [case.with_root(folder) for case in cases] == own
    assert tree(benchmark.root / "match_bench") == tree(folder / "match_bench")


def test_images_go_to_the_cache_unless_a_folder_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMVM_DATA_CACHE", str(tmp_path / "kept"))
    for name in ("a", "b"):
        write_benchmark(open_benchmark(folder).cases(), tmp_path / name, "vlmevalkit")
    roots = {open_benchmark(tmp_path / name).root for name in ("a", "b")}
    assert len(roots) == 2 and all(root.is_relative_to(tmp_path / "kept/benchmarks") for root in roots)
    assert not (tmp_path / "kept").exists()
    list(open_benchmark(tmp_path / "a"))
    assert any(open_benchmark(tmp_path / "a").root.iterdir())


@pytest.mark.parametrize("form", get_args(Form))
def test_a_benchmark_is_not_written_over_another(folder: Path, tmp_path: Path, form: Form) -> None:
    write_benchmark(bench.read(folder), tmp_path / "out", form)
    before = tree(tmp_path / "out")
    with pytest.raises(UsageError, match="already"):
        write_benchmark(bench.read(folder), tmp_path / "out", form)
    assert tree(tmp_path / "out") == before


def test_an_unknown_form_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="form must be 'bench', 'vlmevalkit', 'hub', got 'coco'"):
        write_benchmark(bench.read(folder), tmp_path / "out", "coco")  # type: ignore[arg-type]


def test_a_place_without_a_benchmark_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    for path in (tmp_path, tmp_path / "x.txt", tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no benchmark"):
            open_benchmark(path)


def test_both_are_part_of_the_public_api() -> None:
    assert mmvm_data.open_benchmark is open_benchmark
    assert mmvm_data.write_benchmark is write_benchmark

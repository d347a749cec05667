"""A benchmark in the published layout is imported once, and then takes reviews and edits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mmvm_data import cli
from mmvm_data.core.errors import InputError
from mmvm_data.formats import bench
from mmvm_data.formats.import_bench import import_benchmark
from tests.mmvm_data.annotation.annotations import choice
from tests.mmvm_data.annotation.forked_commands import write_export
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.worlds import tree


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.cli, [str(word) for word in words])


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "mmvm"
    write_grids(folder, (3, 4))
    for path in folder.iterdir():
        if path.is_file() and path.name != bench.TSV:
            path.unlink()
    return folder


def test_records_are_added_and_nothing_else_changes(published: Path) -> None:
    before, cases = tree(published), list(bench.read(published))
    result = run("import", published)
    assert result.exit_code == 0 and "imported 2 cases" in result.output
    assert list(bench.read(published)) == cases
    after = tree(published)
    added = {bench.CASES, "import.json", "revisions/imported.tsv"}
    assert after.keys() - before.keys() == added and before.items() <= after.items()
    record = json.loads(after["import.json"])
    table = before[bench.TSV]
    assert (record["cases"], record["sha256"]) == (2, hashlib.sha256(table).hexdigest())
    assert after["revisions/imported.tsv"] == table
    assert bench.validate(published, deep=True).problems == []
    assert "nothing to import" in run("import", published).output
    assert tree(published) == after


def test_a_review_imports_by_itself_and_is_written(published: Path, tmp_path: Path) -> None:
    first, second = bench.read(published)
    changes = [choice("answer", "C. 3")]
    export = write_export(tmp_path / "e.json", [(first, changes, "fix"), (second, [], "reject")])
    result = run("review", "pull", published, "--export", export)
    assert result.exit_code == 0 and "2 cases changed" in result.output
    assert [(case.answer, case.review.state) for case in bench.read(published)] == [(3, "fixed"), (2, "rejected")]
    assert bench.validate(published, deep=True).problems == []
    after = tree(published)
    assert "0 cases changed" in run("review", "pull", published, "--export", export).output
    assert tree(published) == after


def test_a_row_that_cannot_be_read_is_listed_and_stays_in_the_table(published: Path) -> None:
    (published / "match_bench/case_000001/FRAME00.json").write_text("[]")
    table = (published / bench.TSV).read_bytes()
    result = run("import", published, "--strict")
    assert result.exit_code == 1 and "list of objects is empty" in result.output
    assert [case.id for case in bench.read(published)] == ["case_000000"]
    assert (published / bench.TSV).read_bytes() == table
    assert len(json.loads((published / "import.json").read_text())["problems"]) == 1


def test_what_cannot_be_imported_is_named(published: Path, tmp_path: Path) -> None:
    table = published / bench.TSV
    text = table.read_text()
    head, body = text.split("\n", 1)
    before = tree(published)
    table.write_text(f"{head}\n{body}{body}")
    with pytest.raises(InputError, match="two cases share the folder 'case_000000'"):
        import_benchmark(published)
    table.write_text(text)
    assert tree(published) == before
    (published / "match_bench").rename(published / "elsewhere")
    table.write_text(text.replace("match_bench/", "elsewhere/"))
    with pytest.raises(InputError, match="expected images in match_bench/case_000000"):
        import_benchmark(published)
    table.write_text(f"{head}\n")
    with pytest.raises(InputError, match="no case of it can be read"):
        import_benchmark(published)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"mllm_match_eval_full\.tsv"):
        import_benchmark(empty)

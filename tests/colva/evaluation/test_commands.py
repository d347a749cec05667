"""The commands, whole: what they print, write and return."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from colva.cli import main
from colva.evaluation import runs
from mmvm_data.formats import bench, vlmevalkit
from tests.colva.evaluation.worlds import edit_tsv, folder_of, lines, original
from tests.endpoint import Server, completion, send, serving


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_eval_compare_and_what_lies_in_the_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 30)
    for model in ("random", "first", "largest"):
        result = call("eval", "--bench", folder, "--model", model, "--out", tmp_path / model, "--xlsx")
        assert result.exit_code == 0, result.output
        assert "of 30 cases" in result.output
    files = {path.relative_to(tmp_path / "first").as_posix() for path in (tmp_path / "first").rglob("*")}
    assert files == {
        "answers.jsonl",
        "environment.json",
        "predictions.jsonl",
        "report.html",
        "run.json",
        "scores.json",
        "vlmevalkit",
        "vlmevalkit/first_MMatch.tsv",
        "vlmevalkit/first_MMatch.xlsx",
        "vlmevalkit/mllm_match_eval_full.tsv",
    }
    cases = list(bench.read(folder))
    scores = json.loads((tmp_path / "first" / runs.SCORES).read_text())
    assert scores["overall"]["hits"] == sum(case.letter == "A" for case in cases)
    largest = [line["reply"] for line in lines(tmp_path / "largest" / runs.PREDICTIONS)]
    from mmvm_data.core.case_facts import region_area

    for case, letter in zip(cases, largest, strict=True):
        number = max(case.candidates, key=lambda c: (region_area(c.region), -c.number)).number
        assert letter == next(o.letter for o in case.options if o.number == number)
    environment = json.loads((tmp_path / "first" / runs.ENVIRONMENT).read_text())
    assert environment["this_process"]["replies"] == 30
    assert "numpy" in environment["versions"]
    result = call(
        "compare", tmp_path / "first", tmp_path / "largest", tmp_path / "random", "--out", tmp_path / "c.html"
    )
    assert result.exit_code == 0, result.output
    assert "largest against first, 30 cases" in result.output
    assert (tmp_path / "c.html").is_file()
    data = json.loads(call("compare", tmp_path / "first", tmp_path / "largest", "--json").output)
    assert data[0]["overall"]["n"] == 30


def test_accuracy_by_match_type_is_printed_where_cases_have_types(tmp_path: Path) -> None:
    for name, types in (("typed", (1, 5)), ("untyped", ())):
        folder = folder_of(tmp_path / name, 4, match_types=types)
        printed = call("eval", "--bench", folder, "--model", "first", "--out", tmp_path / f"{name}-run").output
        assert ("match type" in printed, "(none)" in printed) == (bool(types), False)
        assert "of 4 cases" in printed


def test_json_is_what_was_written(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 4)
    result = call("eval", "--bench", folder, "--model", "first", "--out", tmp_path / "r", "--json")
    assert json.loads(result.output) == json.loads((tmp_path / "r" / runs.SCORES).read_text())


def test_left_out_cases_are_printed_and_strict_returns_1(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=5)
    (folder / "match_bench/case_000002/FRAME00.jpg").unlink()
    edit_tsv(folder / bench.TSV, lambda rows: [row | {"answer": "Y"} if row["index"] == "4" else row for row in rows])
    words = ["eval", "--bench", folder, "--model", "random", "--out", tmp_path / "r"]
    result = call(*words)
    assert result.exit_code == 0
    assert "2 of 5 cases of the benchmark left out" in result.output
    assert "FRAME00.jpg" in result.output
    assert len(lines(tmp_path / "r" / runs.LEFT_OUT)) == 2
    assert json.loads((tmp_path / "r" / runs.SCORES).read_text())["benchmark"] == {
        "cases": 3,
        "left_out": 2,
        "notes": 0,
        "complete": True,
    }
    assert call(*words, "--strict").exit_code == 1
    limited = call(*words, "--limit", "2")
    assert "only the first cases of the benchmark" in limited.output


def test_the_newer_form_needs_no_protocol(tmp_path: Path) -> None:
    folder = original(tmp_path, cases=4)
    vlmevalkit.write(bench.read(folder), folder, tmp_path / "newer.tsv")
    assert "vqa" in call("eval", "--help").output
    result = call("eval", "--bench", tmp_path / "newer.tsv", "--model", "random", "--out", tmp_path / "r")
    assert result.exit_code == 2
    assert "does not say what there is to choose from" in result.output


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving(monkeypatch, tmp_path) as running:
        running.act = lambda s, handler, request, n: send(
            handler, 200, completion("B" if request["model"] == "judge" else "the second")
        )
        yield running


def test_an_endpoint_and_a_judge(server: Server, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 6)
    words = ["eval", "--bench", folder, "--model", "openai:m", "--base-url", server.url, "--out", tmp_path / "r"]
    words += ["--body", '{"temperature": 0}']
    result = call(*words, "--judge", "judge", "--judge-url", server.url)
    assert result.exit_code == 0, result.output
    scores = json.loads((tmp_path / "r" / runs.SCORES).read_text())
    assert (scores["cases"]["by_judge"], scores["cases"]["unread"]) == (6, 0)
    asked = len(server.requests)
    assert call(*words, "--extract", "strict").exit_code == 0
    assert len(server.requests) == asked, "another mode of extraction asks nothing"
    assert json.loads((tmp_path / "r" / runs.SCORES).read_text())["cases"]["unread"] == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "gpt-4o"], "--model must be one of random"),
        (["--model", "openai:"], "--model must be one of random"),
        (["--model", "openai:m"], "needs --base-url"),
        (["--model", "random", "--body", "[1]"], "--body must be a JSON object"),
        (["--model", "random", "--body", "{"], "--body must be a JSON object"),
        (["--model", "random", "--judge", "m"], "--judge needs --judge-url"),
        (["--model", "random", "--protocol", "vqa", "--shuffle-options", "2"], "--shuffle-options"),
    ],
)
def test_wrong_usage_is_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    folder = folder_of(tmp_path / "b", 2)
    result = call("eval", "--bench", folder, "--out", tmp_path / "r", *words)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
    assert result.output.count("\n") == 1


def test_compare_needs_two_scored_runs(tmp_path: Path) -> None:
    assert "two runs or more" in call("compare", tmp_path).output
    assert "no scored run" in call("compare", tmp_path, tmp_path).output


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("export-lmms-eval", {"mmvm.yaml", "utils.py"}),
        ("export-inspect", {"mmvm.py"}),
        ("export-lighteval", {"mmvm.py", "README.md"}),
    ],
)
def test_a_task_is_written(tmp_path: Path, command: str, files: set[str]) -> None:
    result = call(command, folder_of(tmp_path / "b", 3), "--out", tmp_path / "t")
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "t").iterdir()} == {*files, "extract.py", "questions.jsonl"}
    assert "next: " in result.output


def test_baselines_and_endpoints_need_no_torch() -> None:
    code = (
        "import sys; import colva.cli, colva.evaluation.models.endpoint, colva.evaluation.models.baselines;"
        "sys.exit(bool({'torch', 'transformers', 'openai', 'openpyxl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).resolve().parents[3]).returncode == 0

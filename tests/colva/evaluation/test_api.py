"""Evaluation from Python: the path of the command, options that validate themselves, a report as a value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from colva.cli import main
from colva.evaluation import runs
from colva.evaluation.api import EvaluationOptions, evaluate
from colva.evaluation.models.base import ModelOptions, Reply
from colva.evaluation.question import AskOptions
from mmvm_data import open_benchmark
from mmvm_data.core.errors import UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import ScriptedModel, folder_of

EVIL = "<script>alert()</script>"


def test_it_writes_what_the_command_writes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 8)
    report = evaluate(open_benchmark(folder), "random", tmp_path / "api", seed=3)
    words = ["eval", "--bench", folder, "--model", "random", "--seed", "3", "--out", tmp_path / "command"]
    assert CliRunner().invoke(main, [str(word) for word in words]).exit_code == 0
    for name in (runs.RUN, runs.PREDICTIONS, runs.SCORES):
        assert (tmp_path / "api" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    assert report.html_path.is_file()
    scores = json.loads((tmp_path / "api" / runs.SCORES).read_text())
    assert report.overall._asdict() == scores["overall"]
    assert report.accuracy == scores["overall"]["value"]
    assert {name: share.n for name, share in report.by_type.items()} == {
        name: row["n"] for name, row in scores["by"]["type"].items()
    }
    assert str(report).startswith("random: ")


def test_a_model_may_be_any_object_that_answers(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 5)
    replies = {case.id: Reply(case.letter) for case in bench.read(folder)}
    replies["case_000002"] = Reply("", error="too long")
    report = evaluate(folder, ScriptedModel(replies, name=EVIL), tmp_path / "run")
    assert (report.overall.hits, report.overall.n) == (4, 5)
    assert [(request.question.id, request.error) for request in report.failed] == [("case_000002", "too long")]
    html = report._repr_html_()
    assert EVIL not in html
    assert "&lt;script&gt;" in html
    assert "4 of 5 cases" in html


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "mqc"}, r"protocol must be 'mcq' or 'vqa', got 'mqc'"),
        ({"difficulty": -3}, "difficulty must be at least 1, got -3"),
        ({"difficulty": "4"}, "difficulty must be an integer, got '4'"),
        ({"num_variants": 0}, "num_variants must be at least 1, got 0"),
        ({"protocol": "vqa", "num_variants": 2}, "num_variants must be 1 with protocol 'vqa'"),
        ({"answer_by": "likelyhood"}, "answer_by must be 'generation' or 'likelihood', got 'likelyhood'"),
        ({"device": "gpu"}, "device must be auto, cpu, mps, cuda or cuda:N, got 'gpu'"),
        ({"concurrency": 0}, r"concurrency must be in \[1, 1024\], got 0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"body": {"model": "x"}}, "body must not set model"),
        ({"extraction": "fuzzy"}, "extraction must be 'vlmevalkit' or 'strict', got 'fuzzy'"),
        ({"limit": True}, "limit must be an integer, got True"),
        ({"shuffles": 2}, "shuffles is an unknown option"),
    ],
)
def test_options_that_are_not_valid_name_the_argument(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 1)
    with pytest.raises(OptionError, match=message):
        evaluate(folder, "random", tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options", [AskOptions, ModelOptions, EvaluationOptions])
def test_unknown_names_are_refused(options: Any) -> None:
    with pytest.raises(OptionError, match="protocoll is an unknown option"):
        options(protocoll="mcq")


def test_no_model_and_a_judge_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_BASE", raising=False)
    folder = folder_of(tmp_path / "b", 1)
    with pytest.raises(UsageError, match="`model` must be one of random"):
        evaluate(folder, "nobody", tmp_path / "run")
    with pytest.raises(UsageError, match="`judge` needs `judge_url`"):
        evaluate(folder, "random", tmp_path / "run", judge="gpt")

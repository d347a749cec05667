"""Two runs against each other: planted disagreements come out exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from statsmodels.stats.contingency_tables import mcnemar

from colva.evaluation import runs
from colva.evaluation.ask import ask_questions
from colva.evaluation.models.base import Reply
from colva.evaluation.question import AskOptions
from colva.evaluation.scoring.compare import compare_runs
from colva.evaluation.scoring.outcomes import ScoredRun
from colva.evaluation.scoring.score_run import score_run
from mmvm_data.formats import bench
from tests.colva.evaluation.worlds import ScriptedModel, folder_of


def run(folder: Path, out: Path, right: set[int], name: str, limit: int | None = None, **ask_options: Any) -> ScoredRun:
    replies = {}
    for number, case in enumerate(bench.read(folder)):
        other = next(o.letter for o in case.options if o.letter != case.letter)
        replies[case.id] = Reply(case.letter if number in right else other)
    model, options_of_run = ScriptedModel(replies, name=name), AskOptions(**ask_options)
    with runs.open_run(out, runs.run_config(folder, options_of_run, model), overwrite=False):
        ask_questions(model, folder, options_of_run, out, limit)
        return score_run(out)


def test_planted_disagreements(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 100)
    first = run(folder, tmp_path / "one", set(range(40)), "one")
    second = run(folder, tmp_path / "two", set(range(10, 70)), "two")
    [found] = compare_runs([first, second])
    row = found.overall
    assert (row.n, row.first, row.second, row.value) == (100, 40, 60, pytest.approx(0.2))
    assert (row.test.only_first, row.test.only_second) == (10, 30)
    assert row.test.exact == pytest.approx(mcnemar([[30, 10], [30, 30]], exact=True).pvalue)
    assert row.low < 0.2 < row.high
    cases = list(bench.read(folder))
    for name, group in found.types.items():
        members = [k for k, c in enumerate(cases) if (name == "(none)" and not c.match_types) or name in _names(c)]
        only_first = sum(k < 10 for k in members)
        only_second = sum(40 <= k < 70 for k in members)
        assert (group.n, group.test.only_first, group.test.only_second) == (len(members), only_first, only_second)
        assert group.adjusted >= group.test.mid_p
    assert found.notes == ()
    assert found.to_json()["overall"]["test"]["only_second"] == 30


def _names(case: Any) -> list[str]:
    from colva.evaluation.scoring.outcomes import type_name

    return [type_name(number) for number in case.match_types]


def test_only_shared_cases_count_and_it_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "b", 20)
    first = run(folder, tmp_path / "one", set(range(20)), "same")
    second = run(folder, tmp_path / "two", set(), "same", limit=12)
    third = run(folder, tmp_path / "three", set(), "third", difficulty=4)
    found, other = compare_runs([first, second, third])
    assert (found.first, found.second, other.second) == ("same (1)", "same (2)", "third")
    assert (found.overall.n, found.overall.value) == (12, -1)
    assert found.notes == ("8 cases in the run of same (1) alone, not counted",)
    assert any("asked in other words" in note for note in other.notes)

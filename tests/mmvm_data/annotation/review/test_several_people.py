"""Several people review one benchmark, from exports: what is final, what is disputed, and who is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmvm_data import cli
from mmvm_data.annotation.review.plan import (
    ReviewPlan,
    golden_proposal,
    keep_answers,
    read_case_ids,
    read_plan,
    write_plan,
)
from mmvm_data.annotation.review.pull import ReviewPullResult, pull
from mmvm_data.annotation.review.push import ReviewPushOptions, _survey_cases, _update_plan
from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.errors import InputError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.formats.disputes import read_queue
from mmvm_data.formats.predictions import ModelAnswer
from tests.builds import make_case
from tests.mmvm_data.annotation.annotations import choice
from tests.mmvm_data.annotation.review.grids import write_grids
from tests.worlds import tree

Work = tuple[str, str, list[dict[str, Any]]]
"""Person, verdict and changed results."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_grids(tmp_path / "b", (3, 4, 5))
    return tmp_path / "b"


def annotate(folder: Path, work: dict[int, list[Work]], starred: str = "", hour: int = 1) -> ReviewPullResult:
    """Pull an export in which people have worked on the cases of these positions."""
    golden = set(read_plan(folder).golden)
    tasks = []
    for position, case in enumerate(bench.read(folder)):
        shown = golden_proposal(case) if case.id in golden else case
        task = build_task(shown, str, 2)
        annotations = []
        for number, (person, verdict, changes) in enumerate(work.get(position, [])):
            replaced = {change["from_name"] for change in changes}
            results = [r for r in task["predictions"][0]["result"] if r["from_name"] not in replaced]
            annotations.append(
                {
                    "id": 10 * position + number,
                    "unique_id": f"{position}-{number}",
                    "completed_by": {"email": person},
                    "updated_at": f"2030-01-01T{hour:02d}:00:{number:02d}Z",
                    "ground_truth": person == starred,
                    "result": [*results, *changes, choice("verdict", verdict)],
                }
            )
        tasks.append({"id": position, "data": task["data"], "annotations": annotations})
    export = folder.parent / "export.json"
    export.write_text(json.dumps(tasks))
    return pull(folder, None, None, export)


def states(folder: Path) -> list[str]:
    return [case.review.state for case in bench.read(folder)]


def test_only_unanimous_or_adjudicated_cases_are_final(folder: Path) -> None:
    write_plan(folder, ReviewPlan(overlap=2))
    other = choice("answer", "C. 3")
    work: dict[int, list[Work]] = {
        0: [("a@x", "accept", []), ("b@x", "accept", [])],
        1: [("a@x", "accept", []), ("b@x", "fix", [other])],
        2: [("a@x", "reject", [])],
    }
    done = annotate(folder, work)
    assert done.changed == ["case_000000"] and done.problems == []
    assert states(folder) == ["accepted", "proposed", "proposed"]
    assert (done.disputed, done.waiting) == ({"case_000001": ("answer",)}, 1)
    (dispute,) = read_queue(folder)
    assert dispute.case == "case_000001"
    assert dispute.describe() == ["a@x: accepted, object 2, CL", "b@x: fixed, object 3, CL"]
    before = tree(folder)
    assert annotate(folder, work).changed == []
    assert tree(folder) == before
    # one annotation is marked as ground truth
    work[1][1] = ("c@x", "fix", [other])
    decided = annotate(folder, work, starred="c@x", hour=2)
    assert decided.changed == ["case_000000", "case_000001"]  # the first was submitted again
    assert [case.answer for case in bench.read(folder)] == [2, 3, 2]
    assert decided.disputed == {} and read_queue(folder) == []


def test_an_adjudicators_annotation_decides(folder: Path) -> None:
    write_plan(folder, ReviewPlan(overlap=2, adjudicators=("c@x",)))
    work: dict[int, list[Work]] = {0: [("a@x", "unsure", []), ("b@x", "unsure", []), ("c@x", "reject", [])]}
    done = annotate(folder, work)
    assert (done.changed, done.disputed) == (["case_000000"], {})
    case = next(bench.read(folder))
    assert (case.review.state, case.review.by) == ("rejected", "c@x")
    measured = json.loads((folder / "annotation/agreement.json").read_text())
    assert list(measured["people"]) == ["a@x", "b@x"]


def test_golden_cases_measure_people_and_are_never_changed(folder: Path) -> None:
    names = [case.id for case in bench.read(folder)]
    trap = next(case for case in bench.read(folder) if golden_proposal(case) != case)
    position = names.index(trap.id)
    write_plan(folder, ReviewPlan(golden=(trap.id,)))
    work: dict[int, list[Work]] = {
        position: [("a@x", "accept", []), ("b@x", "fix", [choice("answer", "B. 2")]), ("c@x", "unsure", [])]
    }
    before = (folder / bench.CASES).read_bytes()
    done = annotate(folder, work)
    assert done.changed == [] and done.problems == []
    assert (folder / bench.CASES).read_bytes() == before
    assert {person: (g["cases"], g["right"]) for person, g in done.golden.items()} == {
        "a@x": (1, 0),
        "b@x": (1, 1),
        "c@x": (1, 0),
    }
    result = CliRunner().invoke(
        cli.cli, ["review", "pull", str(folder), "--export", str(folder.parent / "export.json")]
    )
    assert "b@x: 1 of 1 golden case right" in result.output


def test_half_of_the_golden_cases_propose_a_wrong_answer() -> None:
    cases = [make_case(i) for i in range(1, 60) if len(make_case(i).candidates) > 2]
    shown = [golden_proposal(case) for case in cases]
    wrong = [new for new, case in zip(shown, cases, strict=True) if new.answer != case.answer]
    assert 0.3 < len(wrong) / len(cases) < 0.7
    assert all(isinstance(Case.model_validate(new.model_dump()), Case) and new.rationale is None for new in wrong)
    assert shown == [golden_proposal(case) for case in cases]


def test_answers_of_models_are_kept_for_later_pushes(folder: Path) -> None:
    assert keep_answers(folder, ()) == {}
    given = folder.parent / "given.jsonl"
    given.write_text(
        '{"id": "case_000001", "model": "a", "answer": "B", "text": "It is B."}\n'
        '{"id": "case_000001", "model": "b\u00e9", "answer": null}\n'
    )
    answers = keep_answers(folder, (given,))
    assert answers["a"]["case_000001"] == ModelAnswer("B", "It is B.")
    kept = keep_answers(folder, ())
    assert kept == {"a": {"case_000001": ModelAnswer("B", "")}, "b\u00e9": {"case_000001": ModelAnswer(None, "")}}
    given.write_text('{"id": "case_000002", "model": "c", "answer": "A"}\n')
    assert keep_answers(folder, (given,)) == keep_answers(folder, ()) == {"c": {"case_000002": ModelAnswer("A", "")}}
    (folder / "annotation/answers.jsonl").write_text("[]\n")
    with pytest.raises(InputError, match=r"annotation/answers.jsonl"):
        keep_answers(folder, ())


def test_a_plan_keeps_what_a_push_does_not_name(folder: Path) -> None:
    survey = _survey_cases(folder)
    golden = folder.parent / "golden.txt"
    golden.write_text("case_000002\n\n case_000000 \n")
    plan = _update_plan(folder, ReviewPushOptions(annotators=("a@x", "b@x"), golden=golden), survey)
    assert plan == ReviewPlan(overlap=2, annotators=("a@x", "b@x"), golden=("case_000000", "case_000002"))
    write_plan(folder, plan)
    assert _update_plan(folder, ReviewPushOptions(), survey) == plan == read_plan(folder)
    assert _update_plan(folder, ReviewPushOptions(overlap=1), survey).overlap == 1
    with pytest.raises(OptionError, match="overlap must be at most the number of annotators, 2"):
        _update_plan(folder, ReviewPushOptions(overlap=3), survey)
    golden.write_text("case_000000\ncase_7\n")
    with pytest.raises(InputError, match=r"line 2: there is no case 'case_7'"):
        read_case_ids(golden, survey.ids)


@pytest.mark.parametrize("text", ["[]", '{"overlap": 0}', "{", '{"golden": 3}'])
def test_a_damaged_plan_is_named(folder: Path, text: str) -> None:
    (folder / "annotation").mkdir()
    (folder / "annotation/review.json").write_text(text)
    with pytest.raises(InputError, match=r"review\.json"):
        read_plan(folder)


@pytest.mark.parametrize("text", ['{"adjudicate": 3}', '{"adjudicate": {"a": {}}}', "[]", '{"adjudicate": {"a": 1}}'])
def test_a_damaged_queue_is_named(folder: Path, text: str) -> None:
    (folder / "annotation").mkdir()
    (folder / "annotation/agreement.json").write_text(text)
    with pytest.raises(InputError, match=r"agreement\.json"):
        read_queue(folder)

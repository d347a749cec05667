"""The order of the list of tasks."""

from __future__ import annotations

import pytest

from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.types import Case, Region
from mmvm_data.formats.difficulty import rate_difficulty
from mmvm_data.formats.predictions import AnswersByModel, ModelAnswer
from tests.builds import make_case

CASE = make_case(4)
RIGHT = next(o.letter for o in CASE.options if o.number == CASE.answer)
WRONG = next(o.letter for o in CASE.options if o.number not in (None, CASE.answer))


def answers(*letters: str) -> AnswersByModel:
    return {f"model {k}": {CASE.id: ModelAnswer(letter, "")} for k, letter in enumerate(letters)}


def with_query(side: float) -> Case:
    return CASE.model_copy(update={"query": (Region(id="q", box=(0, 0, side, side)),)})


def test_harder_cases_have_a_higher_score() -> None:
    base = rate_difficulty(CASE)
    assert CASE.provenance is not None
    alike = CASE.model_copy(update={"provenance": CASE.provenance.model_copy(update={"look_alikes": 3})})
    fewer = CASE.model_copy(update={"options": CASE.options[-2:]})
    assert rate_difficulty(alike).score > base.score > rate_difficulty(fewer).score
    assert rate_difficulty(with_query(2)).score > rate_difficulty(with_query(8)).score
    assert rate_difficulty(with_query(20)).score == rate_difficulty(with_query(40)).score
    assert base.disagreement is None


@pytest.mark.parametrize(
    ("letters", "disagreement"), [([RIGHT] * 3, 0.0), ([WRONG] * 3, 0.0), ([RIGHT, RIGHT, WRONG, "Z"], 0.5)]
)
def test_models_raise_the_score_where_they_are_wrong(letters: list[str], disagreement: float) -> None:
    rated = rate_difficulty(CASE, answers(*letters))
    assert rated.disagreement == disagreement
    easy, hard = rate_difficulty(CASE, answers(RIGHT)).score, rate_difficulty(CASE, answers(WRONG)).score
    assert easy <= rated.score <= hard and easy < hard
    assert rate_difficulty(CASE, {"m": {"another": ModelAnswer("A", "")}}) == rate_difficulty(CASE)


def test_tasks_hold_what_the_list_shows() -> None:
    plain = build_task(CASE, str, 2)["data"]
    assert plain["difficulty"] == rate_difficulty(CASE).score and "disagreement" not in plain
    rated = rate_difficulty(CASE, answers(RIGHT, WRONG))
    data = build_task(CASE, str, 2, difficulty=rated)["data"]
    assert (data["difficulty"], data["disagreement"]) == rated

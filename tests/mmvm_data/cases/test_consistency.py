"""Whether answer, rationale, cues, match types and options of a record agree."""

from __future__ import annotations

from typing import Any

import pytest

from mmvm_data.cases.consistency import (
    cue_conflict,
    find_conflicts,
    needs_second_look,
    rationale_conflict,
    second_look,
    with_second_look,
)
from mmvm_data.core.types import Case, Cue, Option
from tests.builds import make_case


def case_of(answer: int | None, rationale: str | None = None, **more: Any) -> Case:
    """A case with candidates 1 to 5."""
    changes = {"answer": answer, "rationale": rationale, "match_types": (), **more}
    return make_case(3).model_copy(update=changes)


@pytest.mark.parametrize(
    ("answer", "text", "conflict"),
    [
        (1, "Object 3 is the same car.", "names object 3 as the match"),
        (1, "Object 3 is the marked object: its colour is nearest.", "names object 3 as the match"),
        (1, "The answer is 3.", "names object 3 as the match"),
        (1, "It has a bell. Object 3 is a red car with a bell.", "is about object 3"),
        (None, "Object 3 is the same car.", "the answer is none of the candidates"),
        (3, "Object 3 is the same car.", None),
        (3, "Object 3 is the same car, object 1 is not.", None),
        (1, "Unlike object 3, it has a bell.", None),
        (1, "It has a bell, which object 3 lacks.", None),
        (1, "Object 3 lacks the bell of object 1.", None),
        (1, "The same bag.", None),
        (None, "Object 3 lacks the bell.", None),
        (1, "", None),
    ],
)
def test_rationales(answer: int | None, text: str, conflict: str | None) -> None:
    found = rationale_conflict(case_of(answer, text))
    assert (found is None) == (conflict is None)
    assert conflict is None or conflict in str(found)
    assert needs_second_look(case_of(answer, text)) == found


@pytest.mark.parametrize(
    ("answer", "cue", "conflict"),
    [
        (1, Cue(type=1, score=1, evidence="its colour is nearest", measures={"rival": 1.0}), "which is the answer"),
        (1, Cue(type=7, score=1, evidence="it touches the bag", measures={"partner": 1.0}), "which is the answer"),
        (1, Cue(type=1, score=1, evidence="object 1 is 30 apart"), "as of another one"),
        (None, Cue(type=1, score=1, evidence="its colour is nearest"), "none of the candidates"),
        (1, Cue(type=1, score=1, evidence="object 2 is the same", source="human"), "names object 2"),
        (1, Cue(type=1, score=1, evidence="object 1 has a red bell", source="human"), None),
        (1, Cue(type=1, score=1, evidence="object 2 is 30 apart", measures={"rival": 2.0}), None),
    ],
)
def test_cues(answer: int | None, cue: Cue, conflict: str | None) -> None:
    found = cue_conflict(case_of(answer), cue)
    assert (found is None) == (conflict is None)
    assert conflict is None or conflict in str(found)


def test_a_record_that_agrees_has_no_conflicts() -> None:
    assert all(find_conflicts(make_case(i)) == [] for i in range(60))


def test_match_types_and_options() -> None:
    cue = Cue(type=3, score=1, evidence="a logo", source="human")
    assert find_conflicts(case_of(1, match_types=(1,), cues=(cue,))) == [
        ("match_types", "lack TM, which cues of a person name")
    ]
    assert find_conflicts(case_of(1, match_types=(1, 3), cues=(cue,))) == []
    options = (Option(letter="A", number=2), Option(letter="A", number=99))
    fields = [what for field, what in find_conflicts(case_of(1, options=options)) if field == "options"]
    assert [text.split()[0] for text in fields] == ["do", "offer", "repeat"]


def test_marks_leave_no_trace_when_they_are_removed() -> None:
    case = case_of(1, extra={"tags": ["odd"]})
    assert with_second_look(case, {"rationale": None}) is case
    marked = with_second_look(case, {"rationale": "was written for object 2"})
    assert second_look(marked) == {"rationale": "was written for object 2"}
    assert find_conflicts(marked) == [("rationale", "needs a second look: was written for object 2")]
    assert Case.model_validate_json(marked.model_dump_json()) == marked
    cleared = with_second_look(marked, {"rationale": None})
    assert cleared == case and cleared.model_dump_json() == case.model_dump_json()


@pytest.mark.parametrize(
    ("case", "conflicts"),
    [
        (case_of(1, "Object 3 is the same."), [("rationale", "names object 3 as the match, the answer is object 1")]),
        (
            case_of(None, "Object 3 is the same."),
            [("rationale", "names object 3 as the match, the answer is none of the candidates")],
        ),
        (case_of(1, "Object 3 has a bell."), [("rationale", "is about object 3, the answer is object 1")]),
        (
            case_of(1, "Object 9 has a bell. Object 4 too."),
            [("rationale", "is about object 4, the answer is object 1")],
        ),
        (
            case_of(None, cues=(Cue(type=4, score=1, evidence="it is large"),)),
            [("cues", "SZ sets an answer apart, but none of the candidates is correct")],
        ),
        (
            case_of(2, cues=(Cue(type=7, score=1, evidence="it touches it", measures={"partner": 2.0}),)),
            [("cues", "BR compares the answer with object 2, which is the answer")],
        ),
        (
            case_of(
                2, cues=(Cue(type=1, score=1, evidence="OBJECT 2 is 30 apart"), Cue(type=2, score=1, evidence="-"))
            ),
            [("cues", "CL speaks of object 2 as of another one, but it is the answer")],
        ),
        (
            case_of(
                2, cues=(Cue(type=3, score=1, evidence="object 4 is the match", source="human"),), match_types=(3,)
            ),
            [("cues", "TM names object 4 as the match, the answer is object 2")],
        ),
        (
            case_of(
                2, match_types=(2,), cues=tuple(Cue(type=t, score=1, evidence="-", source="human") for t in (5, 2, 3))
            ),
            [("match_types", "lack TM, RP, which cues of a person name")],
        ),
        (
            case_of(
                2, options=(Option(letter="A", number=7), Option(letter="B", number=6), Option(letter="C", number=None))
            ),
            [("options", "do not offer the answer, object 2"), ("options", "offer object 6, which is not a candidate")],
        ),
        (
            case_of(None, options=(Option(letter="A", number=1), Option(letter="B", number=1))),
            [
                ("options", "do not offer the answer, none of the candidates"),
                ("options", "repeat a letter or an object"),
            ],
        ),
        (
            case_of(1, options=(Option(letter="A", number=1), Option(letter="A", number=None))),
            [("options", "repeat a letter or an object")],
        ),
    ],
)
def test_conflicts_in_words(case: Case, conflicts: list[tuple[str, str]]) -> None:
    assert find_conflicts(case) == conflicts


def test_what_is_marked_already_is_not_judged_again() -> None:
    cue = Cue(type=4, score=1, evidence="object 1 is larger")
    case = case_of(1, "Object 3 is the same.", cues=(cue,))
    assert [field for field, _ in find_conflicts(case)] == ["rationale", "cues"]
    marked = with_second_look(case, {"cues": "moved", "rationale": "moved"})
    looks = [("cues", "needs a second look: moved"), ("rationale", "needs a second look: moved")]
    assert find_conflicts(marked) == looks
    assert needs_second_look(marked) == "moved"
    assert needs_second_look(with_second_look(case, {"cues": "moved"})) == rationale_conflict(case)
    assert second_look(case_of(1, extra={"second_look": "odd"})) == {}
    assert second_look(case_of(1, extra={"second_look": {"cues": 3}})) == {"cues": "3"}
    partly = with_second_look(marked, {"cues": None})
    assert partly.extra["second_look"] == {"rationale": "moved"}
    assert with_second_look(partly, {"rationale": "moved"}) is partly

"""The prompt, the template, and the check of replies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmvm_data.annotation.rationale.text import build_user_prompt, check_reply, fill_template
from mmvm_data.cases.claims import claimed_matches
from mmvm_data.core.types import Case, Cue
from tests.builds import make_case

CASE = make_case(4)  # 6 candidates
ANSWER = CASE.answer
OTHER = 1 if ANSWER != 1 else 2
NONE = make_case(9)


@pytest.mark.parametrize(
    "text",
    [
        f"Object {ANSWER} wears the same striped shirt as the query; object {OTHER} has a plain one.",
        f"Object {ANSWER} is the query, unlike object {OTHER}, which is much taller.",
        f"The query has a white tail. Object {ANSWER} has it too, whereas objects {OTHER} and 3 do not match.",
        f"The same long ears are seen on object {ANSWER}, but object {OTHER} has short ones.",
        f"Its long ears do not match object {OTHER}, they are those of object {ANSWER}.",
        f"Object {OTHER} is not the query: only object {ANSWER} has the long ears.",
    ],
)
def test_check_accepts(text: str) -> None:
    assert check_reply(text, CASE) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("NOT VISIBLE", "sees no reason"),
        ("Object 3.", "characters"),
        (f"Object {ANSWER} is the query. " * 80, "characters"),
        ("It is the one in the striped shirt, plainly.", "does not name the correct object"),
        (f"Object {OTHER} is the query, since it wears the same shirt.", "does not name the correct object"),
        (f"Object {OTHER} is the query, since object {ANSWER} is taller.", f"names object {OTHER} as the match"),
        (f"Objects {ANSWER} and {OTHER} both match the query very well.", f"names object {OTHER} as the match"),
        (f"Object {OTHER} is the query, it does not differ; object {ANSWER} lacks ears.", f"names object {OTHER}"),
        (f"The hat matches object {OTHER} and differs from that of object {ANSWER}.", f"names object {OTHER}"),
        (f"Object {ANSWER} looks close, the answer is {OTHER} because of the hat.", f"names object {OTHER}"),
        (f"Object {ANSWER} is the query, and object 77 is behind it.", "object 77, which is not a candidate"),
        (f"As the hint says, object {ANSWER} has the same colour.", "'hint'"),
        (f"I cannot see much, but object {ANSWER} has the same colour.", "is about the task"),
        (f"Object {ANSWER} has the same colour, so choose option Z in the list.", "option Z"),
    ],
)
def test_check_rejects(text: str, reason: str) -> None:
    assert reason in (check_reply(text, CASE) or "")


def test_none_of_the_above() -> None:
    assert (
        check_reply("None of the candidates is the query: the most similar, object 1, lacks its white tail.", NONE)
        is None
    )
    assert "none of" in (check_reply("The query has a long white tail and walks away.", NONE) or "")
    assert "object 1" in (check_reply("Object 1 is the query, and none of the others has its tail.", NONE) or "")


@given(st.text())
def test_check_handles_any_text(text: str) -> None:
    for case in (CASE, NONE):
        assert check_reply(text, case) is None or check_reply(text, case)


@given(st.sampled_from([c for c in map(make_case, range(40)) if c.answer and len(c.candidates) > 1]), st.data())
def test_wrong_number_is_rejected(case: Case, data: st.DataObject) -> None:
    wrong = data.draw(st.sampled_from([c.number for c in case.candidates if c.number != case.answer]))
    text = data.draw(
        st.sampled_from(["Object {} is the query, it has a bell.", "It matches object {}: the bell is the same."])
    )
    assert check_reply(text.format(wrong), case)
    assert check_reply(text.format(wrong) + f" Object {case.answer} has no bell at all.", case)


CUES = (
    Cue(type=1, score=0.9, evidence="its colour is nearest: 3 apart in CIELAB, object 5 is 40 apart"),
    Cue(type=8, score=0.5, evidence="its pattern recurs: 9 details are found again, on object 5 only 2"),
)


def test_template_and_prompt() -> None:
    text = fill_template(CASE, CUES)
    assert text and f"object {ANSWER}" in text.lower() and text.count(". ") == 1 and text.endswith(".")
    assert claimed_matches(text) <= {ANSWER}
    assert fill_template(CASE, ()) is None and fill_template(NONE, CUES) is None
    lines, task = build_user_prompt(CASE, CUES)
    assert len(lines) == len(CASE.frames)
    assert f"Object {ANSWER} is the query" in task and "- colour: its colour" in task
    assert "None of the candidates" in build_user_prompt(NONE, ())[1]
    assert "cyan box" in build_user_prompt(make_case(2), ())[0][0]

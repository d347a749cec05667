"""Which of several people's annotations counts, and what goes to the adjudication queue."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmvm_data.annotation.review.consensus import Opinion, Verdict, decide, differing_fields
from mmvm_data.core import masks
from mmvm_data.core.types import Case, Review
from tests.builds import make_case

BASE = make_case(1)


def case_of(state: str = "accepted", **changes: Any) -> Case:
    return BASE.model_copy(update={"review": Review(state=state), **changes})  # type: ignore[arg-type]


def opinion(by: str, at: int, case: Case, is_decision: bool = False) -> Opinion[int]:
    return Opinion(by, (f"{at:03d}", at), case, is_decision, at)


def decided(*opinions: Opinion[int], overlap: int = 2, adjudicators: tuple[str, ...] = ()) -> Verdict[int]:
    return decide(opinions, overlap, adjudicators)


def test_one_opinion_is_final_when_enough_people_share_it() -> None:
    alone = decided(opinion("a", 1, case_of()))
    assert (alone.final, alone.missing, alone.disputed) == (None, 1, ())
    twice = decided(opinion("a", 1, case_of()), opinion("a", 2, case_of()))
    assert (twice.final, twice.missing) == (None, 1)
    both = decided(opinion("b", 5, case_of("fixed")), opinion("a", 1, case_of()))
    assert both.final is not None and both.final.by == "b" and both.disputed == ()
    assert decided(opinion("a", 1, case_of()), opinion("b", 2, case_of()), overlap=3).final is None


def test_the_latest_annotation_of_each_person_is_their_opinion() -> None:
    changed = decided(
        opinion("a", 1, case_of(answer=1)), opinion("b", 2, case_of(answer=2)), opinion("a", 3, case_of(answer=2))
    )
    assert changed.final is not None and changed.final.source == 3


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (case_of(answer=None), ("answer",)),
        (case_of(answer=1, match_types=(1, 2, 3)), ("match_types",)),
        (case_of("rejected"), ("verdict",)),
        (case_of("rejected", answer=2), ("verdict",)),
        (case_of("unsure"), ("verdict",)),
        (case_of("fixed", answer=2, match_types=(8,)), ("answer", "match_types")),
    ],
)
def test_what_people_disagree_about(other: Case, fields: tuple[str, ...]) -> None:
    verdict = decided(opinion("a", 1, case_of(answer=1)), opinion("b", 2, other))
    assert verdict.final is None and verdict.missing == 0
    assert verdict.disputed == fields


def test_two_who_are_not_sure_decide_nothing() -> None:
    verdict = decided(opinion("a", 1, case_of("unsure")), opinion("b", 2, case_of("unsure")))
    assert (verdict.final, verdict.disputed) == (None, ("verdict",))


def test_masks_differ_below_an_overlap() -> None:
    case = case_of()
    frame = case.frames[-1]

    def with_mask(rows: int) -> Case:
        mask = np.zeros((frame.height, frame.width), np.uint8)
        mask[:rows, :10] = 1
        region = case.candidates[0].region.model_copy(update={"mask": masks.encode(mask), "box": None})
        first = case.candidates[0].model_copy(update={"region": region})
        return case.model_copy(update={"candidates": (first, *case.candidates[1:])})

    assert differing_fields([with_mask(20), with_mask(17)]) == ()
    assert differing_fields([with_mask(20), with_mask(15)]) == ("masks",)


def test_ground_truth_decides_and_else_an_adjudicator() -> None:
    a, b = opinion("a", 1, case_of(answer=1)), opinion("b", 2, case_of(answer=2))
    starred = decided(opinion("a", 1, case_of(answer=1), True), b)
    assert starred.final is not None and starred.final.by == "a" and starred.disputed == ()
    curated = decided(a, b, opinion("c", 3, case_of("rejected")), adjudicators=("c",))
    assert curated.final is not None and curated.final.by == "c"
    assert [o.by for o in curated.opinions] == ["a", "b"]
    third = decided(a, b, opinion("c", 3, case_of("rejected")))
    assert third.final is None and third.disputed == ("verdict", "answer")
    early = decided(opinion("c", 1, case_of()), adjudicators=("c",))
    assert early.final is not None and early.missing == 0

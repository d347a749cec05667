"""What a case proposes on the page."""

from __future__ import annotations

from typing import Any

from mmvm_data.annotation.review.task import build_task
from mmvm_data.core.types import Cue
from tests.builds import make_case

CUES = (Cue(type=5, score=0.9, evidence="first from the left in both"), Cue(type=1, score=0.4, evidence="4 apart"))


def ticked(**changes: Any) -> list[str]:
    case = make_case(1, **changes)
    results = build_task(case, lambda path: path, 2)["predictions"][0]["result"]
    return [text for r in results if r["from_name"] == "match_types" for text in r["value"]["choices"]]


def test_match_types_of_cues_are_ticked_until_a_person_has_chosen() -> None:
    assert ticked(match_types=(), cues=CUES) == ["CL colour", "RP relative position"]
    assert ticked(match_types=(3,), cues=CUES) == ["TM textual or logo marker"]
    assert ticked(match_types=()) == []


def test_first_option_brings_the_style_of_its_case_and_keeps_its_text() -> None:
    data = [build_task(make_case(1), lambda path: path, num_images)["data"] for num_images in (2, 3)]
    first, *others = data[0]["options"]
    assert first["value"] == "A. 1" and first["html"].startswith("A. 1<style>.mmvm{--query-x1:")
    assert not any("html" in option for option in others)
    # a page for three images shows the last of two once
    assert data[1]["options"][0]["html"] == first["html"].replace(
        "</style>", ".mmvm-marks .mmvm-side:nth-child(2){visibility:hidden;opacity:0;pointer-events:none}</style>"
    )

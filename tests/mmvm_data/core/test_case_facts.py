"""Facts of a case that its record holds in one of two fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmvm_data.core import case_facts, masks
from mmvm_data.core.types import Candidate, Case, Frame, Option, Provenance, Region

FRAMES = tuple(Frame(path=f"{k}.jpg", index=k, width=16, height=12) for k in range(2))
REGION = Region(id="1", box=(1, 2, 3, 4))


def make_case(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "id": "case_000000",
        "frames": FRAMES,
        "query": (REGION,),
        "candidates": (Candidate(number=1, region=REGION),),
        "answer": 1,
        "question": "which?",
        "options": (Option(letter="A", number=1), Option(letter="B", number=None)),
    }
    return Case(**(fields | changes))


PROVENANCE = Provenance(source="davis", video="tennis", frames=FRAMES, tracks=("1",), seed=0, ordinal=0, gap=1)


@pytest.mark.parametrize(
    ("fields", "source", "video"),
    [
        ({"provenance": PROVENANCE, "extra": {"source": "other", "video": "other"}}, "davis", "tennis"),
        ({"extra": {"source": "mose", "video": 7}}, "mose", "7"),
        ({"extra": {"source": "", "video": ""}}, "(unknown)", None),
        ({}, "(unknown)", None),
    ],
)
def test_source_and_video_come_from_the_provenance_or_from_a_column(
    fields: dict[str, Any], source: str, video: str | None
) -> None:
    case = make_case(**fields)
    assert case_facts.source_name(case) == source
    assert case_facts.video_id(case) == video


def test_letter_of_the_answer() -> None:
    assert case_facts.answer_letter(make_case()) == "A"
    assert case_facts.answer_letter(make_case(answer=None)) == "B"
    assert case_facts.answer_letter(make_case(options=(Option(letter="A", number=None),))) is None


def test_area_of_a_mask_and_of_a_box() -> None:
    bitmap = np.zeros((12, 16), np.uint8)
    bitmap[2:5, 3:9] = 1
    assert case_facts.region_area(Region(id="1", mask=masks.encode(bitmap))) == 18
    assert case_facts.region_area(Region(id="1", box=(1, 2, 2.5, 3.1))) == 8  # 7.75

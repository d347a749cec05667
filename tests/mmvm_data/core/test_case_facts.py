"""Facts of a case that its record holds in one of two fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmvm_data.core import case_facts, masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Candidate, Case, Frame, Option, Provenance, Region, Rle

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


def test_whole_masks_and_boxes_are_no_error() -> None:
    mask = masks.encode(np.ones((12, 16), np.uint8))
    case_facts.check_masks(make_case())
    case_facts.check_masks(make_case(query=(Region(id="1", mask=mask),)))


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (masks.encode(np.ones((12, 15), np.uint8)), r"mask of object '7' is \(12, 15\), the image \(12, 16\)"),
        (masks.encode(np.ones((3, 3), np.uint8)).model_copy(update={"size": (12, 16)}), "'7': runs cover 9 pixels"),
    ],
    ids=["another size", "too few runs"],
)
def test_a_broken_mask_is_named(mask: Rle, reason: str) -> None:
    region = Region(id="7", mask=mask)
    broken = make_case(candidates=(Candidate(number=1, region=region),))
    with pytest.raises(InputError, match=rf"case_000000.*image 2.*{reason}"):
        case_facts.check_masks(broken)
    case_facts.check_masks(broken, 0)
    with pytest.raises(InputError, match="image 1"):
        case_facts.check_masks(make_case(query=(region,)))

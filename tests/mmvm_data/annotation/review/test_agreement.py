"""Agreement of people, against values worked out by hand."""

from __future__ import annotations

import pytest

from mmvm_data.annotation.review.agreement import measure_agreement
from mmvm_data.core.types import Case, Review
from tests.builds import make_case


def _case(i: int, answer: int | None, types: tuple[int, ...] = (), state: str = "accepted") -> Case:
    return make_case(i, answer=answer, match_types=types, review=Review(state=state))  # type: ignore[arg-type]


def test_everyone_agrees() -> None:
    found = measure_agreement({"a": {"x": _case(1, 1), "y": _case(1, 1)}, "b": {"x": _case(2, 2), "y": _case(2, 2)}})
    assert found["cases"] == 2
    assert found["people"] == {"x": 2, "y": 2}
    assert found["answer"] == {"pairs": 2, "share": 1.0, "alpha": 1.0}
    assert found["verdict"] == {"pairs": 2, "share": 1.0, "alpha": None}
    assert found["mask_iou"] == 1.0
    assert found["disagreements"] == []


def test_some_do_not() -> None:
    pytest.importorskip("krippendorff")
    found = measure_agreement(
        {
            "a": {"x": _case(1, 1, (1,)), "y": _case(1, 2)},
            "b": {"x": _case(2, 2), "y": _case(2, 2)},
            "c": {"x": _case(3, 1), "y": _case(3, 1)},
            "d": {"x": _case(4, 1)},
            "e": {"x": _case(4, 1), "y": _case(4, 1, state="rejected")},
        }
    )
    assert found["cases"] == 4
    # values 1 2 | 2 2 | 1 1: observed disagreement 2/6, expected 18/30
    assert found["answer"]["alpha"] == pytest.approx(1 - (2 / 6) / (18 / 30), abs=1e-6)
    assert found["answer"]["share"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["match_types"]["CL"]["share"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["verdict"]["share"] == 0.75
    assert found["disagreements"] == ["a", "e"]

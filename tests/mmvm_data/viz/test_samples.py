"""The fields of a case in FiftyOne, as plain values."""

from __future__ import annotations

from mmvm_data.core.types import Cue
from mmvm_data.viz.samples import FACTS, case_fields
from tests.builds import make_case


def test_cues_show_their_score_and_evidence() -> None:
    facts = case_fields(make_case(1, cues=(Cue(type=5, score=0.9, evidence="first from the left in both"),)))
    assert facts["cues"] == ["RP 0.90: first from the left in both"]
    assert case_fields(make_case(1))["cues"] == []
    assert {fact.name for fact in FACTS} >= set(facts) - {"agreed_tags"}

"""Cases as the audit learns them, without files."""

from __future__ import annotations

from mmvm_data.audit.case_measures import measure_case
from mmvm_data.audit.case_table import LearnedCase
from mmvm_data.audit.inspected_case import InspectedCase, answer_baselines
from mmvm_data.cases.baselines import CaseColors
from mmvm_data.core.types import Case


def learn_case(case: Case, video: str, source: str = "s", colors: CaseColors | None = None) -> LearnedCase:
    """What baselines answer to a case of a video of a source, and what the learned one reads of it."""
    inspected = InspectedCase(case.id, source, video, measure_case(case, colors), (), b"")
    (answered,) = answer_baselines([inspected])
    assert answered.learned is not None
    return answered.learned

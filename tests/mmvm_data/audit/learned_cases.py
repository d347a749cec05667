"""Cases as the audit learns them, without files."""

from __future__ import annotations

from mmvm_data.audit.baseline_answers import answer_cases, apply_rules
from mmvm_data.audit.case_measures import MeasuredCases, measure_case
from mmvm_data.audit.case_table import CaseAnswers, LearnedCase
from mmvm_data.audit.inspected_case import name_video
from mmvm_data.audit.option_features import measure_options
from mmvm_data.cases.baselines import CaseColors, random_letter
from mmvm_data.core.types import Case


def learn_case(case: Case, video: str, source: str = "s", colors: CaseColors | None = None) -> LearnedCase:
    """What baselines answer to a case of a video of a source, and what the learned one reads of it."""
    own = measure_case(case, colors)
    measured = MeasuredCases([own])
    letters = {name: str(letters[0]) for name, letters in answer_cases(measured).items()}
    answers = CaseAnswers(
        video=name_video(source, video, case.id),
        answer=own.answer,
        none=own.none,
        options=len(own.letters),
        offered=len(own.regions) - 1,
        letters={"random": random_letter(case.id, own.letters)}
        | {n: letter for n, letter in letters.items() if letter},
        rules={name: tuple(letters[0].tolist()) for name, letters in apply_rules(measured).items()},
    )
    return LearnedCase(answers, source, own.letters, measure_options(measured))

"""Cases as arrays: the same chances and gains as case by case, and the same of a part as of the cases alone."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from mmvm_data.audit.case_measures import measure_case
from mmvm_data.audit.case_table import CaseAnswers, CaseTable, LearnedCase
from mmvm_data.audit.inspected_case import InspectedCase
from tests.builds import make_case
from tests.mmvm_data.audit.learned_cases import learn_case


def chance(case: CaseAnswers, letter: str) -> float:
    """Expected score of blind choosing among answers of the kind of ``letter``."""
    if letter == case.none:
        return 1 / case.options
    return 0.0 if case.answer == case.none else 1 / max(case.offered, 1)


def make_cases(count: int) -> list[LearnedCase]:
    cases = [learn_case(make_case(k), f"v{k // 3}", "ab"[k % 2]) for k in range(count)]
    answers = replace(cases[0].answers, none="", answer="A")
    return [replace(cases[0], answers=answers), *cases[1:]]


def test_residuals_are_hit_minus_chance() -> None:
    cases, rng = make_cases(60), random.Random(4)
    table = CaseTable.from_cases(cases)
    letters = [rng.choice(["A", "B", case.answers.none, None]) for case in cases]
    others = [rng.choice("AB") for _ in cases]
    numbers = np.array([0 if letter is None else table.names.index(letter) for letter in letters], np.int16)
    for right in (None, others):
        expected = [
            0.0 if letter is None else (letter == answer) - chance(case.answers, letter)
            for case, letter, answer in zip(
                cases, letters, right or [case.answers.answer for case in cases], strict=True
            )
        ]
        codes = None if right is None else np.array([table.names.index(letter) for letter in right], np.int16)
        assert table.residuals(numbers, codes).tolist() == expected


def test_a_table_holds_what_its_cases_say() -> None:
    cases = make_cases(30)
    cases[4].answers.letters.pop("first")
    table = CaseTable.from_cases(cases)
    assert len(table) == 30
    names = np.array(table.names)
    for k, case in enumerate(cases):
        own = slice(int(table.start[k]), int(table.start[k]) + len(case.letters))
        assert tuple(names[table.letters[own]]) == case.letters
        np.testing.assert_array_equal(table.features.read()[own], case.features)
        assert {n: names[letters[k]] for n, letters in table.answers.items() if letters[k]} == case.answers.letters
        assert {n: tuple(names[letters[k]]) for n, letters in table.rules.items()} == case.answers.rules
        assert table.source_names[table.sources[k]] == case.source
        assert table.video_names[table.videos[k]] == case.answers.video


def test_cases_that_are_answered_together_have_the_answers_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmvm_data.audit.case_table._BATCH_SIZE", 7)
    cases = [make_case(k) for k in range(30)]
    inspected = [
        InspectedCase(case.id, "s", f"v{k // 3}", None if k == 9 else measure_case(case), (), b"")
        for k, case in enumerate(cases)
    ]
    table = CaseTable.from_inspected(inspected)
    alone = CaseTable.from_cases(learn_case(case, f"v{k // 3}") for k, case in enumerate(cases) if k != 9)
    assert len(table) == 29 and table.video_names == alone.video_names
    np.testing.assert_array_equal(table.features.read(), alone.features.read())
    np.testing.assert_array_equal(table.start, alone.start)
    names, others = np.array(table.names), np.array(alone.names)
    pairs = [(getattr(table, name), getattr(alone, name)) for name in ("right", "none", "letters")]
    for own, other in ((table.answers, alone.answers), (table.rules, alone.rules)):
        pairs += [(own[name], other[name]) for name in other]
        assert own.keys() - other.keys() <= {"nearest_color"}  # whose answers are none
    assert not table.answers["nearest_color"].any()
    for own, other in pairs:
        np.testing.assert_array_equal(names[own], others[other])


def test_a_part_is_the_table_of_its_cases() -> None:
    cases = make_cases(30)
    chosen = np.random.default_rng(0).random(30) < 0.4
    part, alone = (
        CaseTable.from_cases(cases).take(chosen),
        CaseTable.from_cases(case for case, is_chosen in zip(cases, chosen, strict=True) if is_chosen),
    )
    assert part.start.tolist() == alone.start.tolist()
    np.testing.assert_array_equal(part.features.read(), alone.features.read())
    for name in ("right", "none", "letters"):
        numbers, expected = (getattr(table, name) for table in (part, alone))
        assert [part.names[n] for n in numbers] == [alone.names[n] for n in expected]
    assert part.is_none.tolist() == alone.is_none.tolist()

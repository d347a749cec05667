"""The learned baseline: finds planted regularities that no rule names, clears sets without, names what it used."""

from __future__ import annotations

import random
import sys
from dataclasses import replace

import pytest

from mmvm_data.audit.baseline_scores import interval_width, score_baselines
from mmvm_data.audit.case_table import CaseAnswers, CaseTable, LearnedCase
from mmvm_data.audit.gradient_boosting import (
    MIN_VIDEOS,
    NO_LIBRARY,
    LearnedScore,
    score_gradient_boosting,
)
from mmvm_data.audit.option_features import COLUMNS
from tests.mmvm_data.audit.learned_cases import learn_case
from tests.mmvm_data.cases.test_baselines import make_box_case

pytest.importorskip("sklearn")


def make_learned(k: int, rng: random.Random, planted: bool, per_video: int = 4, source: str = "s") -> LearnedCase:
    """A case of four boxes. Where ``planted``, the answer is the one of a size between small and large."""
    sides = [*rng.sample([6, 7, 8, 14, 15, 16, 17], 3), 11]
    rng.shuffle(sides)
    boxes = [(rng.randrange(60), rng.randrange(40), side, side) for side in sides]
    answer = sides.index(11) if planted else rng.randrange(4)
    case = make_box_case((rng.randrange(60), rng.randrange(40), 11, rng.randrange(6, 18)), boxes, answer=answer + 1)
    return learn_case(case, str(k // per_video), source)


def make_set(count: int, planted: bool, seed: int = 0, source: str = "s") -> list[LearnedCase]:
    rng = random.Random(seed)
    return [make_learned(k, rng, planted, source=source) for k in range(count)]


def score(cases: list[LearnedCase]) -> LearnedScore:
    return score_gradient_boosting(CaseTable.from_cases(cases), interval_width())


def test_a_size_that_no_rank_names_is_found_and_explained() -> None:
    cases = make_set(160, planted=True)
    found = score(cases)
    assert found.score is not None
    assert found.score.score > 0.9
    assert found.score.beats_chance()
    assert found.importance[0][0] == "candidate's size and shape"
    assert found.importance[0][1] > 0.3
    simple = {"first", "largest"}
    assert not any(
        s.beats_chance()
        for s in score_baselines(CaseTable.from_answers(replace_rules(c) for c in cases))
        if s.baseline in simple
    )
    assert score(cases) == found


def replace_rules(case: LearnedCase) -> CaseAnswers:
    rules = dict.fromkeys(("most_common_answer", "size_rank", "place_rank"), ("A",))
    return replace(case.answers, rules=rules)


def test_answers_at_random_raise_no_alarm() -> None:
    scores = [score(make_set(120, planted=False, seed=seed)).score for seed in range(2)]
    assert not any(s.beats_chance() for s in scores if s)
    assert all(s.low <= s.chance <= s.high for s in scores if s)


def test_a_source_apart_is_named() -> None:
    cases = make_set(80, True, 1, "planted") + make_set(80, False, 2, "clean") + make_set(8, True, 3, "few")
    found = score(cases)
    assert [source for source, _ in found.by_source] == ["clean", "planted"]
    by_source = dict(found.by_source)
    assert by_source["planted"].low > 0.5 > by_source["clean"].high
    assert by_source["planted"].cases == 80
    assert found.short_sources == (("few", 2),)
    ((source, importance),) = found.importance_by_source
    assert source == "planted" and importance[0][0] == "candidate's size and shape" and importance[0][1] > 0.3
    assert found.to_json()["short_sources"] == {"few": 2}


def test_what_holds_in_one_video_alone_is_not_learned() -> None:
    """In each video the query keeps its place and the answer its letter; across videos there is nothing to learn."""
    cases = []
    for k, case in enumerate(make_set(200, planted=False)):
        rng = random.Random(k // 10)
        features = case.features.copy()
        features[:, COLUMNS.index("query_x")] = rng.random()
        answers = replace(case.answers, video=f"v{k // 10}", answer=rng.choice("ABCD"))
        cases.append(replace(case, answers=answers, features=features))
    random.Random(5).shuffle(cases)
    found = score(cases)
    assert found.score is not None
    assert not found.score.beats_chance()


def test_too_few_videos_are_not_judged() -> None:
    found = score(make_set(4 * (MIN_VIDEOS - 1), planted=True))
    assert found.score is None
    assert found.reason == f"too few videos to judge: {MIN_VIDEOS - 1}, at least {MIN_VIDEOS} are needed"
    assert score([]).score is None
    assert score(make_set(4 * MIN_VIDEOS, planted=True)).score is not None


def test_the_library_is_not_loaded_for_too_few_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "sklearn")
    cases = make_set(4 * (MIN_VIDEOS - 1), planted=True)
    assert score(cases).score is None and "sklearn" not in sys.modules


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert score(make_set(80, planted=True)).reason == NO_LIBRARY

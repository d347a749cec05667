"""Scores of the baselines: planted shortcuts are found, balanced sets are cleared."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest

from mmvm_data.audit import baseline_scores
from mmvm_data.audit.baseline_answers import ALPHABET
from mmvm_data.audit.baseline_scores import assign_folds
from mmvm_data.audit.case_table import CaseAnswers, CaseTable
from mmvm_data.cases import baselines
from tests.mmvm_data.audit.learned_cases import learn_case
from tests.mmvm_data.cases.test_baselines import make_box_case


def score_baselines(cases: list[CaseAnswers]) -> list[baseline_scores.BaselineScore]:
    return baseline_scores.score_baselines(CaseTable.from_answers(cases))


def balanced(count: int, seed: int = 0, none: float = 0.1, per_video: int = 4, options: int = 5) -> list[CaseAnswers]:
    """Cases whose answer, sizes and places say nothing."""
    rng = random.Random(seed)
    letters = "ABCDEFGHIJ"[: options - 1]
    made = []
    for k in range(count):
        answer = "ABCDEFGHIJ"[options - 1] if rng.random() < none else rng.choice(letters)
        shuffled = rng.sample(letters, len(letters))
        made.append(
            CaseAnswers(
                video=f"v{k // per_video}",
                answer=answer,
                none="ABCDEFGHIJ"[options - 1],
                options=options,
                offered=options - 1,
                letters={name: rng.choice(letters) for name in baselines.BASELINES},
                rules={
                    "most_common_answer": ("ABCDEFGHIJ"[options - 1], *(a if a in letters else "A" for a in ALPHABET)),
                    "size_rank": tuple(shuffled[:4]),
                    "place_rank": tuple(rng.sample(letters, 4)),
                },
            )
        )
    return made


def test_every_baseline_has_a_name_in_order() -> None:
    names = (*baselines.BASELINES, *baseline_scores.LEARNED_BASELINES, baseline_scores.GRADIENT_BOOSTING)
    assert names == baseline_scores.BASELINE_NAMES


def test_balanced_sets_raise_no_alarm() -> None:
    alarms = [s.baseline for seed in range(40) for s in score_baselines(balanced(300, seed)) if s.beats_chance()]
    assert len(alarms) <= 4  # 5 % of 40 are two; four is the 95th percentile


def test_videos_are_never_in_two_folds() -> None:
    rng = random.Random(0)
    cases = [replace(case, video=f"v{rng.randrange(13)}") for case in balanced(100)]
    folds = assign_folds(CaseTable.from_answers(cases), 5)
    fold_of = {case.video: fold for case, fold in zip(cases, folds.tolist(), strict=True)}
    assert [fold_of[case.video] for case in cases] == folds.tolist()
    assert sorted(np.bincount(list(fold_of.values())).tolist()) == [2, 2, 3, 3, 3]
    order = rng.sample(range(100), 100)
    shuffled = assign_folds(CaseTable.from_answers([cases[k] for k in order]), 5)
    assert shuffled.tolist() == folds[order].tolist()


def by_name(found: list[baseline_scores.BaselineScore]) -> dict[str, baseline_scores.BaselineScore]:
    return {s.baseline: s for s in found}


def test_a_planted_largest_is_found() -> None:
    rng = random.Random(1)
    made = []
    for k in range(120):
        answer = rng.randrange(4)
        boxes = [(5 + 18 * i, rng.randrange(20), rng.randrange(8, 12), 10) for i in range(4)]
        boxes[answer] = (*boxes[answer][:2], 15, 14)
        one = make_box_case((30, 30, 10, 10), boxes, answer=answer + 1)
        made.append(learn_case(one, f"v{k}").answers)
    found = by_name(score_baselines(made))
    assert found["largest"].score == 1.0
    assert found["largest"].beats_chance()
    assert found["size_rank"].beats_chance()
    assert found["size_rank"].rule == "largest"
    assert not found["first"].beats_chance()
    assert not found["most_common_answer"].beats_chance()
    assert not found["place_rank"].beats_chance()


def test_planted_letters_and_none_are_found_by_learning() -> None:
    letters = [p.letters for p in balanced(200)]
    skewed = [
        CaseAnswers(p.video, "B" if k % 2 else p.answer, p.none, p.options, p.offered, letters[k], p.rules)
        for k, p in enumerate(balanced(200))
    ]
    found = by_name(score_baselines(skewed))["most_common_answer"]
    assert found.beats_chance()
    assert found.rule == "B"
    gone = by_name(score_baselines(balanced(400, none=0.5)))["most_common_answer"]
    assert gone.beats_chance()
    assert gone.rule == "none of the above"


def test_random_is_exact() -> None:
    found = by_name(score_baselines([*balanced(10, options=5), *balanced(30, options=10)]))["random"]
    assert found.score == pytest.approx((10 / 5 + 30 / 10) / 40)
    assert not found.beats_chance()


def test_cases_of_one_video_count_less() -> None:
    def score_first(per_video: int) -> baseline_scores.BaselineScore:
        made = balanced(100, per_video=per_video)
        same = [
            CaseAnswers(p.video, p.answer, p.none, p.options, p.offered, {"first": p.answer if hit else ""}, p.rules)
            for p, hit in zip(made, [k // 10 % 2 == 0 for k in range(100)], strict=True)
        ]
        return by_name(score_baselines(same))["first"]

    alone, together = score_first(1), score_first(10)
    assert alone.score == together.score == 0.5
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_cases_that_are_all_hits_count_by_their_videos() -> None:
    made = balanced(40, per_video=10)
    same = [CaseAnswers(p.video, p.answer, p.none, p.options, p.offered, {"first": p.answer}, p.rules) for p in made]
    found = by_name(score_baselines(same))["first"]
    z = NormalDist().inv_cdf(1 - baseline_scores.ALPHA / (2 * (len(baseline_scores.BASELINE_NAMES) - 1)))
    assert (found.low, found.high) == baseline_scores.wilson_interval(1.0, 4, z)


def test_one_video_teaches_nothing() -> None:
    assert "size_rank" not in by_name(score_baselines(balanced(8, per_video=8)))
    assert score_baselines([]) == []


@pytest.mark.parametrize(("hits", "size"), [(0, 5), (3, 7), (50, 50), (123, 400)])
def test_the_interval_is_wilsons(hits: int, size: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(hits, size).proportion_ci(0.95, method="wilson")
    assert baseline_scores.wilson_interval(hits / size, size, 1.959963984540054) == pytest.approx(
        (expected.low, expected.high), abs=1e-9
    )

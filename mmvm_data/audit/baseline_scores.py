"""Scores of blind baselines on a benchmark, with intervals and the score of chance.

Chance is the expected score of blind choosing: for a baseline that names a candidate, one over the number of offered
candidates where one of them is right (and 0 where none is); for one that says "none of the above", one over the number
of options. A baseline that beats chance has found a regularity, such as answers that are the largest, or objects that
keep their place. Cases of one video are alike, so intervals count videos more than cases: Wilson's interval (JASA 1927)
at the sample size over the design effect (Kish, "Survey Sampling", 1965, section 8.2). The intervals hold with 95 % for
all baselines together (Bonferroni), so that the number of baselines raises no false alarm.

Some baselines learn from the set itself which answer, size or place is right most often. They are cross-validated over
videos in ten folds, since any set fits its own commonest answer better than chance.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_answers import describe_rules
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.core.intervals import wilson_interval

BaselineName = Literal[
    "random",
    "first",
    "largest",
    "nearest_place",
    "nearest_color",
    "same_size",
    "most_common_answer",
    "size_rank",
    "place_rank",
    "gradient_boosting",
]
BASELINE_NAMES: tuple[BaselineName, ...] = get_args(BaselineName)
GRADIENT_BOOSTING: BaselineName = "gradient_boosting"
"""The baseline that is scored by ``audit.gradient_boosting``, not here."""
LEARNED_BASELINES = ("most_common_answer", "size_rank", "place_rank")
"""Baselines that learn one rule, the one that is right most often; see ``baseline_answers``."""
ALPHA = 0.05
FOLDS = 10


@dataclass(frozen=True)
class BaselineScore:
    """The score of one baseline.

    Attributes:
        baseline: its name.
        cases: number of cases that it could answer.
        score, low, high: share of right answers, 0..1, and its interval.
        chance: expected score of blind choosing.
        rule: for a learned baseline, the rule that is right most often over the whole set.
    """

    baseline: str
    cases: int
    score: float
    low: float
    high: float
    chance: float
    rule: str | None = None

    def beats_chance(self, margin: float = 0.0) -> bool:
        """Whether the whole interval lies above chance, by more than ``margin`` (0..1)."""
        return self.baseline != "random" and self.low > self.chance + margin

    def to_json(self) -> dict[str, Any]:
        """JSON values, shares rounded to six digits."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()} | {
            "beats_chance": self.beats_chance()
        }


def score_baselines(cases: CaseTable) -> list[BaselineScore]:
    """The score of each baseline but GRADIENT_BOOSTING, in the order of BASELINE_NAMES.

    Those without a case to answer are left out.
    """
    z = interval_width()
    scores = [_score_random(cases, z)] if len(cases) else []
    for name in BASELINE_NAMES:
        if name in ("random", GRADIENT_BOOSTING):
            continue
        letters, rule = cases.answers.get(name), None
        if name in LEARNED_BASELINES:
            letters, rule = _answer_by_learning(cases, name)
        if letters is not None and letters.any():
            scores.append(score_answers(name, cases, letters, rule, z))
    return scores


def interval_width() -> float:
    """Half width of the intervals in standard deviations, such that they hold for all baselines together."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * (len(BASELINE_NAMES) - 1)))


def _score_random(cases: CaseTable, z: float) -> BaselineScore:
    """The exact expectation over all options, and the spread of single tries around it."""
    shares = 1 / cases.options
    mean = float(shares.mean())
    spread = z * math.sqrt(float((shares * (1 - shares)).sum())) / len(cases)
    return BaselineScore("random", len(cases), mean, max(0.0, mean - spread), min(1.0, mean + spread), mean)


def _answer_by_learning(cases: CaseTable, name: str) -> tuple[NDArray[np.int16] | None, str | None]:
    """The answers of a learned baseline, each fold of the videos answered by the rule that is best on the other folds,
    and the rule that is best on all."""
    folds = assign_folds(cases, FOLDS)
    if not len(cases) or folds.max() < 1:
        return None, None
    rules = cases.rules[name]
    gain = np.array([np.bincount(folds, cases.residuals(letters)) for letters in rules.T])
    total = gain.sum(axis=1)
    best = (total[:, None] - gain).argmax(axis=0)
    answers: NDArray[np.int16] = rules[np.arange(len(cases)), best[folds]]
    return answers, describe_rules()[name][int(total.argmax())]


def assign_folds(cases: CaseTable, count: int) -> NDArray[np.int64]:
    """The fold of each case, from 0, int64 [cases]: all cases of a video in one fold, about as many videos in each.

    Videos are dealt in the order of their names, so that folds do not depend on the order of the cases.
    """
    present = np.unique(cases.videos)
    order = sorted(present.tolist(), key=cases.video_names.__getitem__)
    folds = np.zeros(len(cases.video_names), np.int64)
    folds[order] = np.arange(len(order)) % count
    return folds[cases.videos]


def score_answers(name: str, cases: CaseTable, letters: NDArray[np.int16], rule: str | None, z: float) -> BaselineScore:
    """The score of a baseline's letters, int16 [cases], with its interval of ``z`` standard deviations; cases without a
    letter are left out."""
    is_answered = letters != 0
    hits = (letters == cases.right)[is_answered].astype(float)
    chances = cases.chances(letters)[is_answered]
    size = _effective_size(hits, chances, cases.videos[is_answered])
    low, high = wilson_interval(float(hits.mean()), size, z)
    return BaselineScore(name, len(hits), float(hits.mean()), low, high, float(chances.mean()), rule)


def _effective_size(hits: NDArray[np.float64], chances: NDArray[np.float64], videos: NDArray[np.int32]) -> float:
    """Number of independent cases that would give as much information: the number of cases over the design effect, and
    never more than the number of cases. It is the number of videos where all cases are hits or none is, since these say
    nothing about their spread."""
    _, groups = np.unique(videos, return_inverse=True)
    count = int(groups.max()) + 1
    if count < 2 or hits.min() == hits.max():
        return float(count)
    deviations = hits - chances - (hits - chances).mean()
    variance = float((deviations**2).sum())
    clustered = float((np.bincount(groups, deviations) ** 2).sum()) * count / (count - 1)
    return len(hits) / max(1.0, clustered / variance)

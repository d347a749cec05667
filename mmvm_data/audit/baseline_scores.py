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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mmvm_data.cases import baselines
from mmvm_data.cases.baselines import CaseGeometry
from mmvm_data.core.intervals import wilson_interval
from mmvm_data.core.types import Case

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
"""Baselines that learn one rule, the one that is right most often; see ``apply_rules``."""
ALPHA = 0.05
FOLDS = 10
_MAX_SIZE_RANK = 6  # largest to sixth largest, smallest to sixth smallest
_MAX_PLACE_RANK = 3
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class CaseAnswers:
    """What the baselines answer to one case.

    Attributes:
        video: name of the video, whose cases are alike; the case's own id when the set does not say.
        answer: the right letter.
        none: letter of "none of the above", "" without one.
        options: number of options.
        offered: number of candidates among them.
        letters: baseline -> its answer; without "nearest_color" where an image cannot be read.
        rules: learned baseline -> the answer of each of its rules.
    """

    video: str
    answer: str
    none: str
    options: int
    offered: int
    letters: dict[str, str]
    rules: dict[str, tuple[str, ...]]

    def chance(self, letter: str) -> float:
        """Expected score (0..1) of blind choosing among answers of the kind of ``letter``: candidates, or options."""
        if letter == self.none:
            return 1 / self.options
        return 0.0 if self.answer == self.none else 1 / max(self.offered, 1)


class AnswerTable:
    """The right answers of many cases and the chance of a guess, as arrays: ``CaseAnswers.chance`` for all at once."""

    def __init__(self, cases: Sequence[CaseAnswers]) -> None:
        self._codes: dict[str | None, int] = {None: -1}
        self._right = self._encode([case.answer for case in cases])
        self._none = self._encode([case.none for case in cases])
        self._chance_of_none = 1 / np.array([case.options for case in cases], np.float64)
        offered = np.array([max(case.offered, 1) for case in cases], np.float64)
        self._chance = np.where(self._right == self._none, 0.0, 1 / offered)

    def residuals(self, letters: Sequence[str | None], answers: Sequence[str] | None = None) -> NDArray[np.float64]:
        """Hit minus chance of one letter for each case, float [cases]; 0 where it is None.

        Args:
            letters: of the cases.
            answers: stand for the right ones.
        """
        codes = self._encode(letters)
        right = self._right if answers is None else self._encode(answers)
        gains = (codes == right) - np.where(codes == self._none, self._chance_of_none, self._chance)
        return np.where(codes == -1, 0.0, gains)

    def _encode(self, letters: Sequence[str | None]) -> NDArray[np.int64]:
        codes = self._codes
        for letter in set(letters) - codes.keys():
            codes[letter] = len(codes)
        return np.array([codes[letter] for letter in letters], np.int64)


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


def collect_answers(
    case: Case, video: str, letters: dict[str, str], geometry: CaseGeometry | None = None
) -> CaseAnswers:
    """The answers of all baselines to a case.

    Args:
        case: with an option for its answer.
        video: see ``CaseAnswers``.
        letters: answers of the baselines of ``baselines.BASELINES``.
        geometry: of the case, where it was measured already.

    Raises:
        ValueError: there is no option for the answer.
    """
    geometry = geometry or baselines.measure_geometry(case)
    return CaseAnswers(
        video=video,
        answer=case.letter,
        none=baselines.option_letter(case, None) or "",
        options=len(case.options),
        offered=len(geometry.numbers),
        letters=letters,
        rules=apply_rules(case, geometry),
    )


def apply_rules(case: Case, geometry: CaseGeometry | None = None) -> dict[str, tuple[str, ...]]:
    """The answer of each rule of the learned baselines, by baseline, in the order of ``describe_rules``.

    A rule that does not apply (the fifth largest of three) chooses the first option.
    """
    geometry = geometry or baselines.measure_geometry(case)
    none = baselines.option_letter(case, None)
    letters = {option.letter for option in case.options}
    first_letter, places_of = geometry.first, range(len(geometry.numbers))

    def letters_by_rank(keys: list[float], count: int) -> tuple[str, ...]:
        order = sorted(places_of, key=keys.__getitem__)  # by number where keys are equal
        chosen = [geometry.letters[k] for k in order[:count]]
        return (*chosen, *[first_letter] * (count - len(chosen)))

    sizes = [candidate.size for candidate in geometry.candidates]
    xs, ys = ([box[axis] + box[axis + 2] / 2 for _, box, *_ in geometry.candidates] for axis in (0, 1))
    from_center = [math.dist(candidate.center, (0.5, 0.5)) for candidate in geometry.candidates]
    places = [letters_by_rank(keys, _MAX_PLACE_RANK) for keys in (xs, [-x for x in xs], ys, [-y for y in ys])]
    by_center = (letters_by_rank(from_center, 1), letters_by_rank([-d for d in from_center], 1))
    return {
        "most_common_answer": (none or first_letter, *(a if a in letters else first_letter for a in _LETTERS)),
        "size_rank": letters_by_rank([-size for size in sizes], _MAX_SIZE_RANK)
        + letters_by_rank(sizes, _MAX_SIZE_RANK),
        "place_rank": tuple(chain(*places, *by_center)),
    }


def describe_rules() -> dict[str, list[str]]:
    """The rules of the learned baselines in words."""

    def describe_ranks(words: str, count: int) -> list[str]:
        return [words if k == 0 else f"number {k + 1} of the {words}" for k in range(count)]

    sides = ("leftmost", "rightmost", "topmost", "lowest")
    return {
        "most_common_answer": ["none of the above", *_LETTERS],
        "size_rank": describe_ranks("largest", _MAX_SIZE_RANK) + describe_ranks("smallest", _MAX_SIZE_RANK),
        "place_rank": [
            *(words for side in sides for words in describe_ranks(side, _MAX_PLACE_RANK)),
            "nearest to the center",
            "farthest from the center",
        ],
    }


def score_baselines(cases: Sequence[CaseAnswers]) -> list[BaselineScore]:
    """The score of each baseline but GRADIENT_BOOSTING, in the order of BASELINE_NAMES.

    Those without a case to answer are left out.
    """
    z = interval_width()
    scores = [_score_random(cases, z)] if cases else []
    for name in BASELINE_NAMES:
        if name in ("random", GRADIENT_BOOSTING):
            continue
        rule = None
        if name in LEARNED_BASELINES:
            answers, rule = _answer_by_learning(cases, name)
        else:
            answers = [(case, case.letters[name]) for case in cases if name in case.letters]
        if answers:
            scores.append(score_answers(name, answers, rule, z))
    return scores


def interval_width() -> float:
    """Half width of the intervals in standard deviations, such that they hold for all baselines together."""
    return NormalDist().inv_cdf(1 - ALPHA / (2 * (len(BASELINE_NAMES) - 1)))


def _score_random(cases: Sequence[CaseAnswers], z: float) -> BaselineScore:
    """The exact expectation over all options, and the spread of single tries around it."""
    shares = np.array([1 / case.options for case in cases])
    mean = float(shares.mean())
    spread = z * math.sqrt(float((shares * (1 - shares)).sum())) / len(cases)
    return BaselineScore("random", len(cases), mean, max(0.0, mean - spread), min(1.0, mean + spread), mean)


def _answer_by_learning(cases: Sequence[CaseAnswers], name: str) -> tuple[list[tuple[CaseAnswers, str]], str | None]:
    """The answers of a learned baseline, each fold of the videos answered by the rule that is best on the other folds,
    and the rule that is best on all."""
    folds_by_video = {video: number % FOLDS for number, video in enumerate(sorted({case.video for case in cases}))}
    if len(folds_by_video) < 2:
        return [], None
    folds = np.array([folds_by_video[case.video] for case in cases])
    table = AnswerTable(cases)
    rules = zip(*(case.rules[name] for case in cases), strict=True)
    gain = np.column_stack([table.residuals(letters) for letters in rules])
    answers = []
    for fold in range(min(FOLDS, len(folds_by_video))):
        best = int(gain[folds != fold].sum(axis=0).argmax())
        answers += [(cases[k], cases[k].rules[name][best]) for k in np.flatnonzero(folds == fold)]
    return answers, describe_rules()[name][int(gain.sum(axis=0).argmax())]


def score_answers(name: str, answers: Sequence[tuple[CaseAnswers, str]], rule: str | None, z: float) -> BaselineScore:
    """The score of a baseline's answers (cases and letters), with its interval of ``z`` standard deviations."""
    hits = np.array([letter == case.answer for case, letter in answers], float)
    chances = np.array([case.chance(letter) for case, letter in answers])
    size = _effective_size(hits, chances, [case.video for case, _ in answers])
    low, high = wilson_interval(float(hits.mean()), size, z)
    return BaselineScore(name, len(answers), float(hits.mean()), low, high, float(chances.mean()), rule)


def _effective_size(hits: NDArray[np.float64], chances: NDArray[np.float64], videos: Sequence[str]) -> float:
    """Number of independent cases that would give as much information: the number of cases over the design effect, and
    never more than the number of cases. It is the number of videos where all cases are hits or none is, since these say
    nothing about their spread."""
    _, groups = np.unique(np.array(videos), return_inverse=True)
    count = int(groups.max()) + 1
    if count < 2 or hits.min() == hits.max():
        return float(count)
    deviations = hits - chances - (hits - chances).mean()
    variance = float((deviations**2).sum())
    clustered = float((np.bincount(groups, deviations) ** 2).sum()) * count / (count - 1)
    return len(hits) / max(1.0, clustered / variance)

"""A baseline that learns from the set itself what gives its answers away: gradient boosting on numbers of each option.

It reads places, sizes, colors, numbers and letters (see ``option_features``), no images, and finds combinations that no
rule written by hand names. Videos are split into folds; each fold is answered by trees that were fitted on the others.
The importance of a group of features is the accuracy that is lost in the held-out cases when the group's values are
exchanged between options (permutation importance; Breiman, "Random Forests", Machine Learning 2001, section 10).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import GRADIENT_BOOSTING, BaselineScore, CaseAnswers, score_answers
from mmvm_data.audit.option_features import COLUMNS, FEATURE_GROUPS

MIN_VIDEOS = 10
"""A set, or a source, of fewer videos is not judged: folds are made of videos, and intervals count videos."""
FOLDS = 5
LARGE_SET, FOLDS_OF_LARGE_SET = 10_000, 2
"""Of so many cases half are enough to learn from, and fewer trees are fitted."""
_ITERATIONS, _LEAVES, _MIN_LEAF, _LEARNING_RATE = 100, 15, 20, 0.1
_MIN_CHANCE = 1e-4  # of an option: trees are not surer
_REPEATS = 3  # exchanges of a group's values, whose losses are averaged
NO_LIBRARY = "scikit-learn is not installed: pip install 'mmvm-data[audit]'"


Importance = tuple[tuple[str, float], ...]
"""Words for a group of features and the accuracy (0..1) that is lost without it, the largest loss first."""


@dataclass(frozen=True)
class LearnedCase:
    """What the baseline learns from one case.

    Attributes:
        answers: the right letter, the video and the chance of a guess.
        source: where the case comes from.
        letters: of the options.
        features: float32 [options, columns], see ``option_features``.
    """

    answers: CaseAnswers
    source: str
    letters: tuple[str, ...]
    features: NDArray[np.float32]


@dataclass(frozen=True)
class LearnedScore:
    """The score of the learned baseline.

    Attributes:
        score: on all cases; None where there is none.
        by_source: source -> its score there, where the set has several sources; without those of too few videos.
        short_sources: source -> its number of videos, for those of too few videos.
        importance: words for a group of features -> accuracy (0..1) that is lost without it, the largest loss first;
            empty where the baseline does not beat chance.
        importance_by_source: the same for each source of ``by_source`` where the baseline beats chance.
        reason: why there is no score; "" where there is one.
    """

    score: BaselineScore | None = None
    by_source: tuple[tuple[str, BaselineScore], ...] = ()
    short_sources: tuple[tuple[str, int], ...] = ()
    importance: Importance = ()
    importance_by_source: tuple[tuple[str, Importance], ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values; shares rounded to six digits."""
        return {
            "score": None if self.score is None else self.score.to_json(),
            "by_source": {source: score.to_json() for source, score in self.by_source},
            "short_sources": dict(self.short_sources),
            "importance": {group: round(loss, 6) for group, loss in self.importance},
            "importance_by_source": {
                source: {group: round(loss, 6) for group, loss in importance}
                for source, importance in self.importance_by_source
            },
            "reason": self.reason,
        }


def score_gradient_boosting(cases: Sequence[LearnedCase], z: float) -> LearnedScore:
    """Fit the baseline in folds and score it; a function of the cases and their order.

    Args:
        cases: of one set.
        z: half width of the intervals in standard deviations.
    """
    if not _is_installed():
        return LearnedScore(reason=NO_LIBRARY)
    if (count := len({case.answers.video for case in cases})) < MIN_VIDEOS:
        return LearnedScore(reason=describe_shortage(count))
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):  # threads would wait for each other longer than such small sets take
        fitted = _fit_folds(cases, np.ones(len(cases), bool))
        if fitted is None:
            return LearnedScore(reason="all options are right, or none is")
        answers = [(case.answers, letter) for case, letter in zip(cases, fitted.answer(cases), strict=True)]
        by_source, short = [], []
        sources = sorted({case.source for case in cases})
        for source in sources if len(sources) > 1 else ():
            own = [answer for case, answer in zip(cases, answers, strict=True) if case.source == source]
            if (count := len({answered.video for answered, _ in own})) >= MIN_VIDEOS:
                by_source.append((source, score_answers(GRADIENT_BOOSTING, own, None, z)))
            else:
                short.append((source, count))
        score = score_answers(GRADIENT_BOOSTING, answers, None, z)
        names = np.array([case.source for case in cases])
        groups = {source: names == source for source, own_score in by_source if own_score.beats_chance()}
        if score.beats_chance():
            groups[""] = np.ones(len(cases), bool)
        importance = _measure_importance(fitted, groups) if groups else {}
    total = importance.pop("", ())
    return LearnedScore(score, tuple(by_source), tuple(short), total, tuple(importance.items()))


@dataclass(frozen=True)
class OptionChances:
    """How likely each option of each case is right.

    Attributes:
        values: float [options of all cases]; those of a case sum to 1.
        start: first option of each case, int64 [cases].
    """

    values: NDArray[np.float64]
    start: NDArray[np.int64]

    def pick_letters(self, cases: Sequence[LearnedCase]) -> list[str]:
        """The letter of the likeliest option of each case."""
        picks = _find_first_largest(self.values, self.start)
        return [case.letters[pick] for case, pick in zip(cases, picks.tolist(), strict=True)]


def predict_held_out(cases: Sequence[LearnedCase], fitted: NDArray[np.bool_]) -> OptionChances | None:
    """How likely each option of each case is right by trees that were fitted on cases of other videos.

    Args:
        cases: of one set.
        fitted: which cases the trees are fitted on, bool [cases].

    Returns:
        None where scikit-learn is missing, fewer than MIN_VIDEOS videos have cases to fit, or a fold has nothing to
        learn.
    """
    videos = {case.answers.video for case, is_fitted in zip(cases, fitted, strict=True) if is_fitted}
    if not _is_installed() or len(videos) < MIN_VIDEOS:
        return None
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        trees = _fit_folds(cases, fitted)
        if trees is None:
            return None
        table = trees.table
        chances = trees.predict(table.features).clip(_MIN_CHANCE, 1 - _MIN_CHANCE)
        odds = chances / (1 - chances)
        odds /= np.add.reduceat(odds, table.start)[table.case]
        return OptionChances(odds, table.start)


def describe_shortage(videos: int) -> str:
    """One sentence for a set of fewer videos than are needed."""
    return f"too few videos to judge: {videos}, at least {MIN_VIDEOS} are needed"


def assign_folds(videos: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each case, int64 [cases]: all cases of a video in one fold, about as many videos in each fold.

    There are FOLDS folds, of LARGE_SET cases and more FOLDS_OF_LARGE_SET.
    """
    count = FOLDS if len(videos) < LARGE_SET else FOLDS_OF_LARGE_SET
    folds = {video: number % count for number, video in enumerate(sorted(set(videos)))}
    return np.array([folds[video] for video in videos], np.int64)


def _find_first_largest(values: NDArray[np.float64], start: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place (from 0) of the largest value of each case, the first of equal ones: int64 [cases]."""
    case = np.repeat(np.arange(len(start)), np.diff(start, append=len(values)))
    hits = np.flatnonzero(values == np.maximum.reduceat(values, start)[case])
    _, first = np.unique(case[hits], return_index=True)
    places: NDArray[np.int64] = hits[first] - start
    return places


@dataclass(frozen=True)
class _OptionTable:
    """The options of all cases, one row each.

    Attributes:
        features: float32 [rows, columns]; without columns that no row has.
        columns: their names.
        is_right: bool [rows].
        case: number of the row's case, int64 [rows].
        start: first row of each case, int64 [cases].
    """

    features: NDArray[np.float32]
    columns: tuple[str, ...]
    is_right: NDArray[np.bool_]
    case: NDArray[np.int64]
    start: NDArray[np.int64]

    @classmethod
    def from_cases(cls, cases: Sequence[LearnedCase]) -> _OptionTable:
        features = np.concatenate([case.features for case in cases])
        known = np.flatnonzero(~np.isnan(features).all(axis=0))
        counts = np.array([len(case.letters) for case in cases])
        return cls(
            features=np.ascontiguousarray(features[:, known]),
            columns=tuple(COLUMNS[k] for k in known),
            is_right=np.array([letter == case.answers.answer for case in cases for letter in case.letters]),
            case=np.repeat(np.arange(len(cases)), counts),
            start=np.cumsum(counts) - counts,
        )

    def mark_right(self, picks: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the picked option is right, bool [cases]."""
        right: NDArray[np.bool_] = self.is_right[self.start + picks]
        return right


@dataclass(frozen=True)
class _FittedFolds:
    """The options of all cases with trees for each fold of videos, fitted on cases of the others.

    Attributes:
        table: of the options.
        folds: of the cases, int64 [cases].
        models: one a fold.
    """

    table: _OptionTable
    folds: NDArray[np.int64]
    models: tuple[Any, ...]

    def predict(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """How likely each option is right by the model that has not seen its video, float [rows]."""
        chances = np.empty(len(features))
        for fold, model in enumerate(self.models):
            rows = self.folds[self.table.case] == fold
            if rows.any():
                chances[rows] = model.predict_proba(features[rows])[:, 1]
        return chances

    def pick_options(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """The option (from 0) of each case that is most likely right by the model that has not seen its video."""
        return _find_first_largest(self.predict(features), self.table.start)

    def answer(self, cases: Sequence[LearnedCase]) -> list[str]:
        """The letter of the option that is picked for each case."""
        picks = self.pick_options(self.table.features)
        return [case.letters[pick] for case, pick in zip(cases, picks, strict=True)]


def _fit_folds(cases: Sequence[LearnedCase], chosen: NDArray[np.bool_]) -> _FittedFolds | None:
    """Fit trees on the chosen cases; None where all options of a fold's other videos are right, or none is."""
    folds, table = assign_folds([case.answers.video for case in cases]), _OptionTable.from_cases(cases)
    rows = [chosen[table.case] & (folds[table.case] != fold) for fold in range(int(folds.max()) + 1)]
    if any(len(np.unique(table.is_right[own])) < 2 for own in rows):
        return None
    return _FittedFolds(table, folds, tuple(_fit(table, own) for own in rows))


def _fit(table: _OptionTable, rows: NDArray[np.bool_]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # no early stopping, which would set cases aside at random and by case, not by video
    model = HistGradientBoostingClassifier(
        learning_rate=_LEARNING_RATE,
        max_iter=_ITERATIONS,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_MIN_LEAF,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    return model.fit(table.features[rows], table.is_right[rows])


def _measure_importance(fitted: _FittedFolds, groups: dict[str, NDArray[np.bool_]]) -> dict[str, Importance]:
    """The loss of accuracy in each group of cases (bool [cases]) by group of features, none that loses nothing."""
    table = fitted.table
    right = table.mark_right(fitted.pick_options(table.features)).astype(float)
    losses: dict[str, NDArray[np.float64]] = {}
    for group, names in FEATURE_GROUPS.items():
        columns = [k for k, name in enumerate(table.columns) if name in names]
        rng = np.random.default_rng(0)
        lost = np.zeros(len(right))
        for _ in range(_REPEATS if columns else 0):
            features = table.features.copy()
            features[:, columns] = features[rng.permutation(len(features))][:, columns]
            lost += right - table.mark_right(fitted.pick_options(features))
        losses[group] = lost / _REPEATS

    def rank(cases: NDArray[np.bool_]) -> Importance:
        means = ((group, float(lost[cases].mean())) for group, lost in losses.items())
        return tuple(sorted((item for item in means if item[1] > 0), key=lambda item: (-item[1], item[0])))

    return {name: rank(cases) for name, cases in groups.items()}


def _is_installed() -> bool:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True

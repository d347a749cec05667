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
_ITERATIONS, _LEAVES, _MIN_LEAF, _LEARNING_RATE = 100, 15, 20, 0.1
_REPEATS = 3  # exchanges of a group's values, whose losses are averaged
NO_LIBRARY = "scikit-learn is not installed: pip install 'mmvm-data[audit]'"


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
        importance: words for a group of features -> accuracy (0..1) that is lost without it, the largest loss first;
            empty where the baseline does not beat chance.
        reason: why there is no score; "" where there is one.
    """

    score: BaselineScore | None = None
    by_source: tuple[tuple[str, BaselineScore], ...] = ()
    importance: tuple[tuple[str, float], ...] = ()
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values; shares rounded to six digits."""
        return {
            "score": None if self.score is None else self.score.to_json(),
            "by_source": {source: score.to_json() for source, score in self.by_source},
            "importance": {group: round(loss, 6) for group, loss in self.importance},
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
        by_source = []
        sources = sorted({case.source for case in cases})
        for source in sources if len(sources) > 1 else ():
            own = [answer for case, answer in zip(cases, answers, strict=True) if case.source == source]
            if len({answered.video for answered, _ in own}) >= MIN_VIDEOS:
                by_source.append((source, score_answers(GRADIENT_BOOSTING, own, None, z)))
        score = score_answers(GRADIENT_BOOSTING, answers, None, z)
        importance = _measure_importance(fitted) if score.beats_chance() else ()
    return LearnedScore(score, tuple(by_source), importance)


def answer_held_out(cases: Sequence[LearnedCase], chosen: NDArray[np.bool_]) -> list[str] | None:
    """The answer (a letter) to each case by trees that were fitted on the ``chosen`` cases of other videos.

    None where scikit-learn is missing, there are fewer than MIN_VIDEOS videos, or a fold has nothing to learn.
    """
    videos = {case.answers.video for case, is_chosen in zip(cases, chosen, strict=True) if is_chosen}
    if not _is_installed() or len(videos) < MIN_VIDEOS:
        return None
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        fitted = _fit_folds(cases, chosen)
        return None if fitted is None else fitted.answer(cases)


def describe_shortage(videos: int) -> str:
    """One sentence for a set of fewer videos than are needed."""
    return f"too few videos to judge: {videos}, at least {MIN_VIDEOS} are needed"


def assign_folds(videos: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each case, int64 [cases]: all cases of a video in one fold, about as many videos in each fold."""
    folds = {video: number % FOLDS for number, video in enumerate(sorted(set(videos)))}
    return np.array([folds[video] for video in videos], np.int64)


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

    def count_right(self, picks: NDArray[np.int64]) -> int:
        """Number of cases whose picked option is right."""
        return int(self.is_right[self.start + picks].sum())


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

    def pick_options(self, features: NDArray[np.float32]) -> NDArray[np.int64]:
        """The option (from 0) of each case that is most likely right by the model that has not seen its video."""
        table, chances = self.table, np.empty(len(features))
        for fold, model in enumerate(self.models):
            rows = self.folds[table.case] == fold
            chances[rows] = model.predict_proba(features[rows])[:, 1]
        best = np.maximum.reduceat(chances, table.start)
        hits = np.flatnonzero(chances == best[table.case])
        _, first = np.unique(table.case[hits], return_index=True)
        return hits[first] - table.start

    def answer(self, cases: Sequence[LearnedCase]) -> list[str]:
        """The letter of the option that is picked for each case."""
        picks = self.pick_options(self.table.features)
        return [case.letters[pick] for case, pick in zip(cases, picks, strict=True)]


def _fit_folds(cases: Sequence[LearnedCase], chosen: NDArray[np.bool_]) -> _FittedFolds | None:
    """Fit trees on the chosen cases; None where those of a fold's other videos are all right, or none is."""
    folds, table = assign_folds([case.answers.video for case in cases]), _OptionTable.from_cases(cases)
    rows = [chosen[table.case] & (folds[table.case] != fold) for fold in range(FOLDS)]
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


def _measure_importance(fitted: _FittedFolds) -> tuple[tuple[str, float], ...]:
    """The loss of accuracy by group of features, those that lose nothing left out."""
    table = fitted.table
    right = table.count_right(fitted.pick_options(table.features))
    losses = {}
    for group, names in FEATURE_GROUPS.items():
        columns = [k for k, name in enumerate(table.columns) if name in names]
        rng = np.random.default_rng(0)
        lost = 0
        for _ in range(_REPEATS if columns else 0):
            features = table.features.copy()
            features[:, columns] = features[rng.permutation(len(features))][:, columns]
            lost += right - table.count_right(fitted.pick_options(features))
        losses[group] = lost / (_REPEATS * len(table.start))
    return tuple(sorted(((g, loss) for g, loss in losses.items() if loss > 0), key=lambda item: (-item[1], item[0])))


def _is_installed() -> bool:
    try:
        import sklearn  # noqa: F401
    except ImportError:
        return False
    return True

"""A baseline that learns from the set itself what gives its answers away: gradient boosting on numbers of each option.

It reads places, sizes, colors, numbers and letters (see ``option_features``), no images, and finds combinations that no
rule written by hand names. Videos are split into folds; each fold is answered by trees that were fitted on the others.
The importance of a group of features is the accuracy that is lost in the held-out cases when the group's values are
exchanged between options (permutation importance; Breiman, "Random Forests", Machine Learning 2001, section 10).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import GRADIENT_BOOSTING, BaselineScore, assign_folds, score_answers
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.audit.feature_rows import FeatureRows
from mmvm_data.audit.option_features import COLUMNS, FEATURE_GROUPS

MIN_VIDEOS = 10
"""A set, or a source, of fewer videos is not judged: folds are made of videos, and intervals count videos."""
FOLDS = 5
LARGE_SET, FOLDS_OF_LARGE_SET = 10_000, 2
"""Of so many cases half are enough to learn from, and fewer trees are fitted."""
_ITERATIONS, _LEAVES, _MIN_LEAF, _LEARNING_RATE = 100, 15, 20, 0.1
_BINS, _QUICK_BINS = 255, 63
_MIN_CHANCE = 1e-4  # of an option: trees are not surer
_REPEATS = 3  # exchanges of a group's values, whose losses are averaged
NO_LIBRARY = "scikit-learn is not installed: pip install 'mmvm-data[audit]'"


Importance = tuple[tuple[str, float], ...]
"""Words for a group of features and the accuracy (0..1) that is lost without it, the largest loss first."""


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


def score_gradient_boosting(cases: CaseTable, z: float) -> LearnedScore:
    """Fit the baseline in folds and score it; a function of the cases and their order.

    Args:
        cases: of one set.
        z: half width of the intervals in standard deviations.
    """
    if not _is_installed():
        return LearnedScore(reason=NO_LIBRARY)
    if (count := len(np.unique(cases.videos))) < MIN_VIDEOS:
        return LearnedScore(reason=describe_shortage(count))
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):  # threads would wait for each other longer than such small sets take
        fitted = _fit_folds(cases, np.ones(len(cases), bool))
        if fitted is None:
            return LearnedScore(reason="all options are right, or none is")
        letters = fitted.answer()
        by_source, short, groups = [], [], {}
        sources = sorted(np.unique(cases.sources).tolist(), key=cases.source_names.__getitem__)
        for number in sources if len(sources) > 1 else ():
            is_own, source = cases.sources == number, cases.source_names[number]
            if (count := len(np.unique(cases.videos[is_own]))) >= MIN_VIDEOS:
                own = score_answers(GRADIENT_BOOSTING, cases.take(is_own), letters[is_own], None, z)
                by_source.append((source, own))
                if own.beats_chance():
                    groups[source] = is_own
            else:
                short.append((source, count))
        score = score_answers(GRADIENT_BOOSTING, cases, letters, None, z)
        if score.beats_chance():
            groups[""] = np.ones(len(cases), bool)
        importance = _measure_importance(fitted, groups) if groups else {}
    total = importance.pop("", ())
    return LearnedScore(score, tuple(by_source), tuple(short), total, tuple(importance.items()))


def predict_held_out(cases: CaseTable, fitted: NDArray[np.bool_], is_quick: bool = False) -> NDArray[np.float64] | None:
    """How likely each option of each case is right by trees that were fitted on cases of other videos.

    Args:
        cases: of one set.
        fitted: which cases the trees are fitted on, bool [cases].
        is_quick: whether half as many trees are fitted, on fewer values, in less than half of the time. They find the
            same kinds of regularities a little less exactly.

    Returns:
        float [options of all cases]; those of a case sum to 1. None where scikit-learn is missing, fewer than
        MIN_VIDEOS videos have cases to fit, or a fold has nothing to learn.
    """
    if not _is_installed() or len(np.unique(cases.videos[fitted])) < MIN_VIDEOS:
        return None
    import threadpoolctl

    with threadpoolctl.threadpool_limits(1):
        trees = _fit_folds(cases, fitted, is_quick)
        if trees is None:
            return None
        chances = trees.predict()
        del trees
        np.clip(chances, _MIN_CHANCE, 1 - _MIN_CHANCE, out=chances)
        chances /= 1 - chances  # the odds
        chances /= np.repeat(np.add.reduceat(chances, cases.start), cases.option_counts)
        return chances


def pick_letters(cases: CaseTable, chances: NDArray[np.float64]) -> NDArray[np.int16]:
    """The letter of the likeliest option of each case, int16 [cases]; ``chances`` of ``predict_held_out``."""
    letters: NDArray[np.int16] = cases.letters[_find_largest(chances, cases)]
    return letters


def describe_shortage(videos: int) -> str:
    """One sentence for a set of fewer videos than are needed."""
    return f"too few videos to judge: {videos}, at least {MIN_VIDEOS} are needed"


def _find_largest(values: NDArray[np.float64], cases: CaseTable) -> NDArray[np.int64]:
    """The option with the largest value of each case, the first of equal ones: int64 [cases]."""
    largest = np.repeat(np.maximum.reduceat(values, cases.start), cases.option_counts)
    hits = np.flatnonzero(values == largest)
    _, first = np.unique(cases.option_cases[hits], return_index=True)
    options: NDArray[np.int64] = hits[first]
    return options


@dataclass(frozen=True)
class _FittedFolds:
    """Trees for each fold of videos, fitted on cases of the others.

    Attributes:
        cases: the cases.
        columns: those features that any option has, int64 [known columns].
        folds: of the cases, int64 [cases].
        models: one a fold.
    """

    cases: CaseTable
    columns: NDArray[np.int64]
    folds: NDArray[np.int64]
    models: tuple[Any, ...]

    def predict(self, features: NDArray[np.float32] | None = None) -> NDArray[np.float64]:
        """How likely each option is right by the model that has not seen its video, float [options].

        Args:
            features: stand for those of the cases, float32 [options, columns].
        """
        rows = self.cases.features if features is None else FeatureRows(features, len(features))
        chances = np.empty(len(rows))
        folds = np.repeat(self.folds.astype(np.int8), self.cases.option_counts)
        for own, block in rows.blocks():
            for fold, model in enumerate(self.models):
                is_own = folds[own] == fold
                if is_own.any():
                    chances[own][is_own] = model.predict_proba(block[is_own][:, self.columns])[:, 1]
        return chances

    def answer(self, features: NDArray[np.float32] | None = None) -> NDArray[np.int16]:
        """The letter of the option of each case that is most likely right by the model that has not seen its video."""
        return pick_letters(self.cases, self.predict(features))


def _fit_folds(cases: CaseTable, chosen: NDArray[np.bool_], is_quick: bool = False) -> _FittedFolds | None:
    """Fit trees on the chosen cases; None where all options of a fold's other videos are right, or none is."""
    folds = assign_folds(cases, FOLDS if len(cases) < LARGE_SET else FOLDS_OF_LARGE_SET)
    counts = cases.option_counts
    is_right = cases.is_right_option
    is_known = np.zeros(len(COLUMNS), bool)
    for _, block in cases.features.blocks():
        is_known |= ~np.isnan(block).all(axis=0)
    columns = np.flatnonzero(is_known)
    models = []
    for fold in range(int(folds.max()) + 1):
        options = np.flatnonzero(np.repeat(chosen & (folds != fold), counts))
        if len(np.unique(is_right[options])) < 2:
            return None
        # scikit-learn would copy other types; the rows of a fold are freed before those of the next are read
        models.append(_fit(cases.features.take(options).read(columns, np.float64), is_right[options], is_quick))
    return _FittedFolds(cases, columns, folds, tuple(models))


def _fit(features: NDArray[np.floating[Any]], is_right: NDArray[np.bool_], is_quick: bool) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # no early stopping, which would set cases aside at random and by case, not by video
    model = HistGradientBoostingClassifier(
        learning_rate=2 * _LEARNING_RATE if is_quick else _LEARNING_RATE,
        max_iter=_ITERATIONS // 2 if is_quick else _ITERATIONS,
        max_bins=_QUICK_BINS if is_quick else _BINS,
        max_leaf_nodes=_LEAVES,
        min_samples_leaf=_MIN_LEAF,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    return model.fit(features, is_right)


def _measure_importance(fitted: _FittedFolds, groups: dict[str, NDArray[np.bool_]]) -> dict[str, Importance]:
    """The loss of accuracy in each group of cases (bool [cases]) by group of features, none that loses nothing."""
    cases = fitted.cases
    right = (fitted.answer() == cases.right).astype(float)
    losses: dict[str, NDArray[np.float64]] = {}
    for group, names in FEATURE_GROUPS.items():
        columns = [k for k in fitted.columns.tolist() if COLUMNS[k] in names]
        rng = np.random.default_rng(0)
        lost = np.zeros(len(right))
        for _ in range(_REPEATS if columns else 0):
            features = cases.features.read()
            features[:, columns] = features[rng.permutation(len(features))][:, columns]
            lost += right - (fitted.answer(features) == cases.right)
        losses[group] = lost / _REPEATS

    def rank(chosen: NDArray[np.bool_]) -> Importance:
        means = ((group, float(lost[chosen].mean())) for group, lost in losses.items())
        return tuple(sorted((item for item in means if item[1] > 0), key=lambda item: (-item[1], item[0])))

    return {name: rank(chosen) for name, chosen in groups.items()}


def _is_installed() -> bool:
    return find_spec("sklearn") is not None  # importing it takes a second, which sets of few videos need not wait for

"""Chooses cases of a pool such that no blind baseline answers the chosen ones better or worse than chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import (
    GRADIENT_BOOSTING,
    LEARNED_BASELINES,
    BaselineScore,
    CaseAnswers,
    interval_width,
    score_answers,
    score_baselines,
)
from mmvm_data.audit.gradient_boosting import LearnedCase, pick_letters, predict_held_out
from mmvm_data.formats.set_operations import keyed_hash
from mmvm_data.recipes.balanced_subset import Column, choose_by_columns, compute_shares

MIN_SOURCE_CASES = 100
"""A source with fewer chosen cases is not balanced by itself, only with the others."""
_ROUNDS = 3  # of gradient boosting, each fitted on cases that are drawn with the shares of the one before
_CLOSE = 0.01  # of its accuracy above chance; with less, no further round is fitted
_LOWEST = -15.0  # logarithm of a share
_MAX_FITTED = 6_000  # cases that it is fitted on
_MIN_CASES = 20  # a rule that answers fewer cases than these is not balanced
ALL_SOURCES = ""


@dataclass(frozen=True)
class Comparison:
    """A baseline's score on the pool and on the chosen cases.

    Attributes:
        source: whose cases, ALL_SOURCES for all.
        pool, chosen: scores with intervals.
        pool_misses: cases of the pool that the baseline answers wrong, those without a right candidate left out; None
            for baselines that learn.
    """

    source: str
    pool: BaselineScore
    chosen: BaselineScore
    pool_misses: int | None

    @property
    def deviation(self) -> float:
        """Chosen score minus chance where the interval does not hold chance, else 0."""
        score = self.chosen
        return 0.0 if score.low <= score.chance <= score.high else score.score - score.chance

    def describe(self) -> str:
        """One sentence for a baseline whose interval does not hold chance."""
        score, where = self.chosen, f" on {self.source}" if self.source else ""
        text = f"{score.baseline}{where} scores {score.score:.1%} ({score.low:.1%} - {score.high:.1%}), "
        text += f"chance is {score.chance:.1%}"
        needed = round((1 - score.chance) * score.cases)
        if self.deviation > 0 and self.pool_misses is not None:
            text += f"; {needed} cases that it answers wrong are needed, the pool has {self.pool_misses}"
        return text

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "source": self.source or None,
            "pool": self.pool.to_json(),
            "chosen": self.chosen.to_json(),
            "pool_misses": self.pool_misses,
            "deviation": round(self.deviation, 6),
        }


@dataclass(frozen=True)
class Selection:
    """Chosen cases and what the baselines score on them.

    Attributes:
        chosen: bool [cases] of the pool.
        comparisons: of all baselines on all sources, then of those that do not learn on each source.
        missed_by_all: cases of the pool that all baselines answer wrong which are above chance in the chosen cases.
        none_cases: chosen cases with the answer "none of the above".
        reachable: about how many cases can be chosen such that gradient boosting knows nothing of them; None where it
            was not fitted.
    """

    chosen: NDArray[np.bool_]
    comparisons: tuple[Comparison, ...]
    missed_by_all: int
    none_cases: int
    reachable: int | None = None

    @property
    def warnings(self) -> list[str]:
        """Each baseline that does not end at chance, in one sentence, and what the pool lacks."""
        found = [comparison for comparison in self.comparisons if comparison.deviation]
        warnings = [comparison.describe() for comparison in found]
        above = sorted({c.chosen.baseline for c in found if c.deviation > 0 and c.pool_misses is not None})
        if above:
            count = f"{self.missed_by_all} of {len(self.chosen)} cases"
            warnings.append(f"the pool needs more cases that {', '.join(above)} answer wrong; it has {count}")
        if self.reachable is not None and any(
            c.chosen.baseline == GRADIENT_BOOSTING and c.deviation > 0 for c in found
        ):
            wanted = int(self.chosen.sum())
            needed = -(-len(self.chosen) * wanted // max(self.reachable, 1))
            warnings.append(
                f"the pool has about {self.reachable} cases of which {GRADIENT_BOOSTING} knows nothing; "
                f"{wanted} need a pool of about {needed} such cases, or one of harder cases"
            )
        return warnings

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pool_cases": len(self.chosen),
            "cases": int(self.chosen.sum()),
            "baselines": [comparison.to_json() for comparison in self.comparisons],
            "missed_by_all": self.missed_by_all,
            "reachable": self.reachable,
            "warnings": self.warnings,
        }


def select_resistant(ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int) -> Selection:
    """Choose ``count`` cases as ``choose_resistant`` does, and score them."""
    return compare_cases(cases, *choose_resistant(ids, cases, count, seed))


def choose_resistant(
    ids: Sequence[str],
    cases: Sequence[LearnedCase],
    count: int,
    seed: int,
    targets: Sequence[Column] | None = None,
) -> tuple[NDArray[np.bool_], PoolAnswers | None]:
    """Choose ``count`` cases; a function of the arguments.

    Sums over the chosen cases are balanced: for each baseline its hits minus chance, on all cases and on each
    source that has enough; for each rank and letter how often it is right minus chance; for each source, and for "none
    of the above", its share minus its share in the pool. With scikit-learn, cases are drawn with shares under which
    gradient boosting knows nothing (see ``_prior_of_boosting``), as far as the sums allow.

    Args:
        ids: of the cases; with the seed they decide the draw.
        cases: the pool.
        count: from 1 to the number of cases.
        seed: any integer.
        targets: sums that hold in place of the pool's shares of sources and of "none of the above".

    Returns:
        bool [cases], and what gradient boosting says of the pool, None where it cannot be fitted.
    """
    keys = np.array([uniform_key(seed, name) for name in ids])
    columns = list(_base_columns(ids, cases, count, seed, targets))
    prior = None if count >= len(cases) else _prior_of_boosting(cases, columns, count, keys)
    if prior is None:
        return choose_by_columns(columns, count, keys), None
    log_odds, answers = prior
    return choose_by_columns(columns, count, keys, log_odds), answers


@dataclass(frozen=True)
class PoolAnswers:
    """What gradient boosting says of the pool.

    Attributes:
        letters: its answer to each case.
        reachable: see ``Selection``.
    """

    letters: list[str]
    reachable: int


def _prior_of_boosting(
    cases: Sequence[LearnedCase], columns: Sequence[Column], count: int, keys: NDArray[np.float64]
) -> tuple[NDArray[np.float64], PoolAnswers] | None:
    """Log odds of shares under which gradient boosting knows nothing; None where it cannot be fitted.

    Boosting says how likely each candidate of a case is right. Where a case is drawn with a share that is in proportion
    to the chance of its least likely candidate over that of its right one, each candidate is right equally often,
    whatever boosting sees of the case (inverse probability weighting; Horvitz and Thompson, JASA 1952). Further rounds
    are fitted on cases that are drawn with these shares, and find what the earlier ones have left.
    """
    order = np.argsort(keys, kind="stable")
    chances = predict_held_out(cases, _first_of(np.ones(len(cases), bool), order))
    if chances is None:
        return None
    letters = pick_letters(cases, chances)
    log_odds = _log_shares(cases, chances)
    values = np.column_stack([column.values for column in columns])
    slack, targets = (np.array([getattr(column, name) for column in columns]) for name in ("slack", "target"))
    for _ in range(_ROUNDS - 1):
        shares = compute_shares(values, count, slack, targets, log_odds)
        drawn = _first_of(shares > keys * shares.max(), order)
        chances = predict_held_out(cases, drawn)
        if chances is None:
            break
        if float(_residuals(cases, pick_letters(cases, chances))[drawn].mean()) < _CLOSE:
            break
        log_odds = np.maximum(log_odds + _log_shares(cases, chances), _LOWEST)
    shares = np.exp(log_odds - log_odds.max())
    # the effective sample size of weights (Kish, "Survey Sampling", 1965)
    return log_odds, PoolAnswers(letters, round(float(shares.sum() ** 2 / (shares**2).sum())))


def _first_of(cases: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The first _MAX_FITTED of some cases by an order of all, bool [cases]."""
    fitted = np.zeros(len(cases), bool)
    fitted[order[cases[order]][:_MAX_FITTED]] = True
    return fitted


def _log_shares(cases: Sequence[LearnedCase], chances: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The logarithm of the chance of the least likely candidate over that of the right one, float [cases].

    Where "none of the above" is right, an average candidate stands for the right one.
    """
    shares = np.zeros(len(cases))
    for k, (case, own) in enumerate(zip(cases, chances, strict=True)):
        candidates = np.array([letter != case.answers.none for letter in case.letters])
        if not candidates.any():
            continue
        known = own[candidates]
        is_none = case.answers.answer == case.answers.none
        right = known.mean() if is_none else own[case.letters.index(case.answers.answer)]
        shares[k] = np.log(known.min() / right)
    return np.maximum(shares, _LOWEST)


def _base_columns(
    ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int, targets: Sequence[Column] | None
) -> Iterator[Column]:
    sources = np.array([case.source for case in cases])
    names, numbers = np.unique(sources, return_counts=True)
    shares = dict(zip(names.tolist(), (numbers / len(cases)).tolist(), strict=True))
    large = [name for name in names.tolist() if shares[name] * count >= MIN_SOURCE_CASES]
    groups = [sources == name for name in large]
    if (rest := ~np.isin(sources, large)).any():
        groups.append(rest)
    for baseline in _fixed_baselines(cases):
        values = _residuals(cases, [case.answers.letters.get(baseline) for case in cases])
        yield from (Column(np.where(group, values, 0)) for group in groups)
    if targets is not None:
        yield from targets
    else:
        for name in names.tolist() if len(names) > 1 else ():
            yield Column((sources == name) - shares[name])
        is_none = np.array([case.answers.answer == case.answers.none for case in cases], float)
        if is_none.any():
            yield Column(is_none - is_none.mean())
    yield from _rule_columns(ids, cases, count, seed)


def _rule_columns(ids: Sequence[str], cases: Sequence[LearnedCase], count: int, seed: int) -> Iterator[Column]:
    """A sum for each rule of the baselines that learn, with the value that it has where answers are random.

    It is not 0: a rule that is exactly at chance over all cases is below chance in one part where it is above in the
    other, so that what is learned in the one would be wrong in the other more often than by chance.
    """
    random_answers = [_random_candidate(case, seed, name) for name, case in zip(ids, cases, strict=True)]
    scale = (count / len(cases)) ** 0.5
    for baseline in LEARNED_BASELINES:
        for rule in zip(*(case.answers.rules[baseline] for case in cases), strict=True):
            # "none of the above" has its share in the pool, which the user has asked for
            letters = [a if a != case.answers.none else None for a, case in zip(rule, cases, strict=True)]
            values = _residuals(cases, letters)
            if np.count_nonzero(values) >= _MIN_CASES:
                target = scale * float(_residuals(cases, letters, random_answers).sum())
                yield Column(values, is_repaired=False, target=target)


def _random_candidate(case: LearnedCase, seed: int, name: str) -> str:
    """The letter of a candidate; the right one where "none of the above" is right."""
    if case.answers.answer == case.answers.none:
        return case.answers.answer
    letters = [letter for letter in case.letters if letter != case.answers.none]
    return letters[int(uniform_key(seed, f"answer\0{name}") * len(letters))]


def _fixed_baselines(cases: Sequence[LearnedCase]) -> list[str]:
    """Baselines that do not learn; random ones are at chance anyway."""
    names = dict.fromkeys(name for case in cases for name in case.answers.letters)
    return [name for name in names if name != "random"]


def _residuals(
    cases: Sequence[LearnedCase], letters: Sequence[str | None], answers: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Hit minus chance of each case, 0 without a letter; ``answers`` stand for the right ones."""
    answers = answers or [case.answers.answer for case in cases]
    return np.array(
        [
            0.0 if letter is None else (letter == answer) - case.answers.chance(letter)
            for case, letter, answer in zip(cases, letters, answers, strict=True)
        ]
    )


def compare_cases(
    cases: Sequence[LearnedCase], chosen: NDArray[np.bool_], answers: PoolAnswers | None = None
) -> Selection:
    """What the baselines score on all cases and on the chosen ones, bool [cases].

    Args:
        cases: the pool.
        chosen: bool [cases].
        answers: of ``choose_resistant``, where it has chosen.
    """
    z = interval_width()
    subset = [cases[k] for k in np.flatnonzero(chosen)]
    scores = [{s.baseline: s for s in score_baselines([case.answers for case in part])} for part in (cases, subset)]
    comparisons = []
    for name in scores[0].keys() & scores[1].keys() - {"random"}:
        misses = None if name in LEARNED_BASELINES else _count_misses(cases, name)
        comparisons.append(Comparison(ALL_SOURCES, scores[0][name], scores[1][name], misses))
    order = list(scores[0])
    comparisons.sort(key=lambda comparison: order.index(comparison.pool.baseline))
    boosted = [_score_boosting(cases, z, answers.letters if answers else None), _score_boosting(subset, z)]
    if boosted[0] and boosted[1]:
        comparisons.append(Comparison(ALL_SOURCES, boosted[0], boosted[1], None))
    counts = Counter(case.source for case in subset)
    for source in sorted(counts) if len(counts) > 1 else ():
        if counts[source] >= MIN_SOURCE_CASES:
            comparisons += _compare_source(cases, subset, source, z)
    above = {c.chosen.baseline for c in comparisons if c.deviation > 0} - {*LEARNED_BASELINES, GRADIENT_BOOSTING}
    missed = sum(all(_is_miss(case.answers, name) for name in above) for case in cases) if above else 0
    none_cases = sum(case.answers.answer == case.answers.none for case in subset)
    reachable = answers.reachable if answers else None
    return Selection(chosen, tuple(comparisons), missed, none_cases, reachable)


def _score_boosting(
    cases: Sequence[LearnedCase], z: float, letters: Sequence[str] | None = None
) -> BaselineScore | None:
    if letters is None:
        chances = predict_held_out(cases, np.ones(len(cases), bool))
        if chances is None:
            return None
        letters = pick_letters(cases, chances)
    return score_answers(GRADIENT_BOOSTING, [(c.answers, a) for c, a in zip(cases, letters, strict=True)], None, z)


def _compare_source(
    cases: Sequence[LearnedCase], subset: Sequence[LearnedCase], source: str, z: float
) -> Iterator[Comparison]:
    pool, own = ([case for case in part if case.source == source] for part in (cases, subset))
    for name in _fixed_baselines(own):
        scores = []
        for part in (pool, own):
            answers = [(case.answers, case.answers.letters[name]) for case in part if name in case.answers.letters]
            scores.append(score_answers(name, answers, None, z))
        yield Comparison(source, scores[0], scores[1], _count_misses(pool, name))


def _count_misses(cases: Sequence[LearnedCase], baseline: str) -> int:
    return sum(_is_miss(case.answers, baseline) for case in cases)


def _is_miss(case: CaseAnswers, baseline: str) -> bool:
    return baseline in case.letters and case.answer != case.none and case.letters[baseline] != case.answer


def uniform_key(seed: int, name: str) -> float:
    """A number in [0, 1) that decides the draw of a case."""
    return int.from_bytes(keyed_hash(seed, name)[:6], "big") / 2**48

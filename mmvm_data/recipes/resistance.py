"""Chooses cases of a pool such that no blind baseline answers the chosen ones better or worse than chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.baseline_scores import LEARNED_BASELINES
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.audit.gradient_boosting import LARGE_SET, pick_letters, predict_held_out
from mmvm_data.formats.set_operations import keyed_hash
from mmvm_data.recipes.balanced_subset import Column, Sums, choose_balanced, compute_shares
from mmvm_data.recipes.selection_scores import MIN_SOURCE_CASES, PoolAnswers, Selection, compare_cases, fixed_baselines

_ROUNDS = 3  # of gradient boosting, each fitted on cases that are drawn with the shares of the one before
_CLOSE = 0.01  # of its accuracy above chance; with less, no further round is fitted
_LOWEST = -15.0  # logarithm of a share
_MAX_FITTED = 6_000  # cases that it is fitted on; of pools of LARGE_SET or more, LARGE_SET in fewer folds
_MIN_CASES = 20  # a rule that answers fewer cases than these is not balanced


def select_resistant(ids: Sequence[str], cases: CaseTable, count: int, seed: int) -> Selection:
    """Choose ``count`` cases as ``choose_resistant`` does, and score them."""
    return compare_cases(cases, *choose_resistant(ids, cases, count, seed))


def choose_resistant(
    ids: Sequence[str],
    cases: CaseTable,
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
    sums = Sums.from_columns(_base_columns(ids, cases, count, seed, targets))
    prior = None if count >= len(cases) else _prior_of_boosting(cases, sums, count, keys)
    if prior is None:
        return choose_balanced(sums, count, keys), None
    log_odds, answers = prior
    return choose_balanced(sums, count, keys, log_odds), answers


def _prior_of_boosting(
    cases: CaseTable, sums: Sums, count: int, keys: NDArray[np.float64]
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
    for _ in range(_ROUNDS - 1):
        shares = compute_shares(sums, count, log_odds)
        drawn = _first_of(shares > keys * shares.max(), order)
        chances = predict_held_out(cases, drawn, is_quick=True)
        if chances is None:
            break
        if float(cases.residuals(pick_letters(cases, chances))[drawn].mean()) < _CLOSE:
            break
        log_odds = np.maximum(log_odds + _log_shares(cases, chances), _LOWEST)
    shares = np.exp(log_odds - log_odds.max())
    # the effective sample size of weights (Kish, "Survey Sampling", 1965)
    return log_odds, PoolAnswers(letters, round(float(shares.sum() ** 2 / (shares**2).sum())))


def _first_of(cases: NDArray[np.bool_], order: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The first of some cases by an order of all, as many as are fitted, bool [cases]."""
    fitted = np.zeros(len(cases), bool)
    fitted[order[cases[order]][: _MAX_FITTED if len(cases) < LARGE_SET else LARGE_SET]] = True
    return fitted


def _log_shares(cases: CaseTable, chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logarithm of the chance of the least likely candidate over that of the right one, float [cases].

    Where "none of the above" is right, an average candidate stands for the right one; 0 without candidates.

    Args:
        cases: the cases.
        chances: of their options, see ``predict_held_out``.
    """
    is_candidate, is_right = cases.is_candidate, cases.is_right_option
    least = np.minimum.reduceat(np.where(is_candidate, chances, np.inf), cases.start)
    known = np.add.reduceat(np.where(is_candidate, chances, 0), cases.start)
    right = np.add.reduceat(np.where(is_candidate & is_right, chances, 0), cases.start)
    count = np.add.reduceat(is_candidate.astype(np.int64), cases.start)
    has_candidates = count > 0
    right = np.where(right > 0, right, known / np.maximum(count, 1))
    ratio = np.divide(least, right, out=np.ones(len(cases)), where=has_candidates)
    shares: NDArray[np.float64] = np.maximum(np.log(ratio), _LOWEST)
    return shares


def _base_columns(
    ids: Sequence[str], cases: CaseTable, count: int, seed: int, targets: Sequence[Column] | None
) -> Iterator[Column]:
    names = sorted(np.unique(cases.sources).tolist(), key=cases.source_names.__getitem__)
    shares = {name: float((cases.sources == name).mean()) for name in names}
    large = [name for name in names if shares[name] * count >= MIN_SOURCE_CASES]
    groups = [cases.sources == name for name in large]
    if (rest := ~np.isin(cases.sources, large)).any():
        groups.append(rest)
    for baseline in fixed_baselines(cases):
        values = cases.residuals(cases.answers[baseline])
        yield from (Column(np.where(group, values, 0)) for group in groups)
    if targets is not None:
        yield from targets
    else:
        for name in names if len(names) > 1 else ():
            yield Column((cases.sources == name) - shares[name])
        is_none = cases.is_none.astype(np.float64)
        if is_none.any():
            yield Column(is_none - is_none.mean())
    yield from _rule_columns(ids, cases, count, seed)


def _rule_columns(ids: Sequence[str], cases: CaseTable, count: int, seed: int) -> Iterator[Column]:
    """A sum for each rule of the baselines that learn, with the value that it has where answers are random.

    It is not 0: a rule that is exactly at chance over all cases is below chance in one part where it is above in the
    other, so that what is learned in the one would be wrong in the other more often than by chance.
    """
    random_answers = _draw_answers(ids, cases, seed)
    scale = (count / len(cases)) ** 0.5
    for baseline in LEARNED_BASELINES:
        for rule in cases.rules[baseline].T:
            # "none of the above" has its share in the pool, which the user has asked for
            letters = np.where(rule == cases.none, 0, rule)
            values = cases.residuals(letters)
            if np.count_nonzero(values) >= _MIN_CASES:
                target = scale * float(cases.residuals(letters, random_answers).sum())
                yield Column(values, is_repaired=False, target=target)


def _draw_answers(ids: Sequence[str], cases: CaseTable, seed: int) -> NDArray[np.int16]:
    """The letter of a candidate of each case, int16 [cases]; the right one where "none of the above" is right."""
    keys = np.array([uniform_key(seed, f"answer\0{name}") for name in ids])
    is_candidate = cases.is_candidate
    places = np.cumsum(is_candidate) - 1
    before = places[cases.start] - is_candidate[cases.start] + 1  # candidates of earlier cases
    count = np.add.reduceat(is_candidate.astype(np.int64), cases.start)
    drawn = cases.letters[is_candidate]
    answers = cases.right.copy()
    is_drawn = ~cases.is_none & (count > 0)
    answers[is_drawn] = drawn[(before + (keys * count).astype(np.int64))[is_drawn]]
    return answers


def uniform_key(seed: int, name: str) -> float:
    """A number in [0, 1) that decides the draw of a case."""
    return int.from_bytes(keyed_hash(seed, name)[:6], "big") / 2**48

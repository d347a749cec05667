"""What the blind baselines answer, for many cases at once.

The rules are those of ``cases.baselines``, and the ranks by which some baselines learn; see ``baseline_scores``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmvm_data.audit.case_measures import MeasuredCases

MAX_SIZE_RANK = 6  # largest to sixth largest, smallest to sixth smallest
MAX_PLACE_RANK = 3
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def answer_cases(measured: MeasuredCases) -> dict[str, NDArray[np.str_]]:
    """The answers of the baselines of ``cases.baselines`` but ``random``: name -> letters, str [cases].

    Those of ``nearest_color`` are "" where the images of the case were not opened.
    """
    query, candidates = measured.query, measured.candidates
    compared = {
        "nearest_place": np.hypot(*compare_places(measured)),
        "same_size": np.abs(np.log(candidates.share / query.share[:, None])),
        "nearest_color": compare_colors(measured),
    }
    has_query = ~np.isnan(query.size)
    places = [_find_lowest(-candidates.size)]
    places += [np.where(has_query, _find_lowest(values), candidates.size.shape[1]) for values in compared.values()]
    picks = measured.pick_letters(np.column_stack(places))
    answers = {"first": measured.first, **dict(zip(("largest", *compared), picks.T, strict=True))}
    has_colors = np.array([case.has_colors for case in measured.cases])
    answers["nearest_color"] = np.where(has_colors, answers["nearest_color"], "")
    return answers


def apply_rules(measured: MeasuredCases) -> dict[str, NDArray[np.str_]]:
    """The answers of the rules of the baselines that learn: baseline -> letters, str [cases, rules]; see
    ``describe_rules``.

    A rule that does not apply (the fifth largest of three) chooses the first option. Of equal candidates the one with
    the lower number comes first.
    """
    candidates = measured.candidates
    xs, ys = candidates.left + candidates.width / 2, candidates.top + candidates.height / 2
    from_center = candidates.from_center
    places = [_rank(keys, MAX_SIZE_RANK) for keys in (-candidates.size, candidates.size)]
    places += [_rank(keys, MAX_PLACE_RANK) for keys in (xs, -xs, ys, -ys)]
    places += [_rank(keys, 1) for keys in (from_center, -from_center)]
    picks = measured.pick_letters(np.concatenate(places, axis=1))
    by_size, by_place = np.split(picks, [2 * MAX_SIZE_RANK], axis=1)
    return {"most_common_answer": _list_common_answers(measured), "size_rank": by_size, "place_rank": by_place}


def _list_common_answers(measured: MeasuredCases) -> NDArray[np.str_]:
    """The letter of "none of the above", then each letter of ALPHABET, or the first option's where a case has it not:
    str [cases, 27]."""
    alphabet = np.array(list(ALPHABET))
    letters = np.array([letter for case in measured.cases for letter in case.letters])
    owners = np.repeat(np.arange(len(measured.cases)), [len(case.letters) for case in measured.cases])
    places = np.searchsorted(alphabet, letters).clip(max=len(alphabet) - 1)
    is_known = alphabet[places] == letters
    has_letter = np.zeros((len(measured.cases), len(alphabet)), bool)
    has_letter[owners[is_known], places[is_known]] = True
    first = measured.first[:, None]
    none = np.array([case.none for case in measured.cases])[:, None]
    return np.concatenate([np.where(none == "", first, none), np.where(has_letter, alphabet, first)], axis=1)


def describe_rules() -> dict[str, list[str]]:
    """The rules of the baselines that learn, in words."""

    def describe_ranks(words: str, count: int) -> list[str]:
        return [words if k == 0 else f"number {k + 1} of the {words}" for k in range(count)]

    sides = ("leftmost", "rightmost", "topmost", "lowest")
    return {
        "most_common_answer": ["none of the above", *ALPHABET],
        "size_rank": describe_ranks("largest", MAX_SIZE_RANK) + describe_ranks("smallest", MAX_SIZE_RANK),
        "place_rank": [
            *(words for side in sides for words in describe_ranks(side, MAX_PLACE_RANK)),
            "nearest to the center",
            "farthest from the center",
        ],
    }


def compare_places(measured: MeasuredCases) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each candidate's box lies right of the query's and below it, as shares of the images' sides: float
    [cases, most candidates]; NaN where one is missing."""
    query, candidates = measured.query, measured.candidates
    return candidates.center_x - query.center_x[:, None], candidates.center_y - query.center_y[:, None]


def compare_colors(measured: MeasuredCases) -> NDArray[np.float64]:
    """Distance of each candidate's mean color to the query's, float [cases, most candidates]; NaN where one is
    missing."""
    differences = measured.candidates.color - measured.query.color[:, None]
    distances: NDArray[np.float64] = np.sqrt((differences**2).sum(axis=-1))
    return distances


def _find_lowest(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of the first lowest value of each row, NaN counting as infinite: int64 [cases]."""
    if not values.shape[1]:
        return np.zeros(len(values), np.int64)
    places: NDArray[np.int64] = np.where(np.isnan(values), np.inf, values).argmin(axis=1)
    return places


def _rank(keys: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The places of the ``count`` lowest values of each row, padding last: int64 [cases, count]."""
    order = np.argsort(keys, axis=1, kind="stable")[:, :count]  # NaN is last
    missing = np.full((len(keys), count - order.shape[1]), keys.shape[1])
    return np.concatenate([order, missing], axis=1)

"""How hard a case looks, for the order of the list of tasks."""

from __future__ import annotations

from collections import Counter
from math import sqrt
from statistics import fmean
from typing import NamedTuple

from mmvm_data.core import masks
from mmvm_data.core.types import Case
from mmvm_data.formats.predictions import NONE, AnswersByModel, resolve_choice

_LARGE_SHARE = 0.05
"""Share of the image from which an object counts as large."""


class Difficulty(NamedTuple):
    """What the list of tasks shows of a case.

    Attributes:
        score: 0 (easy) to 1 (hard).
        disagreement: share of the models that do not give the most frequent answer; None without answers.
    """

    score: float
    disagreement: float | None


def rate_difficulty(case: Case, answers: AnswersByModel | None = None) -> Difficulty:
    """Rate a case.

    The score is the mean of: the chance that a guess is wrong; the share of the other candidates that are of the
    query's category; how small the query is; and, with answers, the share of the models that contradict the proposal.

    Args:
        case: any case.
        answers: of models; those that did not answer the case do not count.
    """
    others = max(1, len(case.candidates) - 1)
    look_alikes = case.provenance.look_alikes if case.provenance else 0
    parts = [1 - 1 / len(case.options), min(1.0, look_alikes / others), _smallness(case)]
    given = [resolve_choice(case, by_case[case.id]) for by_case in (answers or {}).values() if case.id in by_case]
    disagreement = None
    if given:
        disagreement = round(1 - Counter(given).most_common(1)[0][1] / len(given), 2)
        proposed = NONE if case.answer is None else str(case.answer)
        parts.append(fmean(choice != proposed for choice in given))
    return Difficulty(round(fmean(parts), 2), disagreement)


def _smallness(case: Case) -> float:
    """1 for a query without pixels, 0 for a large one; sides count, not areas."""
    frame, region = case.frames[0], case.query[0]
    area = masks.area(region.mask) if region.mask is not None else region.box[2] * region.box[3] if region.box else 0
    return 1 - min(1.0, sqrt(area / (_LARGE_SHARE * frame.width * frame.height)))

"""How far people agree on tasks that several of them did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import MATCH_TYPES, Case
from mmvm_data.formats.drawing import mask_of

Opinions = Mapping[str, Mapping[str, Case]]
"""Case id -> person -> the case as that person would have it."""


def agreement(opinions: Opinions) -> dict[str, Any]:
    """Agreement over the cases with two people or more.

    Returns:
        plain JSON: ``cases``, ``people`` (cases each), for the verdict, the answer and each match type ``share`` (of
        pairs that agree, 0..1) and ``alpha`` (Krippendorff's, nominal; None when all say the same, which leaves it
        undefined), ``mask_iou`` (mean over the objects, of pairs), ``disagreements`` (ids of cases whose answers or
        verdicts differ).
    """
    several = {case: dict(sorted(by.items())) for case, by in sorted(opinions.items()) if len(by) > 1}
    people = sorted({person for by in several.values() for person in by})
    kept = {c: {p: o for p, o in by.items() if o.review.state != "rejected"} for c, by in several.items()}
    ious = [iou for by in kept.values() for a, b in combinations(by.values(), 2) for iou in _ious(a, b)]
    return {
        "cases": len(several),
        "people": {person: sum(person in by for by in several.values()) for person in people},
        "verdict": _measure(several, people, lambda case: str(case.review.state == "rejected")),
        "answer": _measure(kept, people, lambda case: str(case.answer)),
        "match_types": {
            short: _measure(kept, people, lambda case, n=number: str(n in case.match_types))  # type: ignore[misc]
            for number, (short, _) in MATCH_TYPES.items()
        },
        "mask_iou": round(fmean(ious), 6) if ious else None,
        "disagreements": [
            case
            for case, by in several.items()
            if len({(o.review.state == "rejected", o.answer) for o in by.values()}) > 1
        ],
    }


def _measure(opinions: Opinions, people: Sequence[str], value: Callable[[Case], str]) -> dict[str, float | int | None]:
    rows = [{person: value(case) for person, case in by.items()} for by in opinions.values() if len(by) > 1]
    pairs = [a == b for row in rows for a, b in combinations(row.values(), 2)]
    domain = sorted({v for row in rows for v in row.values()})
    alpha = None
    if len(domain) > 1:
        table = np.array([[domain.index(row[p]) if p in row else np.nan for row in rows] for p in people])
        alpha = round(float(_krippendorff().alpha(table, level_of_measurement="nominal")), 6)
    return {"pairs": len(pairs), "share": round(fmean(pairs), 6) if pairs else None, "alpha": alpha}


def _ious(a: Case, b: Case) -> list[float]:
    frames = [*a.frames[:-1], *[a.frames[-1]] * len(a.candidates)]
    ones, others = ([*case.query, *(c.region for c in case.candidates)] for case in (a, b))
    found = []
    for frame, one, other in zip(frames, ones, others, strict=True):
        mine, theirs = (mask_of(region, frame.height, frame.width) for region in (one, other))
        found.append(1.0 if mine == theirs else float(masks.iou([mine], [theirs])[0, 0]))
    return found


def _krippendorff() -> Any:
    try:
        import krippendorff
    except ImportError as error:
        raise UsageError("agreement needs one more package: pip install 'mmvm-data[review]'") from error
    return krippendorff

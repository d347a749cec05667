"""How far people agree on cases that several of them annotated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from mmvm_data.core import masks
from mmvm_data.core.errors import UsageError
from mmvm_data.core.types import MATCH_TYPES, Case

Opinions = Mapping[str, Mapping[str, Case]]
"""Case id -> person -> the case after that person's annotation."""


def measure_agreement(opinions: Opinions) -> dict[str, Any]:
    """Agreement over the cases with two people or more.

    Returns:
        plain JSON: ``cases``, ``people`` (cases each), for the verdict, the answer and each match type ``share`` (of
        pairs that agree, 0..1) and ``alpha`` (Krippendorff's, nominal; None when everyone gives one value, which leaves
        it undefined), ``mask_iou`` (mean over the objects, of pairs), ``disagreements`` (ids of cases whose answers or
        verdicts differ).
    """
    shared = {case: dict(sorted(by.items())) for case, by in sorted(opinions.items()) if len(by) > 1}
    people = sorted({person for by in shared.values() for person in by})
    kept = {c: {p: o for p, o in by.items() if verdict_of(o) == "kept"} for c, by in shared.items()}
    ious = [iou for by in kept.values() for a, b in combinations(by.values(), 2) for iou in mask_ious(a, b)]
    return {
        "cases": len(shared),
        "people": {person: sum(person in by for by in shared.values()) for person in people},
        "verdict": _measure_value(shared, people, verdict_of),
        "answer": _measure_value(kept, people, lambda case: str(case.answer)),
        "match_types": {
            short: _measure_value(kept, people, lambda case, n=number: str(n in case.match_types))  # type: ignore[misc]
            for number, (short, _) in MATCH_TYPES.items()
        },
        "mask_iou": round(fmean(ious), 6) if ious else None,
        "disagreements": [
            case for case, by in shared.items() if len({(verdict_of(o), o.answer) for o in by.values()}) > 1
        ],
    }


def verdict_of(case: Case) -> str:
    """The verdict of a reviewed case: "kept" when it was accepted or fixed, else "rejected" or "unsure"."""
    return case.review.state if case.review.state in ("rejected", "unsure") else "kept"


def measure_annotators(opinions: Opinions, known: Mapping[str, int | None]) -> dict[str, dict[str, float | int]]:
    """How often each person is right about golden cases.

    Args:
        opinions: case id -> person -> the case after that person's annotation.
        known: case id -> the right answer.

    Returns:
        by person, plain JSON: ``cases``, ``right`` (kept with the right answer), ``share``.
    """
    measured: dict[str, dict[str, float | int]] = {}
    for name, answer in known.items():
        for person, case in opinions.get(name, {}).items():
            counts = measured.setdefault(person, {"cases": 0, "right": 0})
            counts["cases"] += 1
            counts["right"] += verdict_of(case) == "kept" and case.answer == answer
    for counts in measured.values():
        counts["share"] = round(counts["right"] / counts["cases"], 6)
    return dict(sorted(measured.items()))


def _measure_value(
    opinions: Opinions, people: Sequence[str], value: Callable[[Case], str]
) -> dict[str, float | int | None]:
    """Agreement on one value of a case."""
    rows = [{person: value(case) for person, case in by.items()} for by in opinions.values() if len(by) > 1]
    pairs = [a == b for row in rows for a, b in combinations(row.values(), 2)]
    domain = sorted({v for row in rows for v in row.values()})
    alpha = None
    if len(domain) > 1:
        table = np.array([[domain.index(row[p]) if p in row else np.nan for row in rows] for p in people])
        alpha = round(float(_import_krippendorff().alpha(table, level_of_measurement="nominal")), 6)
    return {"pairs": len(pairs), "share": round(fmean(pairs), 6) if pairs else None, "alpha": alpha}


def mask_ious(a: Case, b: Case) -> list[float]:
    """Overlap of each object of a case between two people's annotations, 0..1."""
    frames = [*a.frames[:-1], *[a.frames[-1]] * len(a.candidates)]
    regions_a, regions_b = ([*case.query, *(c.region for c in case.candidates)] for case in (a, b))
    ious = []
    for frame, region_a, region_b in zip(frames, regions_a, regions_b, strict=True):
        mask_a, mask_b = (masks.region_mask(region, frame.height, frame.width) for region in (region_a, region_b))
        ious.append(1.0 if mask_a == mask_b else float(masks.iou([mask_a], [mask_b])[0, 0]))
    return ious


def _import_krippendorff() -> Any:
    try:
        import krippendorff
    except ImportError as error:
        raise UsageError("agreement needs one more package: pip install 'mmvm-data[review]'") from error
    return krippendorff

"""Counts over the cases of a benchmark; every histogram is mergeable and free of file access."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from mmvm_data.core.case_facts import UNKNOWN, answer_letter, region_area, source_name, video_id
from mmvm_data.core.errors import Reject
from mmvm_data.core.types import Case


@dataclass
class SourceStats:
    """Counts of one source; ``candidates`` is the sum over its cases."""

    cases: int = 0
    videos: int = 0
    none: int = 0
    candidates: int = 0
    rejects: int = 0


@dataclass
class Stats:
    """Counts over one benchmark folder. Every histogram is value -> number of cases, unless noted otherwise. Cases that
    people rejected are counted in ``rejected`` and ``reviews`` only, since the tsv and exports leave them out too.

    Attributes:
        cases, videos: totals; a video counts once for each source.
        rejected: cases that people rejected.
        none: cases whose answer is "none of the above".
        sources: name of the source -> its counts.
        candidates: number of candidates.
        query_areas: lower edge of a bin of a factor of two, in pixels (0, 1, 2, 4, …) -> query regions.
        candidate_areas: the same for candidate regions.
        gaps: frames of the source between the first and the last image.
        letters: letter of the right option.
        match_types: 1..8, 0 for cases without a match type; a case counts in each of its types.
        prompts: ``mask`` or ``box``.
        look_alikes: candidates of the query's category, the answer not counted.
        reviews: state of the review.
        images: number of images a case.
        rejects: records in ``rejects.jsonl``.
        reasons: reason without its numbers and names -> number of rejects.
        problems: what could not be read of a set that has no ``cases.jsonl``.
        build: content of ``build.json``, or None.
    """

    cases: int = 0
    videos: int = 0
    rejected: int = 0
    none: int = 0
    sources: dict[str, SourceStats] = field(default_factory=dict)
    candidates: Counter[int] = field(default_factory=Counter)
    query_areas: Counter[int] = field(default_factory=Counter)
    candidate_areas: Counter[int] = field(default_factory=Counter)
    gaps: Counter[int] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    match_types: Counter[int] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    look_alikes: Counter[int] = field(default_factory=Counter)
    reviews: Counter[str] = field(default_factory=Counter)
    images: Counter[int] = field(default_factory=Counter)
    rejects: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    problems: int = 0
    build: dict[str, Any] | None = None
    _videos: set[tuple[str, str]] = field(default_factory=set, repr=False)

    @property
    def none_share(self) -> float:
        """Share of "none of the above" cases, 0..1."""
        return self.none / self.cases if self.cases else 0.0

    def add_case(self, case: Case) -> None:
        """Count one case."""
        self.reviews[case.review.state] += 1
        if case.review.state == "rejected":
            self.rejected += 1
            return
        source = source_name(case)
        source_stats = self.sources.setdefault(source, SourceStats())
        self.cases += 1
        source_stats.cases += 1
        source_stats.candidates += len(case.candidates)
        video = video_id(case)
        if video and (source, video) not in self._videos:
            self._videos.add((source, video))
            self.videos += 1
            source_stats.videos += 1
        if case.answer is None:
            self.none += 1
            source_stats.none += 1
        self.candidates[len(case.candidates)] += 1
        self.query_areas.update(floor_power_of_two(region_area(region)) for region in case.query)
        self.candidate_areas.update(floor_power_of_two(region_area(candidate.region)) for candidate in case.candidates)
        self.letters[answer_letter(case) or UNKNOWN] += 1
        self.match_types.update(sorted(set(case.match_types)) or [0])
        self.prompts[case.prompt] += 1
        self.images[len(case.frames)] += 1
        if case.provenance:
            self.gaps[case.provenance.gap] += 1
            self.look_alikes[case.provenance.look_alikes] += 1

    def add_reject(self, reject: Reject) -> None:
        """Count one reject."""
        self.rejects += 1
        self.reasons[normalize_reason(reject.reason)] += 1
        self.sources.setdefault(reject.source, SourceStats()).rejects += 1

    def to_json(self) -> dict[str, Any]:
        """JSON values; histograms have string keys in ascending order of the value, sources by name."""
        report: dict[str, Any] = {
            "cases": self.cases,
            "videos": self.videos,
            "rejected": self.rejected,
            "none": self.none,
            "none_share": round(self.none_share, 6),
            "rejects": self.rejects,
            "problems": self.problems,
            "sources": {name: asdict(self.sources[name]) for name in sorted(self.sources)},
        }
        for name in HISTOGRAMS:
            report[name] = {str(value): count for value, count in sorted(getattr(self, name).items())}
        return report | {"build": self.build}


HISTOGRAMS: Final = {
    "candidates": "candidates",
    "query_areas": "query area, pixels from",
    "candidate_areas": "candidate area, pixels from",
    "gaps": "gap, frames",
    "letters": "answer",
    "match_types": "match type",
    "prompts": "prompt",
    "look_alikes": "look-alikes",
    "reviews": "review",
    "images": "images",
    "reasons": "reason of the reject",
}
"""Histogram of ``Stats`` -> its title."""


def normalize_reason(reason: str) -> str:
    """A reason without the parts that differ from one reject to the next: quoted words become '…', numbers N."""
    return re.sub(r"\d+(?:\.\d+)?", "N", re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", reason))


def floor_power_of_two(area: int) -> int:
    """The largest power of two that is at most ``area``; 0 for 0."""
    return 1 << (area.bit_length() - 1) if area > 0 else 0

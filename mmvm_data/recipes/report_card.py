"""The report card of a benchmark: cases by source and difficulty, and what blind baselines score, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from mmvm_data.audit.baseline_scores import BaselineScore, score_baselines
from mmvm_data.audit.case_inspector import inspect_cases
from mmvm_data.audit.case_table import CaseTable
from mmvm_data.audit.gradient_boosting import MIN_VIDEOS, describe_shortage
from mmvm_data.audit.results import AuditOptions
from mmvm_data.core.case_facts import DIFFICULTIES, difficulty_name, source_name, video_id
from mmvm_data.core.plurals import pluralize
from mmvm_data.formats.bench_read import Problem
from mmvm_data.formats.build_files import REJECTS, read_cases
from mmvm_data.io.files import open_regular
from mmvm_data.io.json_files import parse_json_object

MAX_PLAYED = 1000
"""Cases that the baselines play, which takes a few seconds; `mmvm-data audit` plays all, with images."""


@dataclass
class SourceCard:
    """Counts of one source; ``difficulty`` has the cases by ``DIFFICULTIES``."""

    cases: int = 0
    videos: int = 0
    none: int = 0
    rejects: int = 0
    difficulty: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DIFFICULTIES, 0))


@dataclass(frozen=True)
class ReportCard:
    """What a build has made.

    Attributes:
        sources: by name; in a recipe, the name there.
        played: number of cases that the baselines played, without images.
        shortcuts: scores of the baselines that beat chance; none where there are too few videos to judge.
        audit: the same in one line.
    """

    sources: dict[str, SourceCard]
    played: int
    shortcuts: tuple[BaselineScore, ...]
    audit: str

    @property
    def difficulty(self) -> dict[str, int]:
        """Number of cases of each difficulty."""
        return {name: sum(source.difficulty[name] for source in self.sources.values()) for name in DIFFICULTIES}

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "sources": {name: asdict(source) for name, source in self.sources.items()},
            "difficulty": self.difficulty,
            "audit": {
                "played": self.played,
                "summary": self.audit,
                "shortcuts": [score.to_json() for score in self.shortcuts],
            },
        }


def make_card(out: Path, splits: Sequence[str] = ()) -> ReportCard:
    """The card of a finished build.

    Args:
        out: its folder.
        splits: names of the folders in it that are a benchmark each; empty where the folder itself is one.

    Raises:
        InputError: a record cannot be read.
    """
    folders = [out / split for split in splits] or [out]
    sources = _count_sources(out, folders)
    problems: list[Problem] = []
    options = AuditOptions(pixels=False)
    inspected = chain.from_iterable(
        inspect_cases(folder, options, problems, with_baselines=True, progress=None, with_hashes=False)
        for folder in folders
    )
    cases = CaseTable.from_inspected(islice(inspected, MAX_PLAYED))
    videos = len(cases.video_names)
    scores = score_baselines(cases)
    shortcuts = tuple(score for score in scores if score.beats_chance()) if videos >= MIN_VIDEOS else ()
    total = sum(source.cases for source in sources.values())
    return ReportCard(sources, len(cases), shortcuts, describe_scores(scores, videos, len(cases) < total))


def describe_scores(scores: Sequence[BaselineScore], videos: int, is_part: bool) -> str:
    """What the baselines score, in one line.

    Args:
        scores: of all of them.
        videos: number of videos whose cases they played.
        is_part: whether they played the first cases only.
    """
    if not scores:
        return "no case to judge"
    if videos < MIN_VIDEOS:
        return describe_shortage(videos)
    where = f" on the first {pluralize(scores[0].cases, 'case')}" if is_part else ""
    shortcuts = sorted(
        (score for score in scores if score.beats_chance()), key=lambda score: score.chance - score.score
    )
    if not shortcuts:
        return f"no blind baseline beats chance{where}; `mmvm-data audit` plays nearest color and gradient boosting too"
    named = ", ".join(
        f"{score.baseline.replace('_', ' ')} {score.score:.0%} (chance {score.chance:.0%})" for score in shortcuts[:3]
    )
    rest = f" and {len(shortcuts) - 3} more" if len(shortcuts) > 3 else ""
    return f"blind baselines beat chance{where}: {named}{rest}"


def _count_sources(out: Path, folders: Sequence[Path]) -> dict[str, SourceCard]:
    sources: dict[str, SourceCard] = {}
    videos: dict[str, set[tuple[str, str]]] = {}
    for case in chain.from_iterable(map(read_cases, folders)):
        origin = case.provenance
        name = str((origin.extra if origin else {}).get("recipe_source") or source_name(case))
        card = sources.setdefault(name, SourceCard())
        card.cases += 1
        card.none += case.answer is None
        card.difficulty[difficulty_name(origin.look_alikes if origin else 0)] += 1
        videos.setdefault(name, set()).add((source_name(case), video_id(case) or case.id))
    with open_regular(out / REJECTS) as lines:
        for number, line in enumerate(lines, 1):
            record = parse_json_object(line, out / REJECTS, f"line {number}")
            name = str(record.get("recipe_source") or record.get("source"))
            sources.setdefault(name, SourceCard()).rejects += 1
    for name, own in videos.items():
        sources[name].videos = len(own)
    return sources

"""What a build holds, counted in one pass over its files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import MATCH_TYPES, Case, Region
from mmvm_data.formats import bench

REJECTS, BUILD = "rejects.jsonl", "build.json"
UNKNOWN = "(unknown)"
_REJECT = TypeAdapter(Reject)


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
    """Counts over one benchmark folder. Every histogram is value -> number of cases, unless said otherwise. Cases that
    people rejected are in ``rejected`` and ``reviews`` alone, since they have left the tsv and exports too.

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

    def add(self, case: Case) -> None:
        """Count one case."""
        self.reviews[case.review.state] += 1
        if case.review.state == "rejected":
            self.rejected += 1
            return
        source = source_of(case)
        line = self.sources.setdefault(source, SourceStats())
        self.cases += 1
        line.cases += 1
        line.candidates += len(case.candidates)
        video = video_of(case)
        if video and (source, video) not in self._videos:
            self._videos.add((source, video))
            self.videos += 1
            line.videos += 1
        if case.answer is None:
            self.none += 1
            line.none += 1
        self.candidates[len(case.candidates)] += 1
        self.query_areas.update(_octave(area_of(region)) for region in case.query)
        self.candidate_areas.update(_octave(area_of(candidate.region)) for candidate in case.candidates)
        self.letters[letter_of(case) or UNKNOWN] += 1
        self.match_types.update(sorted(set(case.match_types)) or [0])
        self.prompts[case.prompt] += 1
        self.images[len(case.frames)] += 1
        if case.provenance:
            self.gaps[case.provenance.gap] += 1
            self.look_alikes[case.provenance.look_alikes] += 1

    def add_reject(self, reject: Reject) -> None:
        """Count one reject."""
        self.rejects += 1
        self.reasons[reason_kind(reject.reason)] += 1
        self.sources.setdefault(reject.source, SourceStats()).rejects += 1

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; histograms have string keys in ascending order of the value, sources by name."""
        plain: dict[str, Any] = {
            "cases": self.cases,
            "videos": self.videos,
            "rejected": self.rejected,
            "none": self.none,
            "none_share": round(self.none_share, 6),
            "rejects": self.rejects,
            "problems": self.problems,
            "sources": {name: asdict(self.sources[name]) for name in sorted(self.sources)},
        }
        for name in _HISTOGRAMS:
            plain[name] = {str(value): count for value, count in sorted(getattr(self, name).items())}
        return plain | {"build": self.build}


_HISTOGRAMS = {
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


def collect(folder: Path) -> Stats:
    """Count the cases, rejects and build facts of a benchmark folder.

    The files are read line by line; memory grows with the number of different videos and reasons only.

    Args:
        folder: output of a build, or a benchmark without ``cases.jsonl`` (case folders and a tsv).

    Raises:
        InputError: a file is missing or a line of it cannot be read.
    """
    stats = Stats(build=read_build(folder))
    problems: list[bench.Problem] = []
    for case in read_cases(folder, problems):
        stats.add(case)
    stats.problems = len(problems)
    for reject in read_rejects(folder):
        stats.add_reject(reject)
    return stats


def read_cases(folder: Path, problems: list[bench.Problem] | None = None) -> Iterator[Case]:
    """The cases of a benchmark folder in order: from ``cases.jsonl``, or from the tsv and the case folders.

    Our own records must all be whole. A set of another origin is shown as far as it can be read.

    Args:
        folder: the benchmark.
        problems: gets what could not be read of a set without ``cases.jsonl``.

    Raises:
        InputError: neither is there (a build that has not ended has none), or a line of ``cases.jsonl`` is not a case.
    """
    own = (folder / bench.CASES).is_file()
    if not own and not (folder / bench.TSV).is_file():
        unfinished = (folder / bench.FOLDER).is_dir()
        hint = "a build that has not ended? go on with --resume" if unfinished else "expected the output of a build"
        raise InputError(folder, f"holds no benchmark, neither {bench.CASES} nor {bench.TSV}: {hint}")
    return bench.read(folder, None if own else [] if problems is None else problems)


def read_rejects(folder: Path) -> Iterator[Reject]:
    """The records of ``rejects.jsonl``, none when there is no such file.

    Raises:
        InputError: a line is not a reject.
    """
    path = folder / REJECTS
    if not path.is_file():
        return
    for number, line in _lines(path):
        try:
            yield _REJECT.validate_json(line)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise InputError(path, first["msg"], f"line {number}{f', {where}' if where else ''}") from error


def read_build(folder: Path) -> dict[str, Any] | None:
    """The content of ``build.json``; None when there is no such file.

    Raises:
        InputError: it is not a JSON object.
    """
    path = folder / BUILD
    if not path.is_file():
        return None
    try:
        build = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (ValueError, OSError) as error:
        raise InputError(path, f"expected JSON: {error}") from error
    if not isinstance(build, dict):
        raise InputError(path, f"expected a JSON object, found {type(build).__name__}")
    return build


def source_of(case: Case) -> str:
    """Name of the case's source, ``(unknown)`` when the set does not say."""
    name = case.provenance.source if case.provenance else case.extra.get("source")
    return str(name) if name else UNKNOWN


def video_of(case: Case) -> str | None:
    """Id of the case's video in its source, None when the set does not say."""
    name = case.provenance.video if case.provenance else case.extra.get("video")
    return str(name) if name else None


def letter_of(case: Case) -> str | None:
    """Letter of the right option, None when no option stands for the answer."""
    return next((option.letter for option in case.options if option.number == case.answer), None)


def area_of(region: Region) -> int:
    """Pixels of a mask, or width x height of a box, rounded."""
    if region.mask is not None:
        return masks.area(region.mask)
    return round(region.box[2] * region.box[3]) if region.box else 0


def reason_kind(reason: str) -> str:
    """A reason without what differs from one reject to the next: quoted words become '…', numbers N."""
    return re.sub(r"\d+(?:\.\d+)?", "N", re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", reason))


def render(stats: Stats, console: Console) -> None:
    """Print the counts as tables."""
    if stats.sources:
        table = Table(title="Sources", title_justify="left")
        for name in ("source", "cases", "videos", "mean candidates", "none of the above", "rejects"):
            table.add_column(name, justify="left" if name == "source" else "right")
        for name in sorted(stats.sources):
            line = stats.sources[name]
            mean = f"{line.candidates / line.cases:.1f}" if line.cases else "-"
            row = (line.cases, line.videos, mean, _share(line.none, line.cases), line.rejects)
            table.add_row(escape(name), *map(str, row))
        table.add_section()
        everything = sum(line.candidates for line in stats.sources.values())
        mean = f"{everything / stats.cases:.1f}" if stats.cases else "-"
        row = (stats.cases, stats.videos, mean, _share(stats.none, stats.cases), stats.rejects)
        table.add_row("all", *map(str, row))
        console.print(table)
    for name, title in _HISTOGRAMS.items():
        counts: Counter[Any] = getattr(stats, name)
        label = _match_type if name == "match_types" else str
        if name == "gaps" and len(counts) > 16:
            counts, title = _octaves(counts), f"{title} from"
        if counts:
            console.print(_histogram(title, counts, label, by_count=name == "reasons"))
    if stats.problems:
        console.print(f"problems found while reading: {stats.problems} (mmvm-data validate lists them)")
    if stats.rejected:
        said = "case was" if stats.rejected == 1 else "cases were"
        console.print(f"{stats.rejected} {said} rejected by people, and left out of the figures above but for review")
    if not stats.cases:
        console.print("no cases")


def _match_type(number: int) -> str:
    return " ".join(MATCH_TYPES[number]) if number else "none given"


def _histogram(title: str, counts: Counter[Any], label: Callable[[Any], str], by_count: bool) -> Table:
    table = Table(title=title[0].upper() + title[1:], title_justify="left", show_header=False, box=None)
    table.add_column(justify="left" if by_count else "right", overflow="fold")
    table.add_column(justify="right")
    table.add_column()
    rows = sorted(counts.items(), key=lambda item: (-item[1], item[0])) if by_count else sorted(counts.items())
    most, total = max(counts.values()), sum(counts.values())
    for value, count in rows[:60]:
        table.add_row(
            escape(label(value)), str(count), f"{'█' * max(1, round(24 * count / most))} {_share(count, total)}"
        )
    if len(rows) > 60:
        table.add_row("…", str(sum(count for _, count in rows[60:])), f"in {len(rows) - 60} more")
    return table


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def _octaves(counts: Counter[int]) -> Counter[int]:
    merged: Counter[int] = Counter()
    for value, count in counts.items():
        merged[_octave(value)] += count
    return merged


def _octave(area: int) -> int:
    return 1 << (area.bit_length() - 1) if area > 0 else 0


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with open(path, encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from error

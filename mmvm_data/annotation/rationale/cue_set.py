"""Cues for the cases of a benchmark, written as a new revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.annotation.rationale.surroundings import SourceVideos
from mmvm_data.cases import ocr
from mmvm_data.cases.cues import propose
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.types import MATCH_TYPES, Case, Cue
from mmvm_data.formats import bench
from mmvm_data.formats.revisions import revise
from mmvm_data.io import media


@dataclass
class CueTally:
    """What a run did: cases looked at, proposals by the type's abbreviation, (case, reason) of what failed, ids of the
    cases that became different."""

    cases: int = 0
    types: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def write_cues(directory: Path, root: Path | None = None, show: Callable[[int, int], None] | None = None) -> CueTally:
    """Propose cues for every case; what a person said stays, and no type of theirs is proposed again. Text is looked at
    when the extra ``ocr`` is installed.

    Args:
        directory: a benchmark with cases.jsonl.
        root: folder of the source, so that neighbours, motion and contact are measured too.
        show: called after each case with the numbers of cases and of proposals.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: it has no cases.jsonl, or the source cannot be opened.
        OutputError: the folder cannot be written.
    """
    if not (directory / bench.CASES).is_file():
        raise UsageError(f"{directory}: has no {bench.CASES}; `mmvm-data export DIR --to bench --out COPY` makes one")
    tally, found = CueTally(), {}
    videos = SourceVideos(root) if root else None
    read_text = ocr.reader()
    for case in bench.read(directory):
        tally.cases += 1
        try:
            around = videos.around(case) if videos else None
            cues = propose(case, [media.read_frame_bgr(directory, frame) for frame in case.frames], around, read_text)
        except (InputError, ValueError) as error:
            tally.failures.append((case.id, str(error)))
            continue
        found[case.id] = changed = _merged(case, cues)
        tally.types.update(MATCH_TYPES[cue.type][0] for cue in changed.cues if cue.source == "proposed")
        if show:
            show(tally.cases, sum(tally.types.values()))
    tally.changed = revise(directory, found)
    return tally


def _merged(case: Case, proposed: tuple[Cue, ...]) -> Case:
    human = tuple(cue for cue in case.cues if cue.source == "human")
    said = {cue.type for cue in human}
    return case.model_copy(update={"cues": (*human, *(cue for cue in proposed if cue.type not in said))})

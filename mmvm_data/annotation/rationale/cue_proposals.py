"""Propose cues for the cases of a benchmark and write them as a new revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.annotation.rationale.selection import read_cases
from mmvm_data.annotation.rationale.surroundings import SourceVideos
from mmvm_data.cases import ocr
from mmvm_data.cases.cues import propose_cues
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Cue
from mmvm_data.formats.revisions import revise
from mmvm_data.io import media


@dataclass
class CueSummary:
    """Result of ``write_cues``.

    Attributes:
        cases: number of cases.
        types: number of proposals by abbreviation of the match type.
        failures: (case id, reason).
        changed: ids of the cases that changed.
    """

    cases: int = 0
    types: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)


def write_cues(
    directory: Path, root: Path | None = None, on_progress: Callable[[int, int], None] | None = None
) -> CueSummary:
    """Propose cues for every case and write them to the benchmark.

    Cues from people are kept, and their match types are not proposed again. Text in the images is read when the extra
    ``ocr`` is installed.

    Args:
        directory: a benchmark with cases.jsonl.
        root: folder of the source; with it neighbors, motion and contact are measured too.
        on_progress: called after each case with the numbers of cases and of proposals.

    Raises:
        InputError: the benchmark cannot be read.
        UsageError: it has no cases.jsonl, or the source cannot be opened.
        OutputError: the folder cannot be written.
    """
    summary = CueSummary()
    revised: dict[str, Case] = {}
    videos = SourceVideos(root) if root else None
    read_text = ocr.open_text_reader()
    for case in read_cases(directory):
        summary.cases += 1
        try:
            surroundings = videos.measure_surroundings(case) if videos else None
            images = [media.read_frame_bgr(directory, frame) for frame in case.frames]
            proposed = propose_cues(case, images, surroundings, read_text)
        except (InputError, ValueError) as error:
            summary.failures.append((case.id, str(error)))
            continue
        revised[case.id] = revised_case = _merge_cues(case, proposed)
        summary.types.update(MATCH_TYPES[cue.type][0] for cue in revised_case.cues if cue.source == "proposed")
        if on_progress:
            on_progress(summary.cases, sum(summary.types.values()))
    summary.changed = revise(directory, revised)
    return summary


def _merge_cues(case: Case, proposed: tuple[Cue, ...]) -> Case:
    """Keep the cues from people and add the proposals of other match types."""
    human = tuple(cue for cue in case.cues if cue.source == "human")
    human_types = {cue.type for cue in human}
    return case.model_copy(update={"cues": (*human, *(cue for cue in proposed if cue.type not in human_types))})

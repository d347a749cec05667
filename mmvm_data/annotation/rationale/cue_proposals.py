"""Propose cues for the cases of a benchmark and write them as a new revision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.annotation.rationale.selection import digest_subject, read_cases
from mmvm_data.annotation.rationale.surroundings import SourceVideos
from mmvm_data.cases import ocr
from mmvm_data.cases.cues import propose_cues
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import MATCH_TYPES, Case, Cue
from mmvm_data.formats.revisions import Edit, revise
from mmvm_data.io import media


@dataclass(frozen=True)
class _Proposals:
    """What is kept of a measured case until the benchmark is written.

    Attributes:
        subject: of the case, see ``digest_subject``.
        cues: that were proposed.
        types: abbreviations of the match types that were counted.
    """

    subject: bytes
    cues: tuple[Cue, ...]
    types: list[str]


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
    proposals: dict[str, _Proposals] = {}
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
        types = _proposed_types(merge_cues(case, proposed))
        proposals[case.id] = _Proposals(digest_subject(case), proposed, types)
        summary.types.update(types)
        if on_progress:
            on_progress(summary.cases, sum(summary.types.values()))
    summary.changed = revise(directory, _make_edits(proposals, summary), "mmvm-data cues")
    return summary


def _make_edits(proposals: dict[str, _Proposals], summary: CueSummary) -> dict[str, Case | Edit]:
    """Edits that merge the proposals into the records as they are then; those that no longer fit are dropped."""

    def make_edit(proposal: _Proposals) -> Edit:
        def edit(current: Case) -> Case:
            if digest_subject(current) == proposal.subject:
                return merge_cues(current, proposal.cues)
            summary.types.subtract(proposal.types)
            summary.failures.append((current.id, "the case was changed while it was measured; run the command again"))
            return current

        return edit

    return {name: make_edit(proposal) for name, proposal in proposals.items()}


def _proposed_types(case: Case) -> list[str]:
    return [MATCH_TYPES[cue.type][0] for cue in case.cues if cue.source == "proposed"]


def merge_cues(case: Case, proposed: tuple[Cue, ...]) -> Case:
    """Keep the cues from people and add the proposals of other match types."""
    human = tuple(cue for cue in case.cues if cue.source == "human")
    human_types = {cue.type for cue in human}
    return case.model_copy(update={"cues": (*human, *(cue for cue in proposed if cue.type not in human_types))})

"""Audits a benchmark: scores of blind baselines, repeated questions, duplicate frames, leakage from another set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.audit import duplicates
from mmvm_data.audit.baseline_scores import interval_width, score_baselines
from mmvm_data.audit.case_inspector import Progress, inspect_cases
from mmvm_data.audit.case_table import CaseTableBuilder
from mmvm_data.audit.duplicates import FrameIndex
from mmvm_data.audit.gradient_boosting import score_gradient_boosting
from mmvm_data.audit.inspected_case import InspectedCase
from mmvm_data.audit.results import AuditOptions, AuditResult, Leakage
from mmvm_data.formats.bench_read import Problem


@dataclass
class _SetSummary:
    """What is kept of one set while its cases are inspected.

    Attributes:
        videos: source and id of each video that the set names.
        ids_by_question: digest of a question -> ids of the cases that ask it.
    """

    cases: int = 0
    learned: CaseTableBuilder = field(default_factory=CaseTableBuilder)
    problems: list[Problem] = field(default_factory=list)
    videos: set[tuple[str, str]] = field(default_factory=set)
    ids_by_question: dict[bytes, list[str]] = field(default_factory=dict)

    def add_case(self, case: InspectedCase) -> None:
        """Count one case."""
        self.cases += 1
        self.problems += case.problems
        self.learned.add_inspected(case)
        if case.video is not None:
            self.videos.add((case.source, case.video))
        self.ids_by_question.setdefault(case.question_digest, []).append(case.id)


def audit(
    directory: Path,
    against: Path | None = None,
    options: AuditOptions | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Audit a benchmark, and compare it with another set.

    Args:
        directory: folder of the benchmark.
        against: folder of another set, such as the one that a model was trained on.
        options: what to look at.
        progress: called with the number of cases that are done, from time to time.

    Raises:
        InputError: a benchmark cannot be read. Errors of single cases are in ``problems`` of the result.
    """
    options = options or AuditOptions()
    frames, frames_of_both = FrameIndex(), FrameIndex()
    own = _SetSummary()
    for case in inspect_cases(directory, options, own.problems, with_baselines=True, progress=progress):
        own.add_case(case)
        _add_frames(frames, case, 0)
        if against:
            _add_frames(frames_of_both, case, 0)
    leak = None
    if against:
        other = _SetSummary()
        for case in inspect_cases(against, options, other.problems, with_baselines=False, progress=None):
            other.add_case(case)
            _add_frames(frames_of_both, case, 1)
            if progress:
                progress(own.cases + other.cases)
        own.problems += other.problems
        shared = own.videos & other.videos
        ids = {video for _, video in own.videos - shared} & {video for _, video in other.videos - shared}
        leak = Leakage(
            against=against,
            cases=other.cases,
            videos=tuple(sorted(f"{source} {video}" for source, video in shared)),
            same_ids=tuple(sorted(ids)),
            frames=duplicates.find_between_sets(frames_of_both) if options.pixels else None,
        )
    cases = own.learned.build()
    scores = score_baselines(cases)
    learned = score_gradient_boosting(cases, interval_width())
    if learned.score:
        scores.append(learned.score)
    return AuditResult(
        directory=directory,
        cases=own.cases,
        scores=tuple(scores),
        learned=learned,
        judged_videos=len(cases.video_names),
        repeated=tuple(tuple(ids) for ids in own.ids_by_question.values() if len(ids) > 1),
        frames=duplicates.find_within_set(frames) if options.pixels else None,
        leak=leak,
        problems=tuple(own.problems),
        options=options,
    )


def _add_frames(index: FrameIndex, case: InspectedCase, side: int) -> None:
    index.begin_case(case.id, case.video_name, side)
    for image, hashed in case.hashes:
        index.add_frame(image, hashed)

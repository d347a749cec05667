"""The cases that the builds of a recipe's sources gave, and what choosing and splitting need of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.audit.case_inspector import inspect_cases
from mmvm_data.audit.case_table import LearnedCase
from mmvm_data.audit.duplicates import FrameIndex, iter_near_videos
from mmvm_data.audit.results import AuditOptions
from mmvm_data.core.errors import InputError
from mmvm_data.formats.bench_read import CASES, Problem
from mmvm_data.formats.set_files import read_set
from mmvm_data.recipes.multi_source.match_types import propose_types
from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.splits import VideoKey


@dataclass(frozen=True)
class PooledCase:
    """A case of the pool.

    Attributes:
        stage: number of its source in the recipe.
        id: in the build of its source.
        video: where it is from.
        letters: of its options.
        answer: letter of the right option.
        is_none: whether that is "none of the above".
        candidates: their number.
        look_alikes: candidates of the query's category, the answer not counted.
        match_types: abbreviations of those that are proposed, where a recipe balances them.
    """

    stage: int
    id: str
    video: VideoKey
    letters: tuple[str, ...]
    answer: str
    is_none: bool
    candidates: int
    look_alikes: int
    match_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """All cases, in the order of the sources.

    Attributes:
        cases: as they were built.
        near_videos: pairs of ``VideoKey.text`` of videos that share pictures, where there are splits.
        learned: what baselines answer, by number of the source and id, where ``resist`` needs it.
    """

    cases: list[PooledCase]
    near_videos: list[tuple[str, str]] = field(default_factory=list)
    learned: dict[tuple[int, str], LearnedCase] = field(default_factory=dict)


def read_pool(plan: Plan, stages: Sequence[Path], workers: int, progress: Callable[[int], None] | None) -> Pool:
    """Read the cases of all builds; images only where splits or baselines need them.

    Raises:
        InputError: a case or an image cannot be read.
    """
    pool, done = Pool([]), 0
    with_types = plan.recipe.balance is not None and plan.recipe.balance.match_types is not None
    for number, (stage, source) in enumerate(zip(stages, plan.sources, strict=True)):
        types: dict[str, tuple[str, ...]] = {}
        if with_types:
            types = propose_types(stage, workers, _count_on(progress, done))
            done += len(types)
        for case in read_set(stage):
            assert case.provenance is not None  # the build has written it
            pool.cases.append(
                PooledCase(
                    stage=number,
                    id=case.id,
                    video=VideoKey(source.name, source.reader, case.provenance.video),
                    letters=tuple(option.letter for option in case.options),
                    answer=case.letter,
                    is_none=case.answer is None,
                    candidates=len(case.candidates),
                    look_alikes=case.provenance.look_alikes,
                    match_types=types.get(case.id, ()),
                )
            )
    with_hashes, with_baselines = plan.recipe.splits is not None, plan.recipe.resist is not None
    if not with_hashes and not with_baselines:
        return pool
    frames, problems = FrameIndex(), list[Problem]()
    video_of = {(case.stage, case.id): case.video for case in pool.cases}
    for number, stage in enumerate(stages):
        report = _count_on(progress, done)
        options = AuditOptions(workers=workers)
        for inspected in inspect_cases(stage, options, problems, with_baselines, report, with_hashes):
            problems += inspected.problems
            done += 1
            frames.begin_case(inspected.id, video_of[number, inspected.id].text, 0)
            for image, hashed in inspected.hashes:
                frames.add_frame(image, hashed)
            if inspected.learned is not None:
                pool.learned[number, inspected.id] = inspected.learned
        if problems:
            where, what = problems[0]
            raise InputError(stage / CASES, f"{len(problems)} cases cannot be read: {what}", where)
    if with_hashes:
        pool.near_videos.extend(iter_near_videos(frames))
    return pool


def _count_on(progress: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    """Progress of a later pass over cases: the numbers before it are added."""
    return None if progress is None else lambda number: progress(before + number)

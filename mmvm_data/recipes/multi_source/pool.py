"""The cases that the builds of a recipe's sources gave, and what choosing and splitting need of each, as columns."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from mmvm_data.audit.case_table import CaseTable, CaseTableBuilder
from mmvm_data.audit.duplicates import FrameIndex
from mmvm_data.core.compact import NameList, Numbering
from mmvm_data.core.types import Option
from mmvm_data.formats.bench_read import read_records
from mmvm_data.recipes.inspected_pool import inspect_pool
from mmvm_data.recipes.multi_source.match_types import propose_types
from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.splits import VideoKey


class CaseKind(NamedTuple):
    """What a recipe balances; many cases share it.

    Attributes:
        letters: of the options.
        answer: letter of the right option.
        is_none: whether that is "none of the above".
        candidates: their number.
        look_alikes: candidates of the query's category, the answer not counted.
        match_types: abbreviations of those that are proposed, where a recipe balances them.
    """

    letters: tuple[str, ...]
    answer: str
    is_none: bool
    candidates: int
    look_alikes: int
    match_types: tuple[str, ...] = ()


class PooledCase(NamedTuple):
    """A case of the pool.

    Attributes:
        stage: number of its source in the recipe.
        id: in the build of its source.
        video: where it is from.
        kind: what is balanced of it.
    """

    stage: int
    id: str
    video: VideoKey
    kind: CaseKind


@dataclass(frozen=True)
class Pool:
    """All cases, in the order of the names of the sources.

    Attributes:
        ids: in the builds of their sources.
        stages: numbers of their sources in the recipe, int32 [cases].
        videos: where cases are from.
        video_numbers: positions in ``videos``, int32 [cases].
        kinds: what cases are like.
        kind_numbers: positions in ``kinds``, int32 [cases].
        frames: hashes of the frames of the cases, by ``VideoKey.text``, where there are splits.
        answers: what baselines answer, where ``resist`` needs it.
    """

    ids: NameList
    stages: NDArray[np.int32]
    videos: tuple[VideoKey, ...]
    video_numbers: NDArray[np.int32]
    kinds: tuple[CaseKind, ...]
    kind_numbers: NDArray[np.int32]
    frames: FrameIndex = field(default_factory=FrameIndex)
    answers: CaseTable | None = None

    @classmethod
    def from_cases(cls, cases: Iterable[PooledCase]) -> Pool:
        """The columns of cases, which can be dropped one by one."""
        columns = _Columns()
        for case in cases:
            columns.add(case)
        return columns.build()

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> PooledCase:
        return PooledCase(int(self.stages[number]), self.ids[number], self.video_of(number), self.kind_of(number))

    def video_of(self, number: int) -> VideoKey:
        """The video of a case."""
        return self.videos[int(self.video_numbers[number])]

    def kind_of(self, number: int) -> CaseKind:
        """What a case is like."""
        return self.kinds[int(self.kind_numbers[number])]

    def values(self, value_of: Callable[[CaseKind], Any]) -> NDArray[Any]:
        """A value of each case that follows from its kind, [cases]."""
        return np.array([value_of(kind) for kind in self.kinds])[self.kind_numbers]


@dataclass
class _Columns:
    """Collects a ``Pool``."""

    ids: NameList = field(default_factory=NameList)
    stages: array[int] = field(default_factory=lambda: array("i"))
    videos: Numbering[VideoKey] = field(default_factory=Numbering)
    video_numbers: array[int] = field(default_factory=lambda: array("i"))
    kinds: Numbering[CaseKind] = field(default_factory=Numbering)
    kind_numbers: array[int] = field(default_factory=lambda: array("i"))

    def add(self, case: PooledCase) -> None:
        self.ids.append(case.id)
        self.stages.append(case.stage)
        self.video_numbers.append(self.videos[case.video])
        self.kind_numbers.append(self.kinds[case.kind])

    def build(self, frames: FrameIndex | None = None, answers: CaseTable | None = None) -> Pool:
        stages, videos, kinds = (
            np.frombuffer(own, np.int32) for own in (self.stages, self.video_numbers, self.kind_numbers)
        )
        return Pool(
            self.ids, stages, tuple(self.videos), videos, tuple(self.kinds), kinds, frames or FrameIndex(), answers
        )


class _Candidate(BaseModel):
    """A candidate of a record; only how many there are is asked for."""


class _Origin(BaseModel):
    """As ``types.Provenance``."""

    video: str
    look_alikes: int


class _PoolRecord(BaseModel):
    """What a pool needs of a record that a build has written as a ``Case``."""

    id: str
    candidates: tuple[_Candidate, ...]
    answer: int | None
    options: tuple[Option, ...]
    provenance: _Origin

    @property
    def letter(self) -> str:
        """Letter of the right option."""
        return next(option.letter for option in self.options if option.number == self.answer)


def read_pool(plan: Plan, stages: Sequence[Path], workers: int, progress: Callable[[int], None] | None) -> Pool:
    """Read the cases of all builds; images only where splits or baselines need them.

    Raises:
        InputError: a case or an image cannot be read.
    """
    columns, done = _Columns(), 0
    with_types = plan.recipe.balance is not None and plan.recipe.balance.match_types is not None
    for number in plan.by_name:
        stage, source = stages[number], plan.sources[number]
        types: dict[str, tuple[str, ...]] = {}
        if with_types:
            types = propose_types(stage, workers, _count_on(progress, done))
            done += len(types)
        for _, record in read_records(stage, None, _PoolRecord):
            kind = CaseKind(
                letters=tuple(option.letter for option in record.options),
                answer=record.letter,
                is_none=record.answer is None,
                candidates=len(record.candidates),
                look_alikes=record.provenance.look_alikes,
                match_types=types.get(record.id, ()),
            )
            video = VideoKey(source.name, source.reader, record.provenance.video)
            columns.add(PooledCase(number, record.id, video, kind))
    with_hashes, with_baselines = plan.recipe.splits is not None, plan.recipe.resist is not None
    if not with_hashes and not with_baselines:
        return columns.build()
    frames, answers, position = FrameIndex(), CaseTableBuilder(), 0
    videos = list(columns.videos)
    for number in plan.by_name:
        report = _count_on(progress, done)
        for inspected in inspect_pool(stages[number], workers, report, with_baselines, with_hashes):
            done += 1
            if with_hashes:
                frames.begin_case(inspected.id, videos[columns.video_numbers[position]].text, 0)
                for image, hashed in inspected.hashes:
                    frames.add_frame(image, hashed)
            answers.add_inspected(inspected)
            position += 1
    return columns.build(frames, answers.build() if with_baselines else None)


def _count_on(progress: Callable[[int], None] | None, before: int) -> Callable[[int], None] | None:
    """Progress of a later pass over cases: the numbers before it are added."""
    return None if progress is None else lambda number: progress(before + number)

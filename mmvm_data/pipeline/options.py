"""Options, progress and result of a build."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from mmvm_data.cases.hardness import EmbeddingRankerFactory
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.options import options
from mmvm_data.pipeline.measuring import MeasurerFactory


@options
class BuildOptions:
    """Options of a build.

    Attributes:
        sampling: rules for drawing cases from a video.
        max_cases: number of cases after which the build stops; None: all that the source gives.
        workers: number of processes, or of actors on a Ray cluster.
        existing: what to do with an output folder that holds a build: ``refuse``, ``resume`` an unfinished one, or
            ``overwrite`` it.
        accept_changes: with ``existing="resume"``, build the videos again whose files have changed since the build was
            started; otherwise such a source is refused.
        quality: JPEG quality (1..100) of drawn images, and of originals whose source is no JPEG.
        proposals: folder of masks that are candidates beside the source's own objects; see ``builders.proposals``.
        engine: where workers run: ``local`` processes or a ``ray`` cluster.
        ray_address: address of the cluster; None starts one on this machine.
        keep_journal: keep the journal in a folder on this machine when the build is finished, so that a later
            ``existing="resume"`` compares the source with it again.
        index_folder: where the index of the source is kept for other builds; None: a hidden folder beside the output.
        writer_threads: threads in each local worker that decode the frames of the next case, and encode and write the
            last one, beside the rest of the work; 0: the worker does it, which takes the least processor time. None:
            the worker's share of the cores that have no worker, rounded up, two at most. The output does not depend on
            it. With threads, one worker begins with the next video before the files of the last one are written.
        ranker_factory: opens the model that ``sampling.embeddings`` names, in each worker; None uses the one that is
            installed (see ``pipeline.embedding_rankers``).
        measurer_factory: measures the cases while their pixels are in memory, for a pool of which some are chosen. Its
            results are the file ``measures.jsonl``, which audits read. It can be pickled. None: nothing is measured.

    Raises:
        OptionError: a value has the wrong type or is out of range.
    """

    sampling: SamplingOptions = dataclasses.field(default_factory=SamplingOptions)
    max_cases: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    existing: Literal["refuse", "resume", "overwrite"] = "refuse"
    accept_changes: bool = False
    quality: Annotated[int, Field(ge=1, le=100)] = 95
    proposals: Path | None = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    keep_journal: bool = False
    index_folder: Path | None = None
    writer_threads: Annotated[int, Field(ge=0, le=64)] | None = None
    ranker_factory: EmbeddingRankerFactory | None = None
    measurer_factory: MeasurerFactory | None = None

    @property
    def num_writer_threads(self) -> int:
        """``writer_threads``, with the number for this machine where it is None."""
        if self.writer_threads is not None:
            return self.writer_threads
        free = max(0, (os.cpu_count() or 1) - self.workers)
        return min(2, math.ceil(free / self.workers))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.accept_changes and self.existing != "resume":
            raise ValueError("accept_changes needs `existing='resume'`")
        if self.ray_address is not None and self.engine != "ray":
            raise ValueError("ray_address needs `engine='ray'`")
        return self


@dataclass(frozen=True)
class BuildProgress:
    """Progress of a build.

    Attributes:
        videos: videos that are done.
        total_videos: videos of the source.
        cases, rejects: written so far.
    """

    videos: int
    total_videos: int
    cases: int
    rejects: int


@dataclass(frozen=True)
class BuildResult:
    """Result of a build.

    Attributes:
        out: the output folder, or its URL.
        cases: number of cases; ``none_cases`` of them have the answer "none of the above".
        rejects: number of rejects; ``bad_inputs`` of them are faults of the input.
        videos: videos that were read.
        seconds: time that the build took, over all its restarts.
        already_done: whether it was finished before and nothing was done.
        common_reasons: the three commonest reasons of the rejects, each with the number of rejects.
    """

    out: Path | str
    cases: int
    none_cases: int
    rejects: int
    bad_inputs: int
    videos: int
    seconds: float
    already_done: bool = False
    common_reasons: tuple[tuple[str, int], ...] = ()

"""Builds the cases of one video in a worker process and writes them to a staging folder."""

from __future__ import annotations

import ctypes
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from mmvm_data.builders import open_source
from mmvm_data.builders.source import Source
from mmvm_data.cases.draw_ahead import draw_cases
from mmvm_data.cases.hardness import EmbeddingRanker, EmbeddingRankerFactory
from mmvm_data.cases.sampling import CaseDraft, VideoSampler, make_case
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.cases.visibility import is_proposal
from mmvm_data.core import rle
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.plurals import pluralize
from mmvm_data.core.types import Case, Frame, Provenance, Video
from mmvm_data.core.version import __version__
from mmvm_data.formats import tsv
from mmvm_data.io import kernel_cache, remote
from mmvm_data.io.read_log import record_reads
from mmvm_data.pipeline.case_writer import CaseWriter, FrameCache
from mmvm_data.pipeline.embedding_rankers import open_embedding_ranker
from mmvm_data.pipeline.measuring import MeasurerFactory, measure_case
from mmvm_data.pipeline.source_defaults import with_frame_rate, with_source_defaults
from mmvm_data.pipeline.source_state import Reads, describe_reads

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_ID_PLACEHOLDER = "case_#######"
"""Placeholder for the id of a case until its number is known."""


@dataclass(frozen=True)
class WorkerContext:
    """State of a worker: the open source, the folder that cases are written to, how they are built, the folder of the
    reader's index, the threads that decode, encode and write, and what measures the cases.

    The threads are the worker's, not a video's: starting one takes as long as encoding a small image."""

    source: Source
    staging_dir: Path
    sampling: SamplingOptions
    quality: int
    embedding_ranker: EmbeddingRanker | None = None
    cache: Path | None = None
    pool: ThreadPoolExecutor | None = None
    measurer_factory: MeasurerFactory | None = None


@dataclass(frozen=True)
class BuiltCase:
    """One case.

    Attributes:
        line: its record as a line of JSON, with a placeholder for its id.
        is_none: whether the answer is "none".
        row: its line in the table, see ``tsv.format_row``, with the same placeholder; None where it is not known.
        measures: what was measured of it, a line without its end; None where nothing was.
    """

    line: bytes
    is_none: bool
    row: str | None = None
    measures: bytes | None = None


@dataclass(frozen=True)
class VideoResult:
    """Cases and rejects of one video, and what they were read from. Case k lies in ``folder``, or in the staging folder
    where that is None, under ``staging_name(unit, k)``."""

    cases: list[BuiltCase] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    reads: Reads = field(default_factory=dict)
    folder: Path | None = None


def init_worker(
    source: str,
    root: Path | str,
    cache: Path | None,
    staging_dir: Path,
    sampling: SamplingOptions,
    quality: int,
    proposals: Path | None = None,
    ranker_factory: EmbeddingRankerFactory | None = None,
    measurer_factory: MeasurerFactory | None = None,
    writer_threads: int = 0,
    num_cases: int = 0,
) -> WorkerContext:
    """Open the source in this process and return the worker's state.

    Args:
        source, root: as for ``pipeline.build``.
        cache: folder where the reader keeps an index, or None.
        staging_dir: existing folder that cases are written to.
        sampling, quality, proposals, ranker_factory, measurer_factory, writer_threads: see ``pipeline.BuildOptions``.
        num_cases: how many this worker makes, about, at most; loops are compiled where that pays, see
            ``kernel_cache``.
    """
    kernel_cache.use_kernels_for(num_cases)
    cv2.setNumThreads(1)  # the workers share the cores
    _keep_freed_memory()
    if isinstance(root, str):
        root = remote.open_mirror(root, refresh=False)
    ranker = None if sampling.embeddings is None else open_embedding_ranker(sampling.embeddings, ranker_factory)
    opened = open_source(source, root, cache, proposals)
    sampling = with_frame_rate(source, with_source_defaults(opened, sampling))
    pool = ThreadPoolExecutor(writer_threads) if writer_threads else None
    return WorkerContext(opened, staging_dir, sampling, quality, ranker, cache, pool, measurer_factory)


def build_video_cases(context: WorkerContext, job: tuple[int, str]) -> VideoResult:
    """Build the cases of one video.

    Args:
        context: of ``init_worker``.
        job: number of the video in the build, and its id.

    Returns:
        Cases and rejects. A broken frame is a reject and its case is built from other frames; a video that gives fewer
        cases than asked for has one reject that says so.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    result, writer = start_video_cases(context, job)
    writer.finish()
    return result


def start_video_cases(context: WorkerContext, job: tuple[int, str]) -> tuple[VideoResult, CaseWriter]:
    """Do what ``build_video_cases`` does, but while its threads write the last files; they are there when the writer
    has finished."""
    writer = CaseWriter(context.quality, context.pool)
    with record_reads() as log, writer:
        result = _build_cases(context, job, writer)
    rle.clear_cached_spans()  # else a worker grows by them over its first hundreds of videos
    return replace(result, reads=describe_reads(log, context.source.root, context.cache)), writer


def _build_cases(context: WorkerContext, job: tuple[int, str], writer: CaseWriter) -> VideoResult:
    unit, video_id = job
    source = context.source.name
    try:
        video = context.source.load(video_id)
    except InputError as error:
        return VideoResult(rejects=[_make_reject(source, video_id, error, context.source.root)])
    measurer = context.measurer_factory() if context.measurer_factory else None
    cases: list[BuiltCase] = []
    built = 0
    shortage: list[Reject] = []
    frames = FrameCache(video, context.pool)
    sampler = VideoSampler(video, context.sampling, frames.bgr, context.embedding_ranker)
    for ordinal, draft in enumerate(draw_cases(sampler, context.sampling.max_cases_per_video, frames.prefetch)):
        if isinstance(draft, str):
            # further cases would be looked for in the same frames
            reason = (
                draft if not built else f"{built} of {pluralize(context.sampling.max_cases_per_video, 'case')}: {draft}"
            )
            shortage = [Reject(source, video_id, ordinal if cases else -1, reason)]
            break
        for variant, kept in sampler.build_variants(draft, ordinal) if context.sampling.variants else [(None, draft)]:
            case = _make_case(video, kept, ordinal, context.sampling, variant)
            folder = context.staging_dir / staging_name(unit, len(cases))
            line = case.model_dump_json().encode() + b"\n"
            measures = measure_case(measurer, case, line, kept, frames, context.quality) if measurer else None
            writer.write(folder, case, kept, frames)
            cases.append(BuiltCase(line, case.answer is None, tsv.format_row(case), measures))
        built = ordinal + 1
    problems = [_make_reject(source, video_id, problem, video.root) for problem in (*video.problems, *sampler.problems)]
    if not cases and sampler.is_unreadable:
        shortage = []  # the errors of the frames say more
    return VideoResult(cases, problems + shortage)


def staging_name(unit: int, number: int) -> str:
    """Name of the folder of a video's case, counted from 0, in the staging folder."""
    return f"{unit}-{number}"


def assign_case_id(case: BuiltCase, case_id: str) -> tuple[bytes, str | None]:
    """The record and the line in the table with the id in place of the placeholder, also in the paths of the images."""
    if case.line.count(_ID_PLACEHOLDER.encode()) == case.line.count(b'_ORI.jpg"') + 1:
        line = case.line.replace(_ID_PLACEHOLDER.encode(), case_id.encode())
        return line, case.row and case.row.replace(_ID_PLACEHOLDER, case_id)
    return _assign_parsed_case_id(case.line, case_id), None


def _assign_parsed_case_id(line: bytes, case_id: str) -> bytes:
    """The same for a record that has the placeholder elsewhere too, as a category might; slower."""
    record = json.loads(line)
    record["id"] = case_id
    for frame in record["frames"]:
        frame["path"] = f"{tsv.FOLDER}/{case_id}/{frame['path'].rpartition('/')[2]}"
    return Case.model_validate(record).model_dump_json().encode() + b"\n"


@lru_cache(maxsize=1)
def library_versions() -> dict[str, str]:
    """Versions of this package and of the libraries that decide pixels and files, by name."""
    return {"mmvm_data": __version__, "numpy": np.__version__, "opencv": cv2.__version__}


def _keep_freed_memory() -> None:
    """Let glibc keep the memory of freed images for the next ones.

    Otherwise it asks the kernel for zeroed pages each time; decoding a frame into those takes about twice as long.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_TRIM_THRESHOLD, 512 << 20)
        libc.mallopt(_MMAP_THRESHOLD, 256 << 20)


def _make_case(video: Video, draft: CaseDraft, ordinal: int, sampling: SamplingOptions, variant: str | None) -> Case:
    """The record of a case, with a placeholder for its id."""
    shared = {} if variant is None else {"shared_id": f"{video.source}/{video.id}/{ordinal}", "variant": variant}
    first, last = video.frames[draft.first_position], video.frames[draft.last_position]
    proposals = sum(is_proposal(seen.region) for seen in draft.candidates)
    provenance = Provenance(
        source=video.source,
        video=video.id,
        frames=(first, last),
        tracks=(draft.query.region.id, *(s.region.id for s in draft.candidates)),
        seed=sampling.seed,
        ordinal=ordinal,
        gap=last.index - first.index if video.order == "time" else 0,
        look_alikes=draft.look_alikes,
        visible=draft.visible,
        versions=library_versions(),
        extra=video.note | ({"proposals": proposals} if proposals else {}) | draft.facts | shared,
    )
    return make_case(draft, video, _ID_PLACEHOLDER, (_output_frame(first, 0), _output_frame(last, 1)), provenance)


def _output_frame(frame: Frame, k: int) -> Frame:
    """The frame of a source as image ``k`` of the case's folder."""
    path = f"{tsv.FOLDER}/{_ID_PLACEHOLDER}/FRAME{k:02d}_ORI.jpg"
    return frame.model_copy(update={"path": path, "video_frame": None})


def _make_reject(source: str, video: str, error: InputError, root: Path) -> Reject:
    """An error as a line of the rejects; its file is relative to the root if it lies inside."""
    file = error.file
    if Path(file).is_relative_to(root):  # else it is relative to the root already, or outside
        file = Path(file).relative_to(root).as_posix()
    return Reject(source, video, -1, error.reason, file, error.field or "")

"""Builds a benchmark from a source: order of the videos, numbers of the cases, rejects, resume.

One video is one unit of work. Workers write its cases to a staging folder; this process alone gives them their
numbers, in an order that depends on the seed and the names of the videos only, moves them to their place and records
each finished video in a journal. So a build that was killed continues where it was, and the result has the same bytes
whatever the number of workers and restarts.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmvm_data.builders import open_source
from mmvm_data.builders.detect import choose_source
from mmvm_data.builders.source import Source
from mmvm_data.core.errors import OutputError, Reject
from mmvm_data.core.options import OptionError
from mmvm_data.formats import bench
from mmvm_data.io import kernel_cache, process_pool, remote
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.read_log import record_reads
from mmvm_data.io.staging import scratch_folder
from mmvm_data.pipeline import ray_executor, remote_worker, worker
from mmvm_data.pipeline.case_writer import CaseWriter
from mmvm_data.pipeline.embedding_rankers import open_embedding_ranker
from mmvm_data.pipeline.journal import Journal, Totals, VideoRecord
from mmvm_data.pipeline.kept_videos import KeptVideo
from mmvm_data.pipeline.options import BuildOptions, BuildProgress, BuildResult
from mmvm_data.pipeline.output_folder import (
    create_folder,
    describe_request,
    finish_build,
    index_folder,
    open_journal,
    read_finished,
    result_of,
)
from mmvm_data.pipeline.source_changes import reconcile
from mmvm_data.pipeline.source_defaults import with_defaults_before_opening
from mmvm_data.pipeline.source_state import describe_source
from mmvm_data.pipeline.upload import BuildUpload
from mmvm_data.pipeline.worker import VideoResult

__all__ = ["BuildOptions", "BuildProgress", "BuildResult", "build"]

OnProgress = Callable[[BuildProgress], None]
Job = tuple[int, str]
"""Number of a video in the build, and its id."""


def build(
    source: str,
    root: Path | str,
    out: Path | str,
    options: BuildOptions | None = None,
    progress: OnProgress | None = None,
) -> BuildResult:
    """Build a benchmark from a source.

    Args:
        source: a key of ``mmvm_data.builders.SOURCES``, or "auto" for the one whose layout the root has.
        root: the source's folder, or a URL such as ``s3://bucket/folder``.
        out: folder for the result (``match_bench/``, the tsv, ``cases.jsonl``, ``rejects.jsonl``, ``build.json``), or a
            URL.
        options: options of the build; None for the defaults.
        progress: called after each video.

    Raises:
        UsageError: unknown source, unreadable root, an output folder that is in use or holds a build with other
            options, or a source that has changed since an unfinished build was started.
        OutputError: the output cannot be written; what was finished is kept and can be resumed.
        InputError: the source's index cannot be read.
        KeyboardInterrupt: passed on; what was finished is kept and can be resumed.
    """
    options = options or BuildOptions()
    source = choose_source(source, root)
    options = replace(options, sampling=with_defaults_before_opening(source, root, options.sampling))
    root, out = remote.path_or_url(root), remote.path_or_url(out)
    if options.sampling.embeddings is not None:
        # before anything is written, so that a wrong name leaves no folder behind
        open_embedding_ranker(options.sampling.embeddings, options.ranker_factory)
    for name in ("accept_changes", "keep_journal"):
        if getattr(options, name) and not isinstance(out, Path):
            raise OptionError(name, "needs an `out` folder on this machine")
    if isinstance(out, Path):
        return _build_to_folder(source, root, out, None, options, progress)
    return _build_to_url(source, root, out, options, progress)


def _build_to_url(
    source: str, root: Path | str, url: str, options: BuildOptions, progress: OnProgress | None
) -> BuildResult:
    """Write each video's cases to a temporary folder here, and upload them before they count."""
    try:
        upload = BuildUpload(url)
        record = upload.prepare(describe_request(source, root, options), options.existing)
        if record is not None:
            return result_of(url, record, already_done=True)
        with scratch_folder(remote.cache_dir() / "builds" / "build") as folder:
            result = _build_to_folder(source, root, folder / "build", upload, options, progress)
    except OSError as error:
        raise OutputError(error.filename or url, error) from error
    return replace(result, out=url)


def _build_to_folder(
    source: str,
    root: Path | str,
    out: Path,
    upload: BuildUpload | None,
    options: BuildOptions,
    progress: OnProgress | None,
) -> BuildResult:
    started = time.monotonic()
    kernel_cache.requested_kernels()
    cache = options.index_folder or index_folder(out)
    local_root = root if isinstance(root, Path) else remote.open_mirror(root)
    with record_reads() as log:
        opened = open_source(source, local_root, cache, options.proposals)
    request = describe_request(source, root, options)
    create_folder(out)
    try:
        with lock_folder(out, "mmvm-data build", wait_seconds=0):
            journal = open_journal(out, request, options)
            if journal is None:
                return read_finished(out)
            with journal:
                videos = shuffle_videos(opened.videos, options.sampling.seed, source)
                if not journal.has_entries:
                    _append_index(journal, opened)
                state = describe_source(opened, videos, log, cache)
                if upload:
                    upload.replay(journal)
                kept = reconcile(journal, out / bench.FOLDER, opened.root, state, options.accept_changes, out)
                if not journal.has_entries:  # its records were dropped
                    _append_index(journal, opened)
                if upload:
                    upload.write_source(journal)
                staging_dir = journal.create_staging_dir()
                first = len(videos) if _is_full(journal.totals, options) else journal.totals.units
                jobs = [(number, videos[number]) for number in range(first, len(videos))]
                worker_args = (
                    source,
                    root,
                    cache,
                    staging_dir,
                    options.sampling,
                    options.quality,
                    options.proposals,
                    options.ranker_factory,
                    options.measurer_factory,
                    options.num_writer_threads,
                    cases_a_worker(len(jobs), journal.totals.cases, options),
                )
                with (
                    process_pool.graceful_interrupt(),
                    closing(_process_videos(jobs, kept, staging_dir, worker_args, options)) as results,
                ):
                    for job, result in results:
                        if isinstance(result, process_pool.WorkerDied):
                            result = VideoResult(rejects=[Reject(source, job[1], -1, str(result))])
                        _commit(journal, out, upload, job, result, staging_dir, options)
                        if progress:
                            totals = journal.totals
                            progress(BuildProgress(totals.units, len(videos), totals.cases, totals.rejects))
                        if _is_full(journal.totals, options):
                            break
                journal.sync()
                build_result = finish_build(
                    journal,
                    out,
                    request,
                    len(videos),
                    started,
                    keep_journal=options.keep_journal,
                    with_measures=options.measurer_factory is not None,
                )
                if upload:
                    upload.finish(out)
                return build_result
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _append_index(journal: Journal, opened: Source) -> None:
    unusable = list(opened.rejects)
    journal.append(Totals(rejects=len(unusable), bad_inputs=len(unusable)), [], unusable)


def _process_videos(
    jobs: list[Job],
    kept: dict[str, KeptVideo],
    staging_dir: Path,
    worker_args: tuple[Any, ...],
    options: BuildOptions,
) -> Generator[tuple[Job, VideoResult | process_pool.WorkerDied], None, None]:
    """Yield the result of each video in order, its cases in the staging folder: kept ones, and new ones of workers."""
    with closing(_run_workers([job for job in jobs if job[1] not in kept], worker_args, options)) as built:
        for job in jobs:
            yield (job, kept[job[1]].take(job[0], staging_dir)) if job[1] in kept else next(built)


def _run_workers(
    jobs: list[Job], worker_args: tuple[Any, ...], options: BuildOptions
) -> Generator[tuple[Job, VideoResult | process_pool.WorkerDied], None, None]:
    """Yield the result of each video in order, its cases in the staging folder, wherever the worker ran."""
    if not jobs:  # nor a cluster is started
        return
    if options.engine == "local" and options.workers == 1 and options.num_writer_threads:
        yield from _run_one_ahead(jobs, worker_args)
        return
    if options.engine == "local":
        yield from process_pool.map_ordered(
            jobs, worker.init_worker, worker_args, worker.build_video_cases, options.workers
        )
        return
    # an actor has one core, so it has no threads that write
    source, root, cache, staging_dir, sampling, quality, proposals, ranker_factory, measurer_factory = worker_args[:9]
    marker = remote_worker.write_shared_marker(staging_dir)
    paths = (_absolute(root), _absolute(cache), _absolute(staging_dir))
    factories = (ranker_factory, measurer_factory)
    remote_args = (source, *paths, marker, sampling, quality, _absolute(proposals), *factories, worker_args[-1])
    results = ray_executor.map_ordered(
        jobs,
        remote_worker.init_worker,
        remote_args,
        remote_worker.build_video_cases,
        min(options.workers, len(jobs)),
        options.ray_address,
    )
    for job, result in results:
        if isinstance(result, process_pool.WorkerDied):
            yield job, result
        else:
            yield job, remote_worker.collect_result(result, job, staging_dir)


def _run_one_ahead(
    jobs: list[Job], worker_args: tuple[Any, ...]
) -> Generator[tuple[Job, VideoResult | process_pool.WorkerDied], None, None]:
    """Yield the result of each video from a worker in this process, whose threads write the files of a video while it
    begins with the next one."""
    started = process_pool.map_ordered(jobs, worker.init_worker, worker_args, worker.start_video_cases, 1)
    waiting: deque[tuple[Job, VideoResult, CaseWriter]] = deque()
    try:
        for job, outcome in started:
            assert not isinstance(outcome, process_pool.WorkerDied)  # it is this process
            waiting.append((job, *outcome))
            if len(waiting) > 1:
                yield _finish_first(waiting)
        while waiting:
            yield _finish_first(waiting)
    finally:
        for _, _, writer in waiting:
            writer.cancel()


def _finish_first(waiting: deque[tuple[Job, VideoResult, CaseWriter]]) -> tuple[Job, VideoResult]:
    job, result, writer = waiting[0]
    writer.finish()
    waiting.popleft()
    return job, result


def cases_a_worker(num_videos: int, num_done: int, options: BuildOptions) -> int:
    """How many cases each worker makes at most, when they share them equally."""
    cases = num_videos * options.sampling.max_cases_per_video
    if options.max_cases is not None:
        cases = min(cases, options.max_cases - num_done)
    return cases // options.workers


def _absolute(path: Path | str | None) -> Path | str | None:
    return path.absolute() if isinstance(path, Path) else path


def shuffle_videos(videos: Iterable[str], seed: int, source: str) -> list[str]:
    """Videos in an order that is random but fixed, so that the first N cases are a sample of all videos."""

    def key(video: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}\0{source}\0{video}".encode("utf-8", "surrogateescape")).digest(), video

    return sorted(videos, key=key)


def _is_full(totals: Totals, options: BuildOptions) -> bool:
    return options.max_cases is not None and totals.cases >= options.max_cases


def _commit(
    journal: Journal,
    out: Path,
    upload: BuildUpload | None,
    job: Job,
    result: VideoResult,
    staging_dir: Path,
    options: BuildOptions,
) -> None:
    """Give the cases of one video their numbers and places, and record the video as done."""
    before = journal.totals
    room = len(result.cases) if options.max_cases is None else options.max_cases - before.cases
    lines: list[bytes] = []
    rows: list[str | None] = []
    measures: list[bytes | None] = []
    folders: list[str] = []
    source_dir = result.folder or staging_dir
    for k, case in enumerate(result.cases[:room]):
        case_id = f"case_{before.cases + k:06d}"
        folders.append(f"{out}/{bench.FOLDER}/{case_id}")
        os.rename(f"{source_dir}/{worker.staging_name(job[0], k)}", folders[-1])
        line, row = worker.assign_case_id(case, case_id)
        lines.append(line)
        rows.append(row)
        measures.append(case.measures)
    totals = Totals(
        units=job[0] + 1,
        cases=before.cases + len(lines),
        none_cases=before.none_cases + sum(case.is_none for case in result.cases[:room]),
        rejects=before.rejects + len(result.rejects),
        bad_inputs=before.bad_inputs + sum(reject.ordinal < 0 for reject in result.rejects),
    )
    record = VideoRecord(job[1], totals, len(lines) == len(result.cases), result.reads)
    if upload:
        upload.upload_video(record, lines, result.rejects, list(map(Path, folders)))
    journal.append(totals, lines, result.rejects, record, rows, measures)

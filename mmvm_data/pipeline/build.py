"""Source -> cases -> folder: order, seeds, rejects, resume.

One video is one piece of work. Workers make its cases in a staging folder; this process alone gives them their
numbers, in an order that depends on the seed and the names of the videos only, moves them to their place and notes
each finished video in a journal. So a build that is killed goes on where it was, and the result has the same bytes
whatever the number of workers and restarts.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from mmvm_data.builders import open_source
from mmvm_data.cases.hardness import EmbeddingRankerFactory
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError, Reject, UsageError
from mmvm_data.core.options import OptionError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench
from mmvm_data.io import process_pool, remote
from mmvm_data.io.files import atomic_write
from mmvm_data.pipeline import ray_executor, remote_worker, worker
from mmvm_data.pipeline.embedding_rankers import open_embedding_ranker
from mmvm_data.pipeline.journal import Journal, State
from mmvm_data.pipeline.upload import Upload

CASES, REJECTS, BUILD = "cases.jsonl", "rejects.jsonl", "build.json"
_WORK = ".build"
_LATER_OPTIONS = ("gone", "reappear_share", "variants", "embeddings")
_RECORDED_NAMES = {"max_occlusion": "max_covered"}
"""Options that have another name in build.json, which keeps the keys of earlier builds."""


@dataclass(frozen=True)
class BuildOptions:
    """How a build runs.

    Attributes:
        sampling: what makes a good case.
        max_cases: stop after so many; None: all that the source gives.
        workers: processes, or actors of a Ray cluster.
        existing: what to do with an output folder that is there: refuse, go on with it, or make it anew.
        quality: JPEG quality (1..100) of drawn images, and of originals whose source is no JPEG.
        proposals: folder of masks that are candidates beside the source's own objects; see ``builders.proposals``.
        engine: where workers run.
        ray_address: of a cluster; None starts one on this machine.
        ranker_factory: opens the model that ``sampling.embeddings`` names, in each worker; None uses the one that is
            installed (see ``pipeline.embedding_rankers``).
    """

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    max_cases: int | None = None
    workers: int = 1
    existing: Literal["refuse", "resume", "overwrite"] = "refuse"
    quality: int = 95
    proposals: Path | None = None
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None
    ranker_factory: EmbeddingRankerFactory | None = None


@dataclass(frozen=True)
class Progress:
    """How far a build is: videos done of all, cases and rejects so far."""

    videos: int
    of_videos: int
    cases: int
    rejects: int


@dataclass(frozen=True)
class BuildResult:
    """What a build did; ``bad_inputs`` counts the rejects that are the input's fault."""

    out: Path | str
    cases: int
    none_cases: int
    rejects: int
    bad_inputs: int
    videos: int
    seconds: float
    already_done: bool = False


def build(
    source: str,
    root: Path | str,
    out: Path | str,
    options: BuildOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BuildResult:
    """Make a benchmark from a source.

    Args:
        source: a key of ``mmvm_data.builders.SOURCES``.
        root: the source's folder, or a URL such as ``s3://bucket/folder``.
        out: folder for the result (``match_bench/``, the tsv, ``cases.jsonl``, ``rejects.jsonl``, ``build.json``), or a
            URL.
        options: how to run.
        progress: called after each video.

    Raises:
        UsageError: unknown source, unreadable root, an output folder that is in use or was made with other options.
        OutputError: the output cannot be written; what was finished stays and can be resumed.
        InputError: the source's index cannot be read.
        KeyboardInterrupt: handed on; what was finished stays and can be resumed.
    """
    options = options or BuildOptions()
    root, out = remote.path_or_url(root), remote.path_or_url(out)
    _check(options)
    if isinstance(out, Path):
        return _build(source, root, out, None, options, progress)
    return _build_at_url(source, root, out, options, progress)


def _build_at_url(
    source: str, root: Path | str, url: str, options: BuildOptions, progress: Callable[[Progress], None] | None
) -> BuildResult:
    """Each video's cases are made here, in a folder that is deleted at the end, and uploaded before they count."""
    place = remote.cache_dir() / "builds"
    try:
        upload = Upload(url)
        before = upload.prepare(_request(source, root, options), options.existing)
        if before is not None:
            return _result(url, before, already_done=True)
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place) as folder:
            done = _build(source, root, Path(folder) / "build", upload, options, progress)
    except OSError as error:
        raise OutputError(error.filename or url, error) from error
    return replace(done, out=url)


def _build(
    source: str,
    root: Path | str,
    out: Path,
    upload: Upload | None,
    options: BuildOptions,
    progress: Callable[[Progress], None] | None,
) -> BuildResult:
    started = time.monotonic()
    cache = out.parent / f".{out.name}.index"
    opened = open_source(source, root if isinstance(root, Path) else remote.open_mirror(root), cache, options.proposals)
    request = _request(source, root, options)
    journal = _prepare(out, request, options)
    if journal is None:
        return _finished_before(out)
    try:
        with journal:
            jobs = _order(opened.videos, options.sampling.seed, source)
            stage = journal.fresh_stage()
            if not journal.begun:
                unusable = list(opened.rejects)
                journal.note(State(rejects=len(unusable), bad_inputs=len(unusable)), [], unusable)
            if upload:
                upload.replay(journal)
            left = range(journal.state.units, len(jobs)) if not _full(journal.state, options) else range(0)
            todo = [(number, jobs[number]) for number in left]
            arguments = (
                source,
                root,
                cache,
                stage,
                options.sampling,
                options.quality,
                options.proposals,
                options.ranker_factory,
            )
            with process_pool.graceful_interrupt():
                for job, outcome in _made(todo, arguments, options):
                    if isinstance(outcome, process_pool.WorkerDied):
                        outcome = worker.Outcome(rejects=[Reject(source, job[1], -1, str(outcome))])
                    _commit(journal, out, upload, job, outcome, stage, options)
                    if progress:
                        state = journal.state
                        progress(Progress(state.units, len(jobs), state.cases, state.rejects))
                    if _full(journal.state, options):
                        break
            journal.sync()
            result = _finish(journal, out, request, len(jobs), started)
            if upload:
                upload.finish(out)
            return result
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _made(
    todo: list[tuple[int, str]], arguments: tuple[Any, ...], options: BuildOptions
) -> Iterator[tuple[tuple[int, str], worker.Outcome | process_pool.WorkerDied]]:
    """The outcome of each video in order, its cases in the staging folder, wherever they were made."""
    if options.engine == "local":
        yield from process_pool.map_ordered(todo, worker.open_shop, arguments, worker.make_video, options.workers)
        return
    source, root, cache, stage, sampling, quality, proposals, ranker_factory = arguments
    places = (source, _absolute(root), _absolute(cache), _absolute(stage), remote_worker.offer(stage))
    far = (*places, sampling, quality, _absolute(proposals), ranker_factory)
    runs = ray_executor.run(
        todo, remote_worker.open_shop, far, remote_worker.make_video, options.workers, options.ray_address
    )
    for job, sent in runs:
        yield job, sent if isinstance(sent, process_pool.WorkerDied) else remote_worker.receive(sent, job, stage)


def _absolute(place: Path | str | None) -> Path | str | None:
    return place.absolute() if isinstance(place, Path) else place


def _check(options: BuildOptions) -> None:
    for name, value, low, high in (
        ("workers", options.workers, 1, 1024),
        ("quality", options.quality, 1, 100),
        ("max_cases", options.max_cases if options.max_cases is not None else 1, 1, 10**9),
    ):
        if not low <= value <= high:
            raise OptionError(name, f"must be in [{low}, {high}], got {value}")
    if options.sampling.embeddings is not None:
        # before anything is written, so that a wrong name leaves no folder behind
        open_embedding_ranker(options.sampling.embeddings, options.ranker_factory)


def _request(source: str, root: Path | str, options: BuildOptions) -> dict[str, Any]:
    """What decides the bytes of a build; the number of workers does not."""
    return {
        "source": source,
        "root": str(root),
        "sampling": _said(options.sampling),
        "max_cases": options.max_cases,
        "quality": options.quality,
        "proposals": str(options.proposals) if options.proposals else None,
        "versions": worker.versions(),
    }


def _said(sampling: SamplingOptions) -> dict[str, Any]:
    """The options by name. Those that came after the first builds are left out where they change nothing, so that these
    builds can still be resumed and compared."""
    plain = {f.name: f.default for f in fields(sampling) if f.name in _LATER_OPTIONS}
    return {
        _RECORDED_NAMES.get(name, name): value
        for name, value in asdict(sampling).items()
        if name not in plain or value != plain[name]
    }


def _prepare(out: Path, request: dict[str, Any], options: BuildOptions) -> Journal | None:
    """The journal to go on with; None when the build was complete before."""
    try:
        if out.exists() and not out.is_dir():
            raise UsageError(f"{out}: is a file; --out must be a folder")
        work = out / _WORK
        complete = (out / BUILD).is_file()
        if options.existing == "overwrite" and (work.exists() or complete):
            _remove_build(out)
            complete = False
        elif out.exists() and any(out.iterdir()):
            if complete and options.existing == "resume":
                shutil.rmtree(work, ignore_errors=True)
                _same_request(out / BUILD, request)
                return None
            if not work.exists() or options.existing != "resume":
                raise UsageError(_refusal(out, complete, work.exists()))
        (out / bench.FOLDER).mkdir(parents=True, exist_ok=True)
        return Journal.open(work, out / bench.FOLDER, request)
    except OSError as error:
        raise OutputError(error.filename or out, error) from error


def _refusal(out: Path, complete: bool, unfinished: bool) -> str:
    if complete:
        return f"{out}: holds a finished build; --overwrite makes it anew, another --out keeps both"
    if unfinished:
        return f"{out}: holds an unfinished build; --resume goes on with it, --overwrite starts anew"
    return f"{out}: is not empty and no build of ours; choose another --out"


def _remove_build(out: Path) -> None:
    """Delete what a build writes, and nothing else."""
    for name in (_WORK, bench.FOLDER):
        if (out / name).exists():
            shutil.rmtree(out / name)
    for name in (BUILD, CASES, REJECTS, bench.TSV):
        (out / name).unlink(missing_ok=True)


def _same_request(build_file: Path, request: dict[str, Any]) -> None:
    before = json.loads(build_file.read_text(encoding="utf-8")).get("request", {})
    changed = [key for key in request if before.get(key) != request[key]]
    if changed:
        raise UsageError(f"{build_file.parent}: was built with other options ({', '.join(changed)}); use --overwrite")


def _order(videos: Any, seed: int, source: str) -> list[str]:
    """Videos in an order that is random but fixed, so that the first N cases are a sample of all videos."""

    def key(video: str) -> tuple[bytes, str]:
        return hashlib.sha256(f"{seed}\0{source}\0{video}".encode("utf-8", "surrogateescape")).digest(), video

    return sorted(videos, key=key)


def _full(state: State, options: BuildOptions) -> bool:
    return options.max_cases is not None and state.cases >= options.max_cases


def _commit(
    journal: Journal,
    out: Path,
    upload: Upload | None,
    job: tuple[int, str],
    outcome: worker.Outcome,
    stage: Path,
    options: BuildOptions,
) -> None:
    """Give the cases of one video their numbers and places, and note it as done."""
    before = journal.state
    room = len(outcome.cases) if options.max_cases is None else options.max_cases - before.cases
    lines, folders = [], []
    for k, made in enumerate(outcome.cases[:room]):
        name = f"case_{before.cases + k:06d}"
        folders.append(out / bench.FOLDER / name)
        (stage / worker.staged(job[0], k)).rename(folders[-1])
        lines.append(worker.named(made.line, name))
    state = State(
        units=job[0] + 1,
        cases=before.cases + len(lines),
        none_cases=before.none_cases + sum(made.none for made in outcome.cases[:room]),
        rejects=before.rejects + len(outcome.rejects),
        bad_inputs=before.bad_inputs + sum(r.ordinal < 0 or bool(r.file) for r in outcome.rejects),
    )
    if upload:
        upload.shard(state, lines, outcome.rejects, folders)
    journal.note(state, lines, outcome.rejects)


def _finish(journal: Journal, out: Path, request: dict[str, Any], videos: int, started: float) -> BuildResult:
    """Write what needs all cases; ``build.json`` comes last and says that the build is whole.

    Files are made in the journal's folder, so that a kill leaves no half of one beside the result.
    """
    cases = journal.released(CASES, out)
    journal.released(REJECTS, out)
    with open(cases, "rb") as lines:
        bench.write_tsv((Case.model_validate_json(line) for line in lines), journal.folder / bench.TSV)
    (journal.folder / bench.TSV).rename(out / bench.TSV)
    state = journal.state
    seconds = journal.seconds_before + time.monotonic() - started
    record = {
        "request": request,
        "versions": request["versions"],
        "counts": {
            "videos": videos,
            "videos_read": state.units,
            "cases": state.cases,
            "none_cases": state.none_cases,
            "rejects": state.rejects,
            "bad_inputs": state.bad_inputs,
        },
        "times": {"finished": datetime.now(timezone.utc).isoformat(timespec="seconds"), "seconds": round(seconds, 3)},
    }
    with atomic_write(journal.folder / BUILD) as handle:
        handle.write(json.dumps(record, indent=1) + "\n")
    (journal.folder / BUILD).rename(out / BUILD)
    journal.remove()
    return _result(out, record)


def _finished_before(out: Path) -> BuildResult:
    record = json.loads((out / BUILD).read_text(encoding="utf-8"))
    return _result(out, record, already_done=True)


def _result(out: Path | str, record: dict[str, Any], already_done: bool = False) -> BuildResult:
    counts = record["counts"]
    return BuildResult(
        out=out,
        cases=counts["cases"],
        none_cases=counts["none_cases"],
        rejects=counts["rejects"],
        bad_inputs=counts["bad_inputs"],
        videos=counts["videos_read"],
        seconds=record["times"]["seconds"],
        already_done=already_done,
    )

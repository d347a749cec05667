"""A worker that may run on another machine: it returns cases as files on a shared disk, or else as bytes."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from mmvm_data.cases.hardness import EmbeddingRankerFactory
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError
from mmvm_data.pipeline import worker
from mmvm_data.pipeline.measuring import MeasurerFactory
from mmvm_data.pipeline.worker import VideoResult, WorkerContext

_MARKER = "token"


@dataclass(frozen=True)
class RemoteWorkerContext:
    """State of a worker: see ``worker.WorkerContext``, and whether its staging folder is on a shared disk."""

    local: WorkerContext
    is_shared: bool


@dataclass(frozen=True)
class RemoteResult:
    """Result of one video.

    Attributes:
        video: see ``worker.build_video_cases``; it has the folder of its cases where a disk is shared.
        files: name of a case's folder -> its files' names and bytes; used where no disk is shared.
    """

    video: VideoResult
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)


def write_shared_marker(staging_dir: Path) -> str:
    """Write a file into the staging folder by which workers see that they share its disk.

    Returns:
        The content of the file, for ``init_worker``.
    """
    marker = uuid.uuid4().hex
    (staging_dir / _MARKER).write_text(marker, encoding="ascii")
    return marker


def init_worker(
    source: str,
    root: Path | str,
    cache: Path | None,
    staging_dir: Path,
    marker: str,
    sampling: SamplingOptions,
    quality: int,
    proposals: Path | None = None,
    ranker_factory: EmbeddingRankerFactory | None = None,
    measurer_factory: MeasurerFactory | None = None,
    num_cases: int = 0,
) -> RemoteWorkerContext:
    """Open the source in this process, with a staging folder of its own.

    A worker that was given up as dead may still be writing; in a folder of its own it does no harm.

    Args:
        source, root, sampling, quality, proposals, ranker_factory, measurer_factory, num_cases: see
            ``worker.init_worker``; ``root`` and ``proposals`` are at the same path on all machines.
        cache: folder of the index on the machine that runs the build; used if its disk is shared.
        staging_dir: staging folder on the machine that runs the build.
        marker: of ``write_shared_marker``.
    """
    file = staging_dir / _MARKER
    is_shared = file.is_file() and file.read_text(encoding="ascii") == marker
    if is_shared:
        own = staging_dir / f"worker-{uuid.uuid4().hex}"
        own.mkdir()
    else:
        own = Path(tempfile.mkdtemp(prefix="mmvm-data-"))
        cache = None
    factories = (ranker_factory, measurer_factory)
    local = worker.init_worker(source, root, cache, own, sampling, quality, proposals, *factories, num_cases=num_cases)
    return RemoteWorkerContext(local, is_shared)


def build_video_cases(context: RemoteWorkerContext, job: tuple[int, str]) -> RemoteResult:
    """Build the cases of one video as ``worker.build_video_cases`` does; return them with their files.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    result = worker.build_video_cases(context.local, job)
    staging_dir = context.local.staging_dir
    if context.is_shared:
        return RemoteResult(replace(result, folder=staging_dir))
    files = {}
    for k in range(len(result.cases)):
        folder = staging_dir / worker.staging_name(job[0], k)
        files[folder.name] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        shutil.rmtree(folder)
    return RemoteResult(result, files)


def collect_result(result: RemoteResult, job: tuple[int, str], staging_dir: Path) -> VideoResult:
    """Write the cases of a video to the staging folder, as a local worker would; those on the shared disk stay in the
    worker's folder, from where they are moved to their place at once.

    Args:
        result: of ``build_video_cases``.
        job: number of the video in the build, and its id.
        staging_dir: staging folder on this machine.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    if result.video.folder is not None:
        return result.video
    try:
        for k in range(len(result.video.cases)):
            name = worker.staging_name(job[0], k)
            (staging_dir / name).mkdir()
            for file, data in result.files[name].items():
                (staging_dir / name / file).write_bytes(data)
    except OSError as error:
        raise OutputError(error.filename or staging_dir, error) from error
    return result.video

"""A worker that may be on another machine: cases go back as files on a disk that both see, or else as bytes."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from mmvm_data.cases.hardness import EmbeddingRankerFactory
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.core.errors import OutputError
from mmvm_data.pipeline import worker
from mmvm_data.pipeline.worker import Outcome, Shop

_TOKEN = "token"


@dataclass(frozen=True)
class FarShop:
    """What a worker keeps: see ``worker.Shop``, and whether the builder sees its staging folder."""

    shop: Shop
    shared: bool


@dataclass(frozen=True)
class Sent:
    """All of one video.

    Attributes:
        outcome: see ``worker.make_video``.
        folder: where its cases lie on the disk that both see, or None.
        files: name of a case's folder -> its files' names and bytes, where they see no disk in common.
    """

    outcome: Outcome
    folder: Path | None
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)


def offer(stage: Path) -> str:
    """Put a mark into the staging folder by which workers see that it is theirs too; returned for ``open_shop``."""
    token = uuid.uuid4().hex
    (stage / _TOKEN).write_text(token, encoding="ascii")
    return token


def open_shop(
    source: str,
    root: Path | str,
    cache: Path | None,
    stage: Path,
    token: str,
    sampling: SamplingOptions,
    quality: int,
    proposals: Path | None = None,
    ranker_factory: EmbeddingRankerFactory | None = None,
) -> FarShop:
    """Open the source in this process, with a staging folder of its own.

    A worker that is taken for dead may still be writing; in its own folder it disturbs nobody.

    Args:
        source, root, sampling, quality, proposals, ranker_factory: see ``worker.open_shop``; ``root`` and
            ``proposals`` lie at the same place on all machines.
        cache: folder of the builder's index; used where it is seen.
        stage: folder of the builder.
        token: from ``offer``.
    """
    mark = stage / _TOKEN
    shared = mark.is_file() and mark.read_text(encoding="ascii") == token
    if shared:
        own = stage / f"worker-{uuid.uuid4().hex}"
        own.mkdir()
    else:
        own = Path(tempfile.mkdtemp(prefix="mmvm-data-"))
        cache = None
    return FarShop(worker.open_shop(source, root, cache, own, sampling, quality, proposals, ranker_factory), shared)


def make_video(shop: FarShop, job: tuple[int, str]) -> Sent:
    """``worker.make_video``, with what it made.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    outcome = worker.make_video(shop.shop, job)
    if shop.shared:
        return Sent(outcome, shop.shop.stage)
    files = {}
    for k in range(len(outcome.cases)):
        folder = shop.shop.stage / worker.staged(job[0], k)
        files[folder.name] = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        shutil.rmtree(folder)
    return Sent(outcome, None, files)


def receive(sent: Sent, job: tuple[int, str], stage: Path) -> Outcome:
    """Bring the cases of a video to where ``worker.make_video`` would have put them.

    Raises:
        OutputError: the staging folder cannot be written.
    """
    try:
        for k in range(len(sent.outcome.cases)):
            name = worker.staged(job[0], k)
            if sent.folder is not None:
                (sent.folder / name).rename(stage / name)
                continue
            (stage / name).mkdir()
            for file, data in sent.files[name].items():
                (stage / name / file).write_bytes(data)
    except OSError as error:
        raise OutputError(error.filename or stage, error) from error
    return sent.outcome

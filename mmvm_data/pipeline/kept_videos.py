"""Finished videos that a build sets aside when its source has changed, until their turn comes again.

    .build/kept/00000007/record.json      id, what it was read from, records of its cases, rejects
    .build/kept/00000007/0/…              files of its cases

A folder counts when its record is there and all its cases are; the record is written last, under a final name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmvm_data.core.errors import InputError, Reject
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_json_object
from mmvm_data.pipeline.source_state import Reads, find_change
from mmvm_data.pipeline.worker import BuiltCase, VideoResult, staging_name

_FOLDER: Final = "kept"
_RECORD: Final = "record.json"
_PARTIAL: Final = ".tmp"


@dataclass(frozen=True)
class KeptVideo:
    """The result of a video.

    Attributes:
        video: its id.
        numbers: of its cases in the build, while they are still in place there; afterwards they are in ``folder``.
        cases: records of the cases, with the ids that they had.
        rejects: of the video.
        reads: what it was built from.
        folder: where it is kept; None before that.
    """

    video: str
    cases: list[bytes]
    rejects: list[dict[str, Any]]
    reads: Reads
    numbers: range = range(0)
    folder: Path | None = None

    def take(self, unit: int, staging_dir: Path) -> VideoResult:
        """Move the cases to the staging folder, as if a worker had written them, and return the result."""
        assert self.folder is not None
        for k in range(len(self.cases)):
            (self.folder / str(k)).rename(staging_dir / staging_name(unit, k))
        shutil.rmtree(self.folder)
        built = [BuiltCase(line, json.loads(line)["answer"] is None) for line in self.cases]
        return VideoResult(built, [Reject(**reject) for reject in self.rejects], self.reads)


def keep_records(journal_folder: Path, videos: Iterable[KeptVideo]) -> list[tuple[Path, range]]:
    """Write the records of videos that the journal is about to drop; ``keep_cases`` completes them.

    Returns:
        the folder of each video, under a name that does not count yet, and the numbers of its cases.
    """
    parent = journal_folder / _FOLDER
    parent.mkdir(exist_ok=True)
    first = 1 + max((int(name[:8]) for name in os.listdir(parent)), default=-1)
    partial = []
    for number, video in enumerate(videos, first):
        folder = parent / f"{number:08d}{_PARTIAL}"
        folder.mkdir()
        record = {"video": video.video, "reads": video.reads, "rejects": video.rejects}
        with atomic_write(folder / _RECORD) as handle:
            json.dump({**record, "cases": [line.decode() for line in video.cases]}, handle)
        partial.append((folder, video.numbers))
    return partial


def keep_cases(partial: list[tuple[Path, range]], cases: Path) -> None:
    """Move the cases of videos, which the journal has dropped, to what ``keep_records`` wrote.

    Args:
        partial: of ``keep_records``.
        cases: folder of the finished cases.
    """
    for folder, numbers in partial:
        for k, number in enumerate(numbers):
            (cases / f"case_{number:06d}").rename(folder / str(k))
        folder.rename(folder.with_name(folder.name.removesuffix(_PARTIAL)))


def load_kept(journal_folder: Path, root: Path) -> dict[str, KeptVideo]:
    """Return the videos that are kept and whose files have not changed, by id; delete all others.

    Args:
        journal_folder: of the build.
        root: of the source.
    """
    kept: dict[str, KeptVideo] = {}
    parent = journal_folder / _FOLDER
    for name in sorted(os.listdir(parent)) if parent.is_dir() else ():
        folder = parent / name
        video = None if name.endswith(_PARTIAL) else _load(folder)
        if video is None or find_change(video.reads, root):
            shutil.rmtree(folder)
        else:
            kept[video.video] = video
    return kept


def delete_kept(journal_folder: Path) -> None:
    """Delete all that is kept."""
    if (journal_folder / _FOLDER).exists():
        shutil.rmtree(journal_folder / _FOLDER)


def _load(folder: Path) -> KeptVideo | None:
    """Return the video in a folder; None when its cases were taken, or the record is broken."""
    try:
        record = read_json_object(folder / _RECORD)
        cases = [line.encode() for line in record["cases"]]
        video = KeptVideo(record["video"], cases, record["rejects"], record["reads"], folder=folder)
    except (InputError, KeyError, TypeError, AttributeError):
        return None
    return video if all((folder / str(k)).is_dir() for k in range(len(cases))) else None

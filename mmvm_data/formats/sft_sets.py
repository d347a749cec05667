"""One training set of several benchmarks: cases under ids and paths that are distinct, and where each is from."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmvm_data.core.errors import OutputError, UsageError
from mmvm_data.core.types import Case
from mmvm_data.formats import bench, sft
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.transaction import open_transaction, recover

PROVENANCE: Final = "provenance.jsonl"
"""Name of the file that says where each record of a training set is from."""


@dataclass(frozen=True)
class JoinedBenchmarks:
    """Benchmarks whose cases become one training set.

    Attributes:
        root: folder that the paths of images are relative to.
        folders: of the benchmarks, by their paths below ``root``; "." is ``root`` itself.
    """

    root: Path
    folders: dict[str, Path]

    def iter_cases(self) -> Iterator[Case]:
        """Yield the cases that people did not reject; of several benchmarks, ids and paths begin with the folder."""
        for name, folder in self.folders.items():
            for case in bench.read(folder):
                if case.review.state != "rejected":
                    yield case if name == "." else _move_case(case, name, self.root)

    def origin_of(self, case: Case) -> dict[str, Any]:
        """Where a case is from, as JSON values."""
        parts = case.id.rpartition("/")
        record: dict[str, Any] = {"id": case.id, "benchmark": parts[0] or ".", "case": parts[2]}
        if len(self.folders) == 1 and "." in self.folders:  # an id of the benchmark itself may hold slashes
            record |= {"benchmark": ".", "case": case.id}
        origin = case.provenance
        if origin is not None:
            frames = [
                {"path": f.path, "index": f.index} | ({} if f.time is None else {"time": f.time}) for f in origin.frames
            ]
            record |= {"source": origin.source, "video": origin.video, "frames": frames, "tracks": list(origin.tracks)}
        return record


def join_benchmarks(folders: Sequence[Path]) -> JoinedBenchmarks:
    """Find the folder that benchmarks have in common.

    Args:
        folders: at least one.

    Raises:
        UsageError: one is named twice, or lies in another one.
    """
    if len(folders) == 1:
        return JoinedBenchmarks(folders[0], {".": folders[0]})
    resolved = [folder.resolve() for folder in folders]
    root = Path(os.path.commonpath(resolved))
    by_name: dict[str, Path] = {}
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise UsageError(f"{folder}: is named twice")
        if path == root:
            raise UsageError(f"{folder}: holds another benchmark that is named; export them one by one")
        by_name[path.relative_to(root).as_posix()] = folder
    return JoinedBenchmarks(root, by_name)


def write_training_set(
    cases: Callable[[], Iterable[Case]], origin_of: Callable[[Case], dict[str, Any]], folder: Path
) -> list[Path]:
    """Write all training files in one step, so that they are always those of the same cases.

    Args:
        cases: returns the cases, once for each file.
        origin_of: where a case is from, a line of PROVENANCE.
        folder: existing folder for the files.

    Returns:
        The files.

    Raises:
        InputError: a case cannot be read, or has no option for its answer.
        OutputError: a file cannot be written.
    """
    try:
        with lock_folder(folder, "mmvm-data export"):
            recover(folder)
            with open_transaction(folder) as transaction:
                for kind, name in sft.FILES.items():
                    sft.write(cases(), transaction.stage(name), kind)
                with open(transaction.stage(PROVENANCE), "w", encoding="utf-8") as handle:
                    handle.writelines(json.dumps(origin_of(case), ensure_ascii=False) + "\n" for case in cases())
    except OSError as error:
        raise OutputError(error.filename or folder, error) from error
    return [folder / name for name in (*sft.FILES.values(), PROVENANCE)]


def _move_case(case: Case, name: str, root: Path) -> Case:
    frames = tuple(frame.model_copy(update={"path": f"{name}/{frame.path}"}) for frame in case.frames)
    return case.model_copy(update={"id": f"{name}/{case.id}", "frames": frames}).with_root(root)

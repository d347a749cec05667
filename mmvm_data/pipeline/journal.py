"""Journal of what a build has finished, so that a kill loses at most the videos in progress."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import IO, Any

from typing_extensions import Self

from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.formats.tsv import MEASURES
from mmvm_data.io.files import atomic_write, sync_disk
from mmvm_data.io.json_files import parse_json, read_file, read_json_object

_SYNC_SECONDS = 2.0
CASES, REJECTS, VIDEOS, ROWS = "cases.jsonl", "rejects.jsonl", "videos.jsonl", "rows.jsonl"
_RECORD_FILES = (CASES, REJECTS, VIDEOS, ROWS, MEASURES)
_SOURCE = "source.json"


@dataclass(frozen=True)
class Totals:
    """Running totals of a build, also recorded in the journal by these names.

    Attributes:
        units: videos finished, in the build's order.
        cases: cases; ``none_cases`` of them have the answer "none of the above".
        rejects: rejects; ``bad_inputs`` of them are faults of the input.
    """

    units: int = 0
    cases: int = 0
    none_cases: int = 0
    rejects: int = 0
    bad_inputs: int = 0


@dataclass(frozen=True)
class VideoRecord:
    """What the journal knows of a finished video, or of the source's index: a line of ``videos.jsonl``.

    Attributes:
        video: its id; None for the index.
        totals: of the build with this video.
        is_whole: whether all its cases are part of the build, and none was left out because the build was full.
        reads: the files that it was built from, see ``source_state``.
    """

    video: str | None
    totals: Totals
    is_whole: bool = True
    reads: dict[str, Any] = field(default_factory=dict)


class Journal:
    """The folder of an unfinished build: its request, the records so far, and one line for each finished video.

    A line has the totals and the lengths of the record files; on opening, the record files are cut to the lengths of
    the last line. Lines survive a killed process at once. After a crash of the machine only those count that a later
    line calls synced, since the files they refer to may be lost. A thread syncs the disk while the build continues.

    Attributes:
        folder: the journal's folder.
        totals: of the last line.
        has_entries: whether it has records, of the index at least.
        earlier_seconds: time that earlier processes worked on this build.
    """

    def __init__(self, folder: Path, records: dict[str, IO[bytes]], log: IO[bytes], totals: Totals) -> None:
        self.folder = folder
        self.totals = totals
        self.has_entries = False
        self.earlier_seconds = 0.0
        self._records = records
        self._log = log
        self._synced = self._opened = time.monotonic()
        self._syncing: _DiskSync | None = None
        self._boot = _boot_id()

    @classmethod
    def open(cls, folder: Path, cases: Path, request: dict[str, Any]) -> Self:
        """Start a journal, or open that of an unfinished build. The caller holds the lock of the output folder.

        Args:
            folder: the journal's folder.
            cases: folder with the finished cases; those that no line counts are removed.
            request: what decides the result; must equal that of the unfinished build.

        Raises:
            UsageError: the request differs.
            OSError: the folder cannot be read or written.
        """
        folder.mkdir(exist_ok=True)
        file = folder / "request.json"
        if file.exists():
            earlier = read_json_object(file)
            changed = [key for key in request if earlier.get(key) != request[key]]
            if changed:
                raise UsageError(
                    f"{folder.parent}: was started with other options ({', '.join(changed)}); "
                    "repeat them, or `existing='overwrite'` starts again"
                )
        else:
            with atomic_write(file) as request_file:
                request_file.write(json.dumps(request, indent=1) + "\n")
        last = _last_line(folder / "journal.jsonl")
        totals = Totals(**last.get("state", {}))
        records: dict[str, IO[bytes]] = {}
        for name in _RECORD_FILES:
            handle = open(folder / name, "ab")  # noqa: SIM115
            handle.truncate(last.get("bytes", {}).get(name, 0))
            handle.seek(0, os.SEEK_END)
            records[name] = handle
        for name in (ROWS, MEASURES):
            if name not in last.get("bytes", {}):  # a journal from before they were kept
                records[name].write(b"\n" * totals.cases)
                records[name].flush()
        for staging_dir in folder.glob("stage-*"):
            shutil.rmtree(staging_dir)
        log = open(folder / "journal.jsonl", "ab")  # noqa: SIM115
        log.truncate(last.get("end", 0))
        if last.get("synced"):  # the line that says so was cut off where it was the last one
            log.write(json.dumps({"synced": last["synced"]}).encode() + b"\n")
            log.flush()
        journal = cls(folder, records, log, totals)
        journal.delete_stray_cases(cases)
        journal.has_entries = any(last.get("bytes", {}).values())
        journal.earlier_seconds = float(last.get("seconds", 0.0))
        return journal

    def delete_stray_cases(self, cases: Path) -> None:
        """Delete the finished cases that no line counts."""
        with os.scandir(cases) as entries:
            stray = [e.path for e in entries if not (e.name[5:].isdigit() and int(e.name[5:]) < self.totals.cases)]
        for path in stray:
            shutil.rmtree(path)

    def create_staging_dir(self) -> Path:
        """Create an empty folder for cases in progress, on the same disk.

        Its name is new, so that a stray worker of a killed build cannot write into it.
        """
        staging_dir = self.folder / f"stage-{os.getpid()}-{time.time_ns()}"
        staging_dir.mkdir()
        return staging_dir

    def append(
        self,
        totals: Totals,
        cases: list[bytes],
        rejects: list[Reject],
        record: VideoRecord | None = None,
        rows: list[str | None] | None = None,
        measures: list[bytes | None] | None = None,
    ) -> None:
        """Append the records of a finished video, or of the index, then the line that makes them count.

        Args:
            totals: of the build with it.
            cases: records of its cases, each with its end of line.
            rejects: of the video.
            record: of the video.
            rows: lines of the cases in the table (see ``tsv.format_row``), None for those that are not known; None:
                none of them is.
            measures: of the cases (see ``BuildOptions.measurer_factory``), None for those that were not measured; None:
                none of them was.
        """
        self._records[CASES].write(b"".join(cases))
        self._records[ROWS].write(
            b"".join(b"\n" if row is None else json.dumps(row).encode() + b"\n" for row in rows or [None] * len(cases))
        )
        self._records[MEASURES].write(b"".join((line or b"") + b"\n" for line in measures or [None] * len(cases)))
        text = "".join(json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in rejects)
        self._records[REJECTS].write(text.encode("utf-8", "backslashreplace"))
        record = record or VideoRecord(None, totals)
        # without asdict, which copies what was read for the video, and took a tenth of this process's time
        line = {**vars(record), "totals": vars(record.totals)}
        self._records[VIDEOS].write(json.dumps(line).encode() + b"\n")
        self.totals = totals
        self.has_entries = True
        self._append_line()
        if self._syncing and not self._syncing.is_alive():
            self._record_sync()
        elif not self._syncing and time.monotonic() - self._synced > _SYNC_SECONDS:
            self._syncing = _DiskSync(self.folder, self._log.tell())

    def sync(self) -> None:
        """Sync everything so far to the disk, then record that."""
        if self._syncing:
            self._record_sync()
        self._syncing = _DiskSync(self.folder, self._log.tell())
        self._record_sync()
        os.fsync(self._log.fileno())

    def _record_sync(self) -> None:
        """Wait for the running sync, and record what it covered."""
        syncing, self._syncing = self._syncing, None
        assert syncing is not None
        syncing.join()
        if syncing.error:
            raise syncing.error
        self._log.write(json.dumps({"synced": syncing.covered}).encode() + b"\n")
        self._log.flush()
        self._synced = time.monotonic()

    def link_records(self, name: str, target: Path) -> None:
        """Give a complete record file another name, on the same disk where it has hard links."""
        handle = self._records[name]
        handle.flush()
        os.fsync(handle.fileno())
        try:
            os.link(self.folder / name, target)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.folder / name, target)

    def iter_rows(self) -> Iterator[str | None]:
        """Yield what ``append`` was given as ``rows``, one for each case."""
        for line in _iter_lines(self.folder / ROWS, self.totals.cases):
            row: str | None = json.loads(line) if line != b"\n" else None
            yield row

    def read_source(self) -> dict[str, Any] | None:
        """Return what ``write_source`` recorded; None in a new journal.

        Raises:
            InputError: the file is broken.
        """
        return read_json_object(self.folder / _SOURCE) if (self.folder / _SOURCE).exists() else None

    def write_source(self, record: dict[str, Any]) -> None:
        """Record the state of the source that the build is made from."""
        with atomic_write(self.folder / _SOURCE) as handle:
            json.dump(record, handle)

    def iter_videos(self) -> Iterator[VideoRecord]:
        """Yield the record of the index, and that of each finished video.

        Raises:
            InputError: a line is broken.
        """
        file = self.folder / VIDEOS
        with open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    record = parse_json(line, file, f"line {number}")
                    yield VideoRecord(**{**record, "totals": Totals(**record["totals"])})
                except (KeyError, TypeError) as error:
                    raise InputError(file, "is no record of a video", f"line {number}") from error

    def rewind(self, records: int) -> None:
        """Drop all but the first records of ``videos.jsonl`` and what belongs to them; on return that is on disk.

        Cases that no longer count lie where they were; ``delete_stray_cases`` deletes what is left there.
        """
        totals = Totals()
        for record in itertools.islice(self.iter_videos(), records):
            totals = record.totals
        sizes = {
            CASES: sum(len(line) for line in _iter_lines(self.folder / CASES, totals.cases)),
            REJECTS: sum(len(line) for line in _iter_lines(self.folder / REJECTS, totals.rejects)),
            VIDEOS: sum(len(line) for line in _iter_lines(self.folder / VIDEOS, records)),
            ROWS: sum(len(line) for line in _iter_lines(self.folder / ROWS, totals.cases)),
            MEASURES: sum(len(line) for line in _iter_lines(self.folder / MEASURES, totals.cases)),
        }
        self.totals = totals
        self._append_line(sizes)
        self.sync()
        for name, handle in self._records.items():
            handle.truncate(sizes[name])
            handle.seek(0, os.SEEK_END)
        self.has_entries = any(sizes.values())

    def remove(self) -> None:
        """Delete the journal of a finished build."""
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._syncing:
            self._syncing.join()
        for handle in (*self._records.values(), self._log):
            handle.close()

    def _append_line(self, sizes: dict[str, int] | None = None) -> None:
        """Append the line of the current totals and of the lengths of the record files, or other ones."""
        for handle in self._records.values():
            handle.flush()
        line = {
            "state": vars(self.totals),
            "bytes": sizes or {name: handle.tell() for name, handle in self._records.items()},
            "seconds": round(self.earlier_seconds + time.monotonic() - self._opened, 3),
            "boot": self._boot,
        }
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()


class _DiskSync(threading.Thread):
    """A running write-back of the disk.

    Attributes:
        covered: length of the journal that it covers, in bytes.
        error: why it failed.
    """

    def __init__(self, folder: Path, covered: int) -> None:
        super().__init__(daemon=True)
        self.covered = covered
        self.error: OSError | None = None
        self._folder = folder
        self.start()

    def run(self) -> None:
        try:
            sync_disk(self._folder)
        except OSError as error:
            self.error = error


def _iter_lines(file: Path, count: int | None = None) -> Iterator[bytes]:
    with open(file, "rb") as lines:
        yield from itertools.islice(lines, count)


def _last_line(file: Path) -> dict[str, Any]:
    """The last line that can be trusted, {} when there is none.

    Returns:
        the line, with ``end``, the offset of its end in the file, and ``synced``, the offset up to which lines refer to
        what is known to be on disk.
    """
    if not file.exists():
        return {}
    lines: list[dict[str, Any]] = []
    boot, end, synced = _boot_id(), 0, 0
    for number, raw in enumerate(read_file(file).splitlines(keepends=True), 1):
        if not raw.endswith(b"\n"):
            break  # cut in the middle
        try:
            line = parse_json(raw, file)
        except InputError:
            break  # a machine that crashed can leave zeros
        if not _is_journal_line(line):
            raise InputError(file, "is no line of a build's journal", f"line {number}")
        end += len(raw)
        if "synced" in line:
            synced = line["synced"]
        else:
            lines.append({**line, "end": end})
    trusted = [line for line in lines if line["boot"] == boot or line["end"] <= synced]
    return {**trusted[-1], "synced": min(synced, trusted[-1]["end"])} if trusted else {}


def _is_journal_line(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    if "synced" in line:
        return _is_count(line["synced"])
    state, sizes = line.get("state"), line.get("bytes")
    return (
        isinstance(line.get("boot"), str)
        and isinstance(state, dict)
        and state.keys() <= {item.name for item in fields(Totals)}
        and all(map(_is_count, state.values()))
        and isinstance(sizes, dict)
        and all(map(_is_count, sizes.values()))
        and isinstance(line.get("seconds", 0.0), (int, float))
    )


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _boot_id() -> str:
    """An id that changes each time the machine starts; "" if the system has none, and then only synced lines count."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(os.getsid(0)) if hasattr(os, "getsid") else ""

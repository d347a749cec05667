"""Journal of what a build has finished, so that a kill loses at most the videos in progress."""

from __future__ import annotations

import ctypes
import ctypes.util
import fcntl
import json
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from typing_extensions import Self

from mmvm_data.core.errors import InputError, Reject, UsageError
from mmvm_data.io.files import atomic_write, open_without_waiting
from mmvm_data.io.json_files import parse_json, read_file, read_json_object

_SYNC_SECONDS = 2.0
_RECORD_FILES = ("cases.jsonl", "rejects.jsonl")


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


class Journal:
    """The folder of an unfinished build: its request, the records so far, and one line for each finished video.

    A line has the totals and the lengths of the record files; on opening, the record files are cut to the lengths of
    the last line. Lines survive a killed process at once. After a crash of the machine only those count that a later
    line calls synced, since the files they refer to may be lost. A thread syncs the disk while the build continues.

    Attributes:
        folder: the journal's folder.
        totals: of the last line.
        has_entries: whether there was a line when the journal was opened.
        earlier_seconds: time that earlier processes worked on this build.
    """

    def __init__(
        self, folder: Path, records: dict[str, IO[bytes]], log: IO[bytes], lock: IO[bytes], totals: Totals
    ) -> None:
        self.folder = folder
        self.totals = totals
        self.has_entries = False
        self.earlier_seconds = 0.0
        self._records = records
        self._log = log
        self._lock = lock
        self._synced = self._opened = time.monotonic()
        self._syncing: _DiskSync | None = None
        self._boot = _boot_id()

    @classmethod
    def open(cls, folder: Path, cases: Path, request: dict[str, Any]) -> Self:
        """Start a journal, or open that of an unfinished build.

        Args:
            folder: the journal's folder.
            cases: folder with the finished cases; those that no line counts are removed.
            request: what decides the result; must equal that of the unfinished build.

        Raises:
            UsageError: another process is writing here, or the request differs.
            OSError: the folder cannot be read or written.
        """
        folder.mkdir(exist_ok=True)
        lock = open(folder / "lock", "wb", opener=open_without_waiting)  # noqa: SIM115  held until the journal closes
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UsageError(f"{folder.parent}: another build is writing here") from error
        file = folder / "request.json"
        if file.exists():
            earlier = read_json_object(file)
            changed = [key for key in request if earlier.get(key) != request[key]]
            if changed:
                lock.close()
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
            moved = folder.parent / name  # the end of a build moves the records; it may have been killed after that
            if moved.exists() and not (folder / name).exists():
                moved.rename(folder / name)
            handle = open(folder / name, "ab")  # noqa: SIM115
            handle.truncate(last.get("bytes", {}).get(name, 0))
            handle.seek(0, os.SEEK_END)
            records[name] = handle
        with os.scandir(cases) as entries:
            stray = [e.path for e in entries if not (e.name[5:].isdigit() and int(e.name[5:]) < totals.cases)]
        for path in stray:
            shutil.rmtree(path)
        for staging_dir in folder.glob("stage-*"):
            shutil.rmtree(staging_dir)
        log = open(folder / "journal.jsonl", "ab")  # noqa: SIM115
        log.truncate(last.get("end", 0))
        journal = cls(folder, records, log, lock, totals)
        journal.has_entries = bool(last)
        journal.earlier_seconds = float(last.get("seconds", 0.0))
        return journal

    def create_staging_dir(self) -> Path:
        """Create an empty folder for cases in progress, on the same disk.

        Its name is new, so that a stray worker of a killed build cannot write into it.
        """
        staging_dir = self.folder / f"stage-{os.getpid()}-{time.time_ns()}"
        staging_dir.mkdir()
        return staging_dir

    def append(self, totals: Totals, cases: list[bytes], rejects: list[Reject]) -> None:
        """Append the records of a finished video, then the line that makes them count."""
        self._records["cases.jsonl"].write(b"".join(cases))
        text = "".join(json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in rejects)
        self._records["rejects.jsonl"].write(text.encode("utf-8", "backslashreplace"))
        self.totals = totals
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

    def release_records(self, name: str, folder: Path) -> Path:
        """Sync a complete record file and move it to ``folder``; return its path there."""
        handle = self._records[name]
        handle.flush()
        os.fsync(handle.fileno())
        (self.folder / name).rename(folder / name)
        return folder / name

    def remove(self) -> None:
        """Delete the journal of a finished build."""
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._syncing:
            self._syncing.join()
        for handle in (*self._records.values(), self._log, self._lock):
            handle.close()

    def _append_line(self) -> None:
        """Append the line of the current totals."""
        for handle in self._records.values():
            handle.flush()
        line = {
            "state": asdict(self.totals),
            "bytes": {name: handle.tell() for name, handle in self._records.items()},
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
            _sync_disk(self._folder)
        except OSError as error:
            self.error = error


def _last_line(file: Path) -> dict[str, Any]:
    """The last line that can be trusted, with ``end``, the offset of its end in the file; {} when there is none."""
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
    return trusted[-1] if trusted else {}


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


def _sync_disk(folder: Path) -> None:
    """Write back the file system that ``folder`` is on; one call costs less than an fsync of each small file."""
    libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if hasattr(libc, "syncfs"):
            if libc.syncfs(descriptor):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(folder))
        else:
            os.sync()
    finally:
        os.close(descriptor)

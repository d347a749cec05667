"""What a build has finished so far, kept so that any kill loses at most the work in hand."""

from __future__ import annotations

import ctypes
import ctypes.util
import fcntl
import json
import os
import shutil
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from typing_extensions import Self

from mmvm_data.core.errors import Reject, UsageError
from mmvm_data.io.files import atomic_write

_SYNC_SECONDS = 2.0
_FILES = ("cases.jsonl", "rejects.jsonl")


@dataclass(frozen=True)
class State:
    """Running totals: videos finished (in the build's order), cases, those without an answer, rejects."""

    units: int = 0
    cases: int = 0
    none_cases: int = 0
    rejects: int = 0
    bad_inputs: int = 0


class Journal:
    """The folder of an unfinished build: its request, the records so far, and one line for each finished video.

    A line names the totals and the lengths of the record files; on opening, whatever lies beyond the last line is cut
    off. Lines survive a killed process at once. After a crash of the machine only those count that a later line calls
    synced, since the files they speak of may be lost. The disk is synced beside the work, not in its way.
    """

    def __init__(
        self, folder: Path, records: dict[str, IO[bytes]], log: IO[bytes], lock: IO[bytes], state: State
    ) -> None:
        self.folder = folder
        self.state = state
        self.begun = False
        self.seconds_before = 0.0
        self._records = records
        self._log = log
        self._lock = lock
        self._synced = self._opened = time.monotonic()
        self._syncing: _Syncing | None = None
        self._boot = _boot_id()

    @classmethod
    def open(cls, folder: Path, cases: Path, request: dict[str, Any]) -> Self:
        """Begin or go on.

        Args:
            folder: the journal's own.
            cases: folder with the finished cases; those that no line speaks of are removed.
            request: what decides the result; must equal that of the build to go on with.

        Raises:
            UsageError: another process works here, or the request is another one.
            OSError: the disk.
        """
        folder.mkdir(exist_ok=True)
        lock = open(folder / "lock", "wb")  # noqa: SIM115  held until the journal closes
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UsageError(f"{folder.parent}: another build is writing here") from error
        file = folder / "request.json"
        if file.exists():
            before = json.loads(file.read_text(encoding="utf-8"))
            changed = [key for key in request if before.get(key) != request[key]]
            if changed:
                lock.close()
                raise UsageError(
                    f"{folder.parent}: was begun with other options ({', '.join(changed)}); "
                    "repeat the command it was begun with, or use --overwrite"
                )
        else:
            with atomic_write(file) as handle:
                handle.write(json.dumps(request, indent=1) + "\n")
        last = _last_line(folder / "journal.jsonl")
        state = State(**last.get("state", {}))
        records: dict[str, IO[bytes]] = {}
        for name in _FILES:
            moved = folder.parent / name  # the end of a build moves the records; a kill may have come after that
            if moved.exists() and not (folder / name).exists():
                moved.rename(folder / name)
            handle = open(folder / name, "ab")  # noqa: SIM115
            handle.truncate(last.get("bytes", {}).get(name, 0))
            handle.seek(0, os.SEEK_END)
            records[name] = handle
        with os.scandir(cases) as entries:
            stray = [e.path for e in entries if not (e.name[5:].isdigit() and int(e.name[5:]) < state.cases)]
        for path in stray:
            shutil.rmtree(path)
        for stage in folder.glob("stage-*"):
            shutil.rmtree(stage)
        log = open(folder / "journal.jsonl", "ab")  # noqa: SIM115
        log.truncate(last.get("end", 0))
        journal = cls(folder, records, log, lock, state)
        journal.begun = bool(last)
        journal.seconds_before = float(last.get("seconds", 0.0))
        return journal

    def fresh_stage(self) -> Path:
        """An empty folder for work in hand, on the same disk; the name is new so that a stray worker of a killed build
        cannot write into it."""
        stage = self.folder / f"stage-{os.getpid()}-{time.time_ns()}"
        stage.mkdir()
        return stage

    def note(self, state: State, cases: list[bytes], rejects: list[Reject]) -> None:
        """One more video is done: append its records, then the line that makes them count."""
        self._records["cases.jsonl"].write(b"".join(cases))
        text = "".join(json.dumps(r.to_json(), ensure_ascii=False) + "\n" for r in rejects)
        self._records["rejects.jsonl"].write(text.encode("utf-8", "backslashreplace"))
        self.state = state
        self._line()
        if self._syncing and not self._syncing.is_alive():
            self._note_synced()
        elif not self._syncing and time.monotonic() - self._synced > _SYNC_SECONDS:
            self._syncing = _Syncing(self.folder, self._log.tell())

    def sync(self) -> None:
        """Bring everything so far to the disk, then mark it so."""
        if self._syncing:
            self._note_synced()
        self._syncing = _Syncing(self.folder, self._log.tell())
        self._note_synced()
        os.fsync(self._log.fileno())

    def _note_synced(self) -> None:
        """Wait for the sync that was begun, and write what it covered."""
        syncing, self._syncing = self._syncing, None
        assert syncing is not None
        syncing.join()
        if syncing.error:
            raise syncing.error
        self._log.write(json.dumps({"synced": syncing.covered}).encode() + b"\n")
        self._log.flush()
        self._synced = time.monotonic()

    def released(self, name: str, folder: Path) -> Path:
        """Move a record file, complete and synced, to its final place."""
        handle = self._records[name]
        handle.flush()
        os.fsync(handle.fileno())
        (self.folder / name).rename(folder / name)
        return folder / name

    def remove(self) -> None:
        """The build is whole: the journal is not needed any more."""
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._syncing:
            self._syncing.join()
        for handle in (*self._records.values(), self._log, self._lock):
            handle.close()

    def _line(self) -> None:
        for handle in self._records.values():
            handle.flush()
        line = {
            "state": asdict(self.state),
            "bytes": {name: handle.tell() for name, handle in self._records.items()},
            "seconds": round(self.seconds_before + time.monotonic() - self._opened, 3),
            "boot": self._boot,
        }
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()


class _Syncing(threading.Thread):
    """A write-back of the disk under way; it covers the journal up to a length."""

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
    """The last line that can be trusted, with ``end``, its length in the file; {} when there is none."""
    if not file.exists():
        return {}
    lines: list[dict[str, Any]] = []
    boot, end, synced = _boot_id(), 0, 0
    for raw in file.read_bytes().splitlines(keepends=True):
        if not raw.endswith(b"\n"):
            break  # cut in the middle
        try:
            line = json.loads(raw)
        except ValueError:
            break  # a machine that crashed can leave zeros
        end += len(raw)
        if "synced" in line:
            synced = line["synced"]
        else:
            lines.append({**line, "end": end})
    trusted = [line for line in lines if line["boot"] == boot or line["end"] <= synced]
    return trusted[-1] if trusted else {}


def _boot_id() -> str:
    """Changes each time the machine starts; "" where the system does not say, and then only synced lines count."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return str(os.getsid(0)) if hasattr(os, "getsid") else ""


def _sync_disk(folder: Path) -> None:
    """Write back the one file system that ``folder`` is on; one call costs less than an fsync for each small file."""
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

"""A lock on a folder that names its holder, so that commands which change it take turns.

The lock is an flock on a file in the folder. A killed process loses it at once, whatever the file still says.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.io.json_files import parse_json

LOCK_FILE: Final = ".lock"
WAIT_SECONDS: Final = 120.0
"""How long a command waits for another one."""
_POLL_SECONDS: Final = 0.05
_MAX_HOLDER_BYTES: Final = 4096
_held: Final[set[int]] = set()
"""Descriptors of the locks of this process. A fork must not keep them: it could outlive its killed parent."""


def print_waiting(holder: str) -> None:
    """Print on stderr what this process is waiting for."""
    from mmvm_data.io.console import err, escape  # rich takes as long to import as all else here, and few wait

    err.print(f"waiting for {escape(holder)}")


@contextmanager
def lock_folder(
    folder: Path,
    command: str,
    wait_seconds: float | None = None,
    on_wait: Callable[[str], None] = print_waiting,
) -> Iterator[None]:
    """Hold the lock of a folder. It is not reentrant.

    Args:
        folder: an existing folder.
        command: name of this command, which other processes print while they wait.
        wait_seconds: how long to wait for another process; None: WAIT_SECONDS; 0: refuse at once.
        on_wait: called once with the holder's name and process id when the lock is not free.

    Raises:
        UsageError: another process still holds the lock after ``wait_seconds``.
        OutputError: the folder cannot be written.
    """
    path = folder / LOCK_FILE
    try:
        handle = _acquire(path, WAIT_SECONDS if wait_seconds is None else wait_seconds, on_wait)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"command": command, "pid": os.getpid()}).encode(), 0)
    except OSError as error:
        raise OutputError(error.filename or path, error) from error
    _held.add(handle)
    try:
        yield
    finally:
        if handle in _held:  # not in a fork
            _held.remove(handle)
            path.unlink(missing_ok=True)  # while it is locked, so that nobody else's file is removed
            os.close(handle)


def _close_inherited() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_inherited)


def _acquire(path: Path, wait_seconds: float, on_wait: Callable[[str], None]) -> int:
    """Return the descriptor of the locked file at ``path``."""
    start, is_waiting = time.monotonic(), False
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(handle)
            os.close(handle)
        except BaseException:
            os.close(handle)
            raise
        else:
            if _is_at(handle, path):
                return handle
            os.close(handle)  # removed by its holder between the two calls
            continue
        if not wait_seconds:
            raise UsageError(f"{path.parent}: {holder} is writing here; run the command again when it has finished")
        if not is_waiting:
            is_waiting = True
            on_wait(holder)
        if time.monotonic() - start >= wait_seconds:
            raise UsageError(
                f"{path.parent}: {holder} has been writing here for more than {wait_seconds:g} s; "
                "run the command again when it has finished"
            )
        time.sleep(_POLL_SECONDS)


def _read_holder(handle: int) -> str:
    try:
        record = parse_json(os.pread(handle, _MAX_HOLDER_BYTES, 0), "lock")
        return f"`{record['command']}` (pid {record['pid']})"
    except (InputError, KeyError, TypeError):  # it has just taken the lock
        return "another command"


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False

"""Temporary files and folders beside their final place: whose they are, and what killed processes have left.

``.NAME.PID.tmp``, or ``.NAME.PID.rRANDOM.tmp`` where a process writes several at a time, is written by one process and
renamed to NAME. It is locked for as long as that process is at it, so that a later one can tell what a killed process
has left, also from another machine.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"\.(.+)\.(\d+)(?:\.r[0-9a-f]+)?\.tmp", re.S)
_found: Final[dict[str, dict[str, list[str]]]] = {}
"""Folder -> final name -> temporary names, as they were when this process wrote into the folder for the first time."""


def temporary_path(path: Path) -> Path:
    """Return the path that this process writes before it renames it to ``path``."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def unique_temporary_path(path: Path) -> Path:
    """Return a path like ``temporary_path`` that differs with each call."""
    # the "r" keeps random digits from being read as the id of a process
    return path.with_name(f".{path.name}.{os.getpid()}.r{os.urandom(4).hex()}.tmp")


def mark_as_used(handle: int) -> None:
    """Lock an open temporary file or folder; the lock ends with the descriptor, and with the process."""
    with suppress(OSError):  # a file system without locks, where nothing is removed
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes have left of the file or folder ``path``. What cannot be removed stays.

    A folder is listed once in a process, so that many small files cost no more.
    """
    folder = os.path.abspath(path.parent)
    if folder not in _found:
        _found[folder] = _list_temporary(folder)
    for name in _found[folder].pop(path.name, ()):
        _remove(os.path.join(folder, name))


def iter_writers(path: Path) -> Iterator[int]:
    """Yield the ids of the processes that are writing ``path`` now; remove what killed ones have left of it."""
    folder = os.path.abspath(path.parent)
    for name in _list_temporary(folder).get(path.name, ()):
        if not _remove(os.path.join(folder, name)):
            match = _NAME.fullmatch(name)
            assert match is not None
            yield int(match[2])


def _list_temporary(folder: str) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match:
                names.setdefault(match[1], []).append(entry.name)
    return names


def _remove(path: str) -> bool:
    """Remove a temporary file or folder unless a process is at it; whether it is gone."""
    match = _NAME.fullmatch(os.path.basename(path))
    if match is None or _is_alive(int(match[2])):
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it belongs to another user, or is no id of this system
        return True
    return True

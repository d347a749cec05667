"""Several files of a folder that are replaced in one step, whatever interrupts it.

.revision/files/…        the new files, complete
.revision/commit.json    which files are replaced and removed; renamed into place when everything else is on disk

Without commit.json the old files stand, and ``.revision`` is discarded by the next writer. With it the new files stand:
whoever comes next, a reader too, moves the ones that are left.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.io.files import atomic_write, fsync_path, safe_join, safe_parts, sync_tree
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.json_files import read_json_object

JOURNAL: Final = ".revision"
_COMMIT: Final = "commit.json"
_FILES: Final = "files"


class Transaction:
    """New files of a folder before they replace the old ones; see ``open_transaction``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = folder / JOURNAL
        self._replaced: list[str] = []
        self._removed: list[str] = []

    def stage(self, name: str) -> Path:
        """Return where the new content of a file is to be written.

        Args:
            name: of the file, "/"-separated, relative to the folder.
        """
        path = safe_join(self._journal / _FILES, name, self._journal)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._replaced.append(name)
        return path

    def discard(self, name: str) -> None:
        """Take back what was staged for a file."""
        self._replaced.remove(name)
        safe_join(self._journal / _FILES, name, self._journal).unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there, in the same step."""
        self._removed.append(name)

    def _commit(self) -> None:
        if not self._replaced and not self._removed:
            shutil.rmtree(self._journal)
            return
        sync_tree(self._journal)
        with atomic_write(self._journal / _COMMIT) as pointer:
            json.dump({"replaced": self._replaced, "removed": self._removed}, pointer)
        fsync_path(self._journal)
        _move_files(self._folder)


@contextmanager
def open_transaction(folder: Path) -> Iterator[Transaction]:
    """Collect new files, and replace the old ones when the block ends; after an error the old ones stand.

    The caller holds the lock of the folder, and has called ``recover``.

    Raises:
        OSError: a file cannot be written or moved; a later ``recover`` completes what was committed.
    """
    journal = folder / JOURNAL
    journal.mkdir()
    transaction = Transaction(folder)
    try:
        yield transaction
        transaction._commit()
    except BaseException:
        if not (journal / _COMMIT).exists():
            shutil.rmtree(journal, ignore_errors=True)
        raise


def recover(folder: Path) -> None:
    """Complete a step that was committed, or discard one that was not. The caller holds the lock of the folder.

    Raises:
        InputError: the journal is broken.
        OSError: a file cannot be moved.
    """
    if (folder / JOURNAL / _COMMIT).exists():
        _move_files(folder)
    elif (folder / JOURNAL).exists():
        shutil.rmtree(folder / JOURNAL)


def settle(folder: str | Path, command: str = "mmvm-data") -> None:
    """Make the files of a folder agree before they are read: complete a step that a killed command has committed.

    Without one this costs a look at one path, and takes no lock.

    Raises:
        InputError: the journal is broken, or the folder cannot be written.
        UsageError: another process is at it and does not end.
    """
    folder = Path(folder)
    if not (folder / JOURNAL / _COMMIT).exists():
        return
    try:
        with lock_folder(folder, command):
            recover(folder)
    except (OSError, OutputError) as error:
        raise InputError(
            folder, f"a command that was killed left a change unfinished, and it cannot be completed: {error}"
        ) from error


def _move_files(folder: Path) -> None:
    """Do what commit.json says. Files that were moved before are no longer there, so this may be repeated."""
    journal = folder / JOURNAL
    pointer = journal / _COMMIT
    try:
        record = read_json_object(pointer)
        replaced, removed = record["replaced"], record["removed"]
        for name in (*replaced, *removed):  # before anything is moved; paths of many files take much more than names
            safe_parts(name, pointer)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(pointer, "expected lists of files under `replaced` and `removed`") from error
    parents: set[str] = set()
    for name in replaced:
        path = "/".join(safe_parts(name, pointer))
        staged, target = f"{journal}/{_FILES}/{path}", f"{folder}/{path}"
        parents.add(os.path.dirname(target))
        if os.path.exists(staged):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(staged, target)
    for name in removed:
        target = f"{folder}/{'/'.join(safe_parts(name, pointer))}"
        parents.add(os.path.dirname(target))
        Path(target).unlink(missing_ok=True)
    for parent in parents:
        if os.path.exists(parent):
            fsync_path(Path(parent))
    pointer.unlink()  # before anything else of the journal: without it the rest is discarded
    shutil.rmtree(journal)

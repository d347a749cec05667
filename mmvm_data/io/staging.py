"""Folders that appear when they are complete."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmvm_data.core.errors import UsageError
from mmvm_data.io.files import fsync_path, path_kind, sync_tree
from mmvm_data.io.leftovers import iter_writers, mark_as_used, temporary_path, unique_temporary_path


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside ``target``; on success it is synced and renamed, after an error removed.

    What killed processes have left of ``target`` is removed first.

    Args:
        target: must not exist, or be an empty folder. Its parent is created when it is missing.

    Raises:
        UsageError: there is something at ``target``, or another process is writing it.
        OSError: a full or read-only disk.
    """
    check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    for pid in iter_writers(target):
        raise UsageError(f"{target}: another command (pid {pid}) is writing here; run the command again afterwards")
    temporary = temporary_path(target)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mark_as_used(handle)
        yield temporary
        sync_tree(temporary)
        check_free(target)  # another process may have been faster
        if target.exists():
            target.rmdir()
        temporary.rename(target)
        fsync_path(target.parent)
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)


def check_free(target: Path) -> None:
    """Check that a folder can be written: there is none, or an empty one.

    Raises:
        UsageError: there is something else.
    """
    kind = path_kind(target)
    if kind != "nothing" and not (kind == "folder" and not any(target.iterdir())):
        raise UsageError(f"{target}: already exists and is not empty; choose another folder, or delete it first")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty hidden folder beside ``path`` that is removed at the end, with those that killed processes left.

    Args:
        path: says where the folders lie and what they are called; nothing is written there. Its parent is created when
            it is missing.

    Raises:
        OSError: a full or read-only disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    list(iter_writers(path))
    temporary = unique_temporary_path(path)
    temporary.mkdir()
    handle = os.open(temporary, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mark_as_used(handle)
        yield temporary
    finally:
        os.close(handle)
        shutil.rmtree(temporary, ignore_errors=True)

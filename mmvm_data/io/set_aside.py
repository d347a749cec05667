"""The former result of a folder that a command replaces: kept beside the new one until that is complete.

.replaced.new/   the former result while it is moved; a command that finds it moves it back
.replaced/       the former result while the new one is written
.replaced.old/   the former result while it is deleted

Every step is a rename in one folder. So a command that is killed leaves the former result complete: in its place before
``.replaced`` is there, and in ``.replaced`` afterwards.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mmvm_data.io.files import fsync_path

REPLACED: Final = ".replaced"
_MOVING: Final = ".replaced.new"
_DELETED: Final = ".replaced.old"
BOOKKEEPING: Final = (REPLACED, _MOVING, _DELETED)
"""Names in a folder that are no part of its result."""


def set_aside(folder: Path, names: Iterable[str], keep_unfinished: bool = False) -> None:
    """Move the result of a folder to ``.replaced``. The caller holds the lock of the folder.

    Args:
        folder: the folder.
        names: of what the result may consist of; what is missing is skipped.
        keep_unfinished: what to do with a result that is itself to replace an earlier one and is not complete: keep
            both, the earlier one within the other's ``.replaced``; or else delete it, and keep the earlier one.

    Raises:
        OSError: a file cannot be moved.
    """
    restore_moving(folder)
    moving = folder / _MOVING
    is_unfinished = (folder / REPLACED).exists()
    os.mkdir(moving)
    for name in (*names, REPLACED) if keep_unfinished else names:
        if os.path.lexists(folder / name):
            os.rename(folder / name, moving / name)
    os.rename(moving, folder / (_DELETED if is_unfinished and not keep_unfinished else REPLACED))
    fsync_path(folder)
    shutil.rmtree(folder / _DELETED, ignore_errors=True)


def restore_moving(folder: Path) -> None:
    """Undo a ``set_aside`` that was killed while it moved files, and finish a ``delete_replaced``."""
    if (folder / _DELETED).exists():
        shutil.rmtree(folder / _DELETED)
    _move_back(folder, folder / _MOVING)


def restore_replaced(folder: Path) -> None:
    """Move the former result back to its place, where nothing of a new one is."""
    if (folder / REPLACED).exists():
        os.rename(folder / REPLACED, folder / _MOVING)
        _move_back(folder, folder / _MOVING)


def delete_replaced(folder: Path) -> None:
    """Delete the former result; the new one is complete.

    Raises:
        OSError: a file cannot be deleted.
    """
    if (folder / REPLACED).exists():
        os.rename(folder / REPLACED, folder / _DELETED)
        shutil.rmtree(folder / _DELETED)


def _move_back(folder: Path, kept: Path) -> None:
    if not kept.exists():
        return
    names = sorted(os.listdir(kept))
    for name in names:
        os.rename(kept / name, folder / name)
    os.rmdir(kept)

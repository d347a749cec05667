"""Listing and walking the folders of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mmvm_data.core.errors import InputError, Reject
from mmvm_data.io.files import is_utf8, list_names, printable_name


def list_subfolders(source: str, root: Path, folder: Path) -> tuple[list[str], list[Reject]]:
    """Return the sorted names of the folders in ``folder``, and a reject for each one that cannot be used.

    Args:
        source: name of the source, for the rejects.
        root: root of the source, for the rejects.
        folder: an existing folder.

    Raises:
        InputError: ``folder`` cannot be read.
    """
    folders = list_names(folder)
    known = set(folders)
    rejects = []
    for name in list_names(folder, ("",)):
        reason = ""
        if name not in known and os.path.islink(folder / name) and not os.path.isfile(folder / name):
            reason = "the link is broken or points back to itself"
        elif name in known and not is_utf8(name):
            reason = "the folder's name is not UTF-8"
        if reason:
            rejects.append(Reject(source, printable_name(name), -1, reason, relative_path(root, folder / name)))
    return [name for name in folders if is_utf8(name)], rejects


def walk_folders(
    source: str, root: Path, depth: int, rejects: list[Reject], enter: Callable[[Path], bool] = lambda _: True
) -> Iterator[Path]:
    """Yield ``root`` and the folders below it, in sorted order. Links are followed, except back to a parent folder.

    Args:
        source: name of the source, for the rejects.
        root: where to start.
        depth: number of levels below ``root``.
        rejects: a reject is appended for each folder that cannot be entered.
        enter: whether to descend into a folder.

    Raises:
        InputError: ``root`` itself cannot be read.
    """
    real_root = root.resolve()
    stack: list[tuple[Path, Path, frozenset[Path], int]] = [(root, real_root, frozenset((real_root,)), depth)]
    while stack:
        folder, real_folder, parents, levels = stack.pop()
        try:
            children, folder_rejects = list_subfolders(source, root, folder)
        except InputError as error:
            if folder == root:
                raise
            rejects.append(reject_from_error(source, root, folder.name, error))
            continue
        rejects += folder_rejects
        below = []
        for name in children if levels else ():
            child = folder / name
            # resolving a path costs a call for each of its parts, and only a link leads elsewhere
            real = child.resolve() if os.path.islink(child) else real_folder / name
            if real in parents:
                reason = "the link points back to a folder that contains it"
                rejects.append(Reject(source, name, -1, reason, relative_path(root, child)))
            elif enter(child):
                below.append((child, real, parents | {real}, levels - 1))
        stack.extend(reversed(below))
        yield folder


def reject_from_error(source: str, root: Path, video: str, error: InputError) -> Reject:
    """Return the reject of a whole video for an error in a file below ``root``."""
    path = relative_path(root, Path(error.file))
    return Reject(source, printable_name(video), -1, error.reason, path, error.field or "")


def add_unique(
    source: str, root: Path, video: str, path: Path, files: dict[str, Path], rejects: list[Reject], noun: str
) -> None:
    """Add ``path`` to ``files`` under its video's id, or a reject when its name is not UTF-8 or the id is in use.

    Args:
        source, root: of the source, for the reject.
        video: the id.
        path: file or folder of the video, below ``root``.
        files: id -> path.
        rejects: the reject is appended here.
        noun: what the ids denote, in the plural, for the message.
    """
    if not is_utf8(path.name):
        reason = "the file's name is not UTF-8"
        rejects.append(Reject(source, printable_name(video), -1, reason, relative_path(root, path)))
    elif video in files:
        reason = f"two {noun} have the same name, {relative_path(root, files[video])} is read"
        rejects.append(Reject(source, video, -1, reason, relative_path(root, path)))
    else:
        files[video] = path


def relative_path(root: Path, path: Path) -> str:
    """Return ``path`` relative to ``root``, "/"-separated and printable; "" for the root itself."""
    text = path.relative_to(root).as_posix()
    return "" if text == "." else printable_name(text)

"""Atomic writes, and paths that stay inside their root."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Literal, overload

from mmvm_data.core.errors import InputError
from mmvm_data.io.leftovers import mark_as_used, remove_leftovers, temporary_path
from mmvm_data.io.read_log import note_file, note_listing, note_path

_MAX_FSYNCS: Final = 100
_MAX_NAMES: Final = 256  # of a folder, that are in memory
_MISSING_ERRNOS: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@overload
def atomic_write(path: Path, mode: Literal["w"] = "w", sync: bool = True) -> AbstractContextManager[IO[str]]: ...
@overload
def atomic_write(path: Path, mode: Literal["wb"], sync: bool = True) -> AbstractContextManager[IO[bytes]]: ...
@contextmanager
def atomic_write(path: Path, mode: Literal["w", "wb"] = "w", sync: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file next to ``path``; on success sync it to disk and rename it to ``path``.

    What killed processes have left of ``path`` is removed first.

    Args:
        path: the file to create or replace; its folder must exist.
        mode: "w" (UTF-8, line ends written unchanged) or "wb".
        sync: whether it must survive a crash of the machine; False for what can be made again.

    Raises:
        OSError: a full or read-only disk; the temporary file is removed and ``path`` is unchanged.
    """
    remove_leftovers(path)
    temporary = temporary_path(path)
    text_options: dict[str, Any] = {}
    if mode == "w":  # names in data may hold lone surrogates, which become escapes
        text_options = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    try:
        with open(temporary, mode, **text_options) as handle:
            mark_as_used(handle.fileno())
            yield handle
            handle.flush()
            if sync:
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_file(path: str, data: bytes) -> None:
    """Write a new file, without syncing it to disk.

    Raises:
        OSError: the disk is full or read-only.
    """
    with open(path, "wb", buffering=0) as handle:  # a buffer takes longer than the write
        written = handle.write(data)
        while written < len(data):  # a disk that is almost full
            written += handle.write(memoryview(data)[written:])


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file for reading. A pipe or a device, which might be read for ever, is refused at once.

    Raises:
        OSError: it is missing, cannot be read, or is no regular file.
    """
    try:
        handle = open(path, "rb", opener=open_without_waiting)  # noqa: SIM115  returned
    except ValueError as error:  # a NUL byte, or a character that file names cannot have
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path)) from error
    except OSError:
        note_path(path)
        raise
    status = os.fstat(handle.fileno())
    if not stat.S_ISREG(status.st_mode):
        handle.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    note_file(path, status)
    return handle


def read_regular(path: Path) -> bytes:
    """Return the bytes of a regular file. Raises as ``open_regular``."""
    with open_regular(path) as handle:
        return handle.read()


def open_without_waiting(path: str, flags: int) -> int:
    """An ``opener`` of ``open`` under which a pipe that nobody holds does not block; for writing it is an OSError."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)


def real_path(path: Path) -> Path:
    """Return an absolute path with its links followed. ``Path.resolve`` raises RuntimeError for links in a loop."""
    return Path(os.path.realpath(path))


def relative_link(file: Path, folder: Path) -> str:
    """Return the path of a file as seen from a folder, links followed, with ``/`` between its parts."""
    return os.path.relpath(real_path(file), real_path(folder)).replace(os.sep, "/")


def fsync_path(path: Path) -> None:
    """Sync a file, or the entries of a folder, to disk.

    Raises:
        OSError: the path is missing, or the disk has failed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_disk(folder: Path) -> None:
    """Write back the file system that ``folder`` is on; one call costs less than an fsync of each small file.

    Raises:
        OSError: the disk has failed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
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


def sync_tree(folder: Path) -> None:
    """Sync a folder with everything in it to disk.

    Raises:
        OSError: the disk has failed.
    """
    paths: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        paths += (os.path.join(parent, name) for name in (*folders, *files))
        if len(paths) > _MAX_FSYNCS:  # not all are listed, which takes longer than linking them
            sync_disk(folder)
            return
    for path in (*map(Path, sorted(paths)), folder):
        fsync_path(path)


def remove_tree(folder: Path | str) -> None:
    """Delete a folder and all in it. ``shutil.rmtree`` holds the names of a whole folder, here they are read in parts.

    Raises:
        OSError: something cannot be deleted.
    """
    with os.scandir(folder) as entries:
        while batch := list(islice(entries, _MAX_NAMES)):
            for entry in batch:
                if entry.is_dir(follow_symlinks=False):
                    remove_tree(entry.path)
                else:
                    os.unlink(entry.path)
    try:
        os.rmdir(folder)
    except OSError:  # some file systems leave out entries when others were deleted meanwhile
        shutil.rmtree(folder)


def _raise(error: OSError) -> None:
    raise error


def safe_join(root: Path, name: str, file: str | Path, field: str | None = None) -> Path:
    """Return ``root / name``, after checking that it stays inside ``root``.

    Only the text of the path is checked, so data sets whose folders are links to another disk are allowed.

    Args:
        root: folder that the path must stay in.
        name: relative path from an annotation file ("/" or "\\\\" between its parts).
        file, field: the file that contains it, and where in the file, for the message.

    Raises:
        InputError: ``name`` is absolute, contains ``..``, or contains a NUL byte.
    """
    return root / "/".join(safe_parts(name, file, field))


def safe_parts(name: str, file: str | Path, field: str | None = None) -> list[str]:
    """Return the parts of a path that ``safe_join`` accepts; faster than a Path for many names."""
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise InputError(file, f"path {name!r} must be relative and stay inside its root", field)
    return [part for part in parts if part not in ("", ".")]


def list_names(folder: Path, suffixes: tuple[str, ...] | None = None) -> list[str]:
    """Return the sorted names of the entries of ``folder``, without hidden ones: those with one dot in front.

    Names with two dots in front are no convention of any system, so they are kept: what they name is not left out
    without a word.

    Args:
        folder: an existing folder.
        suffixes: keep files with one of these suffixes (lower case, with the dot); None keeps only sub-folders and
            links to folders, but not links in a loop.

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            if suffixes is None:
                entry_names = [entry.name for entry in entries if _is_folder(entry)]
            else:
                entry_names = [entry.name for entry in entries if entry.name.lower().endswith(suffixes)]
    except OSError as error:
        note_path(folder)
        raise InputError(folder, f"folder cannot be read: {error.strerror}") from error
    names = sorted(name for name in entry_names if not name.startswith(".") or name.startswith(".."))
    note_listing(folder, suffixes, names)
    return names


def path_kind(path: Path) -> Literal["file", "folder", "other", "nothing"]:
    """Return what is at ``path``, following links.

    "other" is a pipe, a socket or a device. "nothing" includes a broken link and a name that no file can have.

    Raises:
        InputError: a parent folder does not permit access. (``Path.is_file`` and similar raise OSError then, and for
            names that are too long.)
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in _MISSING_ERRNOS:
            note_file(path, None)
            return "nothing"
        raise InputError(path, f"cannot be read: {error.strerror}") from error
    except ValueError:  # a NUL byte in the name
        return "nothing"
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def file_sha256(path: Path) -> bytes:
    """The SHA-256 digest of a file's content; a gigabyte takes about a second.

    Raises:
        OSError: the file cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.digest()


def is_utf8(name: str) -> bool:
    """Return whether a file name can be written to JSON (names that are not UTF-8 contain lone surrogates)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_name(name: str | Path) -> str:
    """Return a file name as text that can be printed and written to JSON; bytes that are not UTF-8 become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False

"""Files that are whole or absent, and paths that stay inside their root."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, Literal

from mmvm_data.core.errors import InputError

_NOTHING_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO]:
    """Open a temporary neighbour of ``path``; on success sync it to disk and rename it to ``path``.

    Args:
        path: the file to (re)place; its folder exists.
        mode: "w" (UTF-8, line ends written as they are) or "wb".

    Raises:
        OSError: a full or read-only disk; the temporary file is removed and ``path`` is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(temporary, mode, **text) as handle:  # type: ignore[call-overload]
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fsync_path(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk before going on.

    Raises:
        OSError: it is not there, or the disk has failed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def safe_join(root: Path, name: str, file: str | Path, field: str | None = None) -> Path:
    """``root / name``, refused when ``name`` is absolute, climbs out with ``..``, or holds a NUL byte.

    The check is on the words of the path, so that a data set whose folders are links to another disk still works.

    Args:
        root: folder that the path must stay in.
        name: relative path, as an annotation file gives it ("/" or "\\\\" between its parts).
        file, field: the file that names it, and where in it, for the message.

    Raises:
        InputError: the path would leave ``root``.
    """
    return root.joinpath(*safe_parts(name, file, field))


def safe_parts(name: str, file: str | Path, field: str | None = None) -> list[str]:
    """The parts of a path that ``safe_join`` takes, without making a path of each of many names."""
    parts = name.replace("\\", "/").split("/")
    if not name or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or (len(name) > 1 and name[1] == ":"):
        raise InputError(file, f"path {name!r} must be relative and stay inside its root", field)
    return [part for part in parts if part not in ("", ".")]


def list_names(folder: Path, suffixes: tuple[str, ...] | None = None) -> list[str]:
    """Sorted names of the entries of ``folder``, hidden ones left out.

    Args:
        folder: an existing folder.
        suffixes: keep files with one of these endings (lower case, with the dot); None keeps sub-folders only
            (links to folders count, links in a loop do not).

    Raises:
        InputError: the folder is missing or cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            if suffixes is None:
                found = [entry.name for entry in entries if _is_folder(entry)]
            else:
                found = [entry.name for entry in entries if entry.name.lower().endswith(suffixes)]
    except OSError as error:
        raise InputError(folder, f"folder cannot be read: {error.strerror}") from error
    return sorted(name for name in found if not name.startswith("."))


def path_kind(path: Path) -> Literal["file", "folder", "other", "nothing"]:
    """What lies at ``path``, links followed; "other" is a pipe, a socket or a device, "nothing" also a link that leads
    nowhere and a name that no file can have.

    Raises:
        InputError: it cannot be told, since a folder above is closed. (``Path.is_file`` and its like raise OSError
            then, and for names that are too long.)
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in _NOTHING_THERE:
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
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.digest()


def is_utf8(name: str) -> bool:
    """Whether a file name can be written to JSON (names that are not UTF-8 hold lone surrogates)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable_name(name: str | Path) -> str:
    """A file name as text that can be printed and written to JSON; bytes that are not UTF-8 become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False

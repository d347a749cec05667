"""Sources and results at URLs (s3://, gs://, memory:// … whatever fsspec knows; ``pip install 'mmvm-data[cloud]'``).

A source at a URL is read through a mirror: a local folder with the same tree. Small files (JSON, text, tables) are
fetched when the mirror is opened; images and videos are empty placeholders until they are read. Everything that reads
pixels or PNG masks calls ``ensure_local`` first, so only the frames that are read are transferred.

A result at a URL is a ``RemoteStore``. Object stores write an object completely or not at all, so no renaming is
needed: the object that makes others valid is written after them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.core.redact import redact_urls
from mmvm_data.io.files import atomic_write, safe_parts
from mmvm_data.io.json_files import read_json_object
from mmvm_data.io.leftovers import mark_as_used, remove_leftovers, unique_temporary_path

LAZY_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts"),
)
"""Suffixes of files that are fetched when they are read."""

_MAX_TRANSFERS = 16
_mirrors: dict[str, _Mirror] = {}


@dataclass(frozen=True)
class _Mirror:
    """A mirrored tree: the file system, the path of the URL on it, and size and version tag of its files by name."""

    system: Any
    base: str
    versions: dict[str, tuple[int, str]]


def is_url(location: str | Path) -> bool:
    """Return whether a location is a URL, such as s3://bucket/folder, rather than a path."""
    return isinstance(location, str) and "://" in location


def path_or_url(location: str | Path) -> Path | str:
    """Return a URL unchanged, and anything else as a path."""
    return location if isinstance(location, Path) or is_url(location) else Path(location)


def cache_dir() -> Path:
    """Return the folder of the mirrors: MMVM_DATA_CACHE, or ``mmvm_data`` in XDG_CACHE_HOME or ~/.cache."""
    configured = os.environ.get("MMVM_DATA_CACHE")
    return (
        Path(configured)
        if configured
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmvm_data"
    )


def open_mirror(url: str, refresh: bool = True) -> Path:
    """Create or open the mirror of a folder at a URL, in the cache folder.

    Args:
        url: a folder, or a file (an annotation file, whose folder is mirrored).
        refresh: list the URL again. False uses an existing mirror as it is, as worker processes that join do.

    Returns:
        path of the mirrored folder, or of the file in it.

    Raises:
        UsageError: the file system of the URL is unknown or does not respond, or nothing exists there.
        OSError: the cache folder cannot be written.
    """
    system, base = _open_filesystem(url)
    try:
        is_file = system.isfile(base)
    except filesystem_errors() as error:
        raise UsageError(f"{url}: cannot be read: {_error_text(error)}") from error
    name = ""
    if is_file:
        base, _, name = base.rpartition("/")
    folder = cache_dir() / "mirrors" / hashlib.blake2b(f"{url} {is_file}".encode(), digest_size=10).hexdigest()
    tree, index = folder / "tree", folder / "index.json"
    folder.mkdir(parents=True, exist_ok=True)
    with _file_lock(folder / "lock"):
        if refresh or not index.exists():
            listing = _list_remote(system, base, url)
            previous = read_json_object(index) if index.exists() else {}
            _update_tree(system, base, tree, listing, previous)
            with atomic_write(index) as handle:
                json.dump(listing, handle)
        versions = {name: (size, tag) for name, (size, tag) in read_json_object(index).items()}
    _mirrors[f"{tree.absolute()}/"] = _Mirror(system, base, versions)
    return tree / name if name else tree


def folder_name(folder: Path) -> str:
    """Return the name of a folder; of a mirror, that of the folder at its URL."""
    path = os.path.abspath(folder)
    mirror = _mirrors.get(f"{path}/")
    return (mirror.base.rstrip("/") if mirror else path).rpartition("/")[2]


def ensure_local(path: Path) -> None:
    """Fetch a file of a mirror if it has not been fetched yet. Does nothing for other files.

    Raises:
        InputError: the file cannot be fetched.
    """
    if not _mirrors:
        return
    text = os.path.abspath(path)
    for prefix, mirror in _mirrors.items():
        if text.startswith(prefix):
            name = text.removeprefix(prefix)
            if mirror.versions.get(name, (0, ""))[0] and not _size(text):
                try:
                    _fetch(mirror.system, f"{mirror.base}/{name}", Path(text))
                except filesystem_errors() as error:
                    raise InputError(path, f"cannot be fetched: {_error_text(error)}") from error
            return


def file_version(path: str | Path) -> tuple[int, str] | None:
    """Return size and version tag of a file of a mirror, as its store gives them; None for other files."""
    text = os.path.abspath(path)
    for prefix, mirror in _mirrors.items():
        if text.startswith(prefix):
            return mirror.versions.get(text.removeprefix(prefix))
    return None


class RemoteStore:
    """A folder at a URL that results are written to."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            UsageError: the file system of the URL is unknown.
        """
        self.url = url.rstrip("/")
        self._system, self._base = _open_filesystem(self.url)

    def list_files(self, below: str = "") -> list[str]:
        """Return the sorted names of all files, relative to the URL.

        Args:
            below: only list files in this folder.

        Raises:
            OSError: the store does not respond.
        """
        base = f"{self._base}/{below}".rstrip("/")
        with self._as_os_error():
            self._system.invalidate_cache()
            try:
                paths = self._system.find(base)
            except FileNotFoundError:
                return []
        return sorted(str(path).removeprefix(f"{self._base}/") for path in paths)

    def read_files(self, names: list[str]) -> Iterator[bytes]:
        """Yield the bytes of files, in order; several are transferred at a time."""
        with ThreadPoolExecutor(_MAX_TRANSFERS) as pool, self._as_os_error():
            yield from pool.map(self._system.cat_file, [f"{self._base}/{name}" for name in names])

    def write_files(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files, several at a time; on return all of them exist.

        Raises:
            OSError: a file cannot be written.
        """

        def put(item: tuple[str, bytes]) -> None:
            self._system.pipe_file(f"{self._base}/{item[0]}", item[1])

        with ThreadPoolExecutor(_MAX_TRANSFERS) as pool, self._as_os_error():
            list(pool.map(put, files))

    def upload_file(self, path: Path, name: str) -> None:
        """Write one large file.

        Raises:
            OSError: the file cannot be written.
        """
        with self._as_os_error():
            self._system.put_file(str(path), f"{self._base}/{name}")

    def remove_files(self, names: list[str]) -> None:
        """Delete files.

        Raises:
            OSError: a file cannot be deleted.
        """
        with self._as_os_error():
            for start in range(0, len(names), 1000):
                self._system.rm([f"{self._base}/{name}" for name in names[start : start + 1000]])

    @contextmanager
    def _as_os_error(self) -> Iterator[None]:
        try:
            yield
        except filesystem_errors() as error:
            raise OSError(getattr(error, "errno", None) or 5, _error_text(error), self.url) from error


def filesystem_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that file systems of fsspec raise: OSError, and obstore's own when it is installed."""
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        return (OSError,)
    return OSError, BaseError


def _open_filesystem(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path of the URL on it."""
    try:
        import fsspec
    except ImportError as error:
        raise UsageError(f"{url}: needs fsspec: pip install 'mmvm-data[cloud]'") from error
    protocol = url.partition("://")[0]
    _prefer_obstore(fsspec, protocol)
    try:
        system, base = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(f"{url}: cannot be opened: {error}; is {protocol} spelled right?") from error
    except filesystem_errors() as error:  # some connect at once, as ftp does
        raise UsageError(f"{url}: cannot be opened: {_error_text(error)}") from error
    return system, str(base).rstrip("/")


def _prefer_obstore(fsspec: Any, protocol: str) -> None:
    """Use obstore for S3, GCS and Azure, unless the package that fsspec prefers for them is installed."""
    preferred = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
    if protocol not in preferred or protocol in fsspec.registry:
        return
    try:
        __import__(preferred[protocol])
    except ImportError:
        try:
            from obstore.fsspec import register
        except ImportError:
            return  # fsspec reports which package it needs
        register(protocol)


def _list_remote(system: Any, base: str, url: str) -> dict[str, tuple[int, str]]:
    """Return size and a version tag of all files below ``base``, by name; the tag changes with the content."""
    try:
        system.invalidate_cache()
        entries = system.find(base, detail=True)
    except filesystem_errors() as error:
        raise UsageError(f"{url}: cannot be read: {_error_text(error)}") from error
    listing = {}
    for path, info in sorted(entries.items()):
        name = str(path).removeprefix(f"{base}/")
        safe_parts(name, url)  # an object may be named ../x
        tag = info.get("ETag") or info.get("e_tag") or info.get("LastModified") or info.get("mtime") or ""
        listing[name] = (int(info.get("size") or 0), str(tag))
    if not listing:
        raise UsageError(f"{url}: no files found")
    return listing


def _update_tree(
    system: Any, base: str, tree: Path, listing: dict[str, tuple[int, str]], previous: dict[str, list[Any]]
) -> None:
    """Update the tree to a listing: create placeholders and fetch small files. Unchanged files are kept."""
    for name in previous.keys() - listing.keys():
        (tree / name).unlink(missing_ok=True)
    to_fetch = []
    for name, (size, tag) in listing.items():
        path = tree / name
        is_current = previous.get(name) == [size, tag] and path.exists()
        if not is_current:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        if size and not name.lower().endswith(LAZY_SUFFIXES) and not (is_current and _size(str(path))):
            to_fetch.append(name)
    with ThreadPoolExecutor(_MAX_TRANSFERS) as pool:
        list(pool.map(lambda name: _fetch(system, f"{base}/{name}", tree / name), to_fetch))


def _fetch(system: Any, source: str, path: Path) -> None:
    """Fetch a file atomically, also when several processes fetch the same one."""
    remove_leftovers(path)
    temporary = unique_temporary_path(path)
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        mark_as_used(handle)
        system.get_file(source, str(temporary))
        temporary.replace(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _error_text(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(redact_urls(text).split())[:200]  # before it is cut: a part might end within a password


@contextmanager
def _file_lock(path: Path) -> Iterator[None]:
    with open(path, "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

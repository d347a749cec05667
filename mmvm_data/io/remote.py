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
from mmvm_data.io.files import atomic_write, safe_parts

LAZY_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"),
    *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"),
)
"""Endings of files that come when they are read."""

_AT_ONCE = 16  # transfers
_mirrors: dict[str, _Mirror] = {}


@dataclass(frozen=True)
class _Mirror:
    """A mirrored tree: the file system, the URL's path on it, and the sizes of files by name."""

    system: Any
    base: str
    sizes: dict[str, int]


def is_url(place: str | Path) -> bool:
    """Whether a place is a URL, such as s3://bucket/folder, and no path."""
    return isinstance(place, str) and "://" in place


def path_or_url(place: str | Path) -> Path | str:
    """A URL unchanged, and anything else as a path."""
    return place if isinstance(place, Path) or is_url(place) else Path(place)


def cache_dir() -> Path:
    """Where mirrors are kept: MMVM_DATA_CACHE, else ``mmvm_data`` in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("MMVM_DATA_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmvm_data"


def open_mirror(url: str, refresh: bool = True) -> Path:
    """The mirror of a folder at a URL, in the cache folder; its files then come when they are read.

    Args:
        url: of a folder, or of a file (an annotation file, whose folder is mirrored).
        refresh: list the URL again. False uses an existing mirror as it is, as worker processes that join do.

    Returns:
        the folder, or the file in it.

    Raises:
        UsageError: the URL's file system is not known or does not answer, or nothing lies there.
        OSError: the cache folder cannot be written.
    """
    system, base = _open(url)
    try:
        lone = system.isfile(base)
    except filesystem_errors() as error:
        raise UsageError(f"{url}: cannot be read: {_reason(error)}") from error
    name = ""
    if lone:
        base, _, name = base.rpartition("/")
    place = cache_dir() / "mirrors" / hashlib.blake2b(f"{url} {lone}".encode(), digest_size=10).hexdigest()
    tree, index = place / "tree", place / "index.json"
    place.mkdir(parents=True, exist_ok=True)
    with _locked(place / "lock"):
        if refresh or not index.exists():
            found = _list(system, base, url)
            before = json.loads(index.read_text(encoding="utf-8")) if index.exists() else {}
            _lay_out(system, base, tree, found, before)
            with atomic_write(index) as handle:
                json.dump(found, handle)
        sizes = {name: size for name, (size, _) in json.loads(index.read_text(encoding="utf-8")).items()}
    _mirrors[f"{tree.absolute()}/"] = _Mirror(system, base, sizes)
    return tree / name if name else tree


def ensure_local(path: Path) -> None:
    """Bring a file of a mirror here, if it is not. Files elsewhere are left alone.

    Raises:
        InputError: it cannot be fetched.
    """
    if not _mirrors:
        return
    text = os.path.abspath(path)
    for prefix, found in _mirrors.items():
        if text.startswith(prefix):
            name = text.removeprefix(prefix)
            if found.sizes.get(name) and not _size(text):
                try:
                    _fetch(found.system, f"{found.base}/{name}", Path(text))
                except filesystem_errors() as error:
                    raise InputError(path, f"cannot be fetched: {_reason(error)}") from error
            return


class RemoteStore:
    """A folder at a URL that a result is written to."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            UsageError: the URL's file system is not known.
        """
        self.url = url.rstrip("/")
        self._system, self._base = _open(self.url)

    def list_files(self, below: str = "") -> list[str]:
        """Names of all files, relative to the URL, sorted; of those below a folder when one is named.

        Raises:
            OSError: it does not answer.
        """
        base = f"{self._base}/{below}".rstrip("/")
        with self._one_kind_of_error():
            self._system.invalidate_cache()
            try:
                found = self._system.find(base)
            except FileNotFoundError:
                return []
        return sorted(str(name).removeprefix(f"{self._base}/") for name in found)

    def read_files(self, names: list[str]) -> Iterator[bytes]:
        """The bytes of files, in their order, several at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool, self._one_kind_of_error():
            yield from pool.map(self._system.cat_file, [f"{self._base}/{name}" for name in names])

    def write_files(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files, several at once; on return all of them are there.

        Raises:
            OSError: one cannot be written.
        """

        def put(item: tuple[str, bytes]) -> None:
            self._system.pipe_file(f"{self._base}/{item[0]}", item[1])

        with ThreadPoolExecutor(_AT_ONCE) as pool, self._one_kind_of_error():
            list(pool.map(put, files))

    def upload_file(self, path: Path, name: str) -> None:
        """Write one large file.

        Raises:
            OSError: it cannot be written.
        """
        with self._one_kind_of_error():
            self._system.put_file(str(path), f"{self._base}/{name}")

    def remove_files(self, names: list[str]) -> None:
        """Delete files.

        Raises:
            OSError: one cannot be deleted.
        """
        with self._one_kind_of_error():
            for start in range(0, len(names), 1000):
                self._system.rm([f"{self._base}/{name}" for name in names[start : start + 1000]])

    @contextmanager
    def _one_kind_of_error(self) -> Iterator[None]:
        try:
            yield
        except filesystem_errors() as error:
            raise OSError(getattr(error, "errno", None) or 5, _reason(error), self.url) from error


def filesystem_errors() -> tuple[type[Exception], ...]:
    """What file systems of fsspec raise: OSError, and obstore's own where that is installed."""
    try:
        from obstore.exceptions import BaseError
    except ImportError:
        return (OSError,)
    return OSError, BaseError


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL and the URL's path on it."""
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
    return system, str(base).rstrip("/")


def _prefer_obstore(fsspec: Any, protocol: str) -> None:
    """S3 and its kin by obstore, unless the package that fsspec itself names for them is there."""
    own = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
    if protocol not in own or protocol in fsspec.registry:
        return
    try:
        __import__(own[protocol])
    except ImportError:
        try:
            from obstore.fsspec import register
        except ImportError:
            return  # fsspec says which package it wants
        register(protocol)


def _list(system: Any, base: str, url: str) -> dict[str, tuple[int, str]]:
    """Name -> size and a mark that changes with the content, of all files below ``base``."""
    try:
        system.invalidate_cache()
        found = system.find(base, detail=True)
    except filesystem_errors() as error:
        raise UsageError(f"{url}: cannot be read: {_reason(error)}") from error
    listed = {}
    for path, facts in sorted(found.items()):
        name = str(path).removeprefix(f"{base}/")
        safe_parts(name, url)  # an object may be called ../x
        mark = facts.get("ETag") or facts.get("e_tag") or facts.get("LastModified") or facts.get("mtime") or ""
        listed[name] = (int(facts.get("size") or 0), str(mark))
    if not listed:
        raise UsageError(f"{url}: nothing lies there")
    return listed


def _lay_out(
    system: Any, base: str, tree: Path, found: dict[str, tuple[int, str]], before: dict[str, list[Any]]
) -> None:
    """Make the tree agree with what was found: stand-ins, and small files fetched. What has not changed stays."""
    for name in before.keys() - found.keys():
        (tree / name).unlink(missing_ok=True)
    fetch = []
    for name, (size, mark) in found.items():
        path = tree / name
        kept = before.get(name) == [size, mark] and path.exists()
        if not kept:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        if size and not name.lower().endswith(LAZY_SUFFIXES) and not (kept and _size(str(path))):
            fetch.append(name)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda name: _fetch(system, f"{base}/{name}", tree / name), fetch))


def _fetch(system: Any, source: str, path: Path) -> None:
    """Whole or not at all, whoever else fetches the same."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        system.get_file(source, str(temporary))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())[:200]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield

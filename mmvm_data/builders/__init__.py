"""Readers of data sets: one small file for each layout on disk, listed in ``catalogue``.

A reader only yields ``Video``; it never samples, renders or writes. What several readers share is in ``common``.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path

from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.builders.source import AUTO, Source, SourceSpec
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import remote

__all__ = ["SOURCES", "Source", "SourceSpec", "open_source"]


def require_source(name: str) -> None:
    """Check the name of a source.

    Raises:
        UsageError: it is not in the catalogue.
    """
    if name not in SOURCES:
        matches = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {matches[0]!r}?" if matches else ""
        raise UsageError(f"unknown source {name!r}{hint} (known: {', '.join(SOURCES)})")


def open_source(
    name: str,
    root: str | Path,
    cache: Path | None = None,
    proposals: str | Path | None = None,
    images: Sequence[str] | None = None,
) -> Source:
    """Open a data set by the name of its source.

    Args:
        name: a key of SOURCES, or "auto" for the one whose layout the root has (see ``builders.detect``).
        root: its folder, or its annotation file where the reader accepts one; a URL such as ``s3://bucket/folder``
            is mirrored in the cache.
        cache: folder in which an index may be kept between runs.
        proposals: folder of masks that are used as additional candidates; see ``builders.proposals``.
        images: paths of the images to read, relative to ``root``, instead of all images in it; for sa1b.

    Raises:
        UsageError: unknown source, none that fits the root, a source that does not support ``images``, or ``root`` or
            ``proposals`` cannot be read.
        InputError: the index of the data set is broken.
    """
    # what few processes need is imported where it is needed: workers start sooner
    if name == AUTO:
        from mmvm_data.builders.detect import choose_source

        name = choose_source(name, root)
    require_source(name)
    is_url = remote.is_url(root)
    root = remote.open_mirror(str(root)) if is_url else Path(root)
    try:
        root.stat()
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror}") from error
    spec = SOURCES[name]
    if images is None:
        try:
            source = spec.open(name, root, cache)
        except InputError as error:
            if is_url or Path(error.file) != root or not root.is_dir():
                raise
            hint = f"; `mmvm-data sources --root {shlex.quote(str(root))}` says which source fits"
            raise InputError(error.file, f"{error.reason}{hint}", error.field) from error
    elif spec.open_images is None:
        raise UsageError(f"images must be None for source {name!r}, which reads whole folders")
    else:
        source = spec.open_images(name, root, images)
    if not proposals:
        return source
    from mmvm_data.builders.proposals import add_proposals

    return add_proposals(source, Path(proposals))

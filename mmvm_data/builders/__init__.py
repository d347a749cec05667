"""The sources that ``mmvm-data build`` reads, by name. A new one is a file beside this one and an entry in
``catalogue``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from mmvm_data.builders.catalogue import SOURCES
from mmvm_data.builders.proposals import add_proposals
from mmvm_data.builders.source import Source, SourceSpec
from mmvm_data.core.errors import UsageError

__all__ = ["SOURCES", "Source", "SourceSpec", "open_source"]


def open_source(
    name: str,
    root: str | Path,
    cache: Path | None = None,
    proposals: str | Path | None = None,
    images: Sequence[str] | None = None,
) -> Source:
    """Open a source by its name.

    Args:
        name: a key of SOURCES.
        root: its folder, or its annotation file where the reader takes one.
        cache: folder where an index may be kept between runs.
        proposals: folder of masks that are candidates beside the source's own objects; see ``builders.proposals``.
        images: paths of the images to read, relative to ``root``, in place of all that lie there; for sa1b.

    Raises:
        UsageError: no such source, a source that takes no ``images``, or ``root`` or ``proposals`` cannot be read.
        InputError: the source's index is broken.
    """
    if name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"unknown source {name!r}{hint} (known: {', '.join(SOURCES)})")
    root = Path(root)
    try:
        root.stat()
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror}") from error
    spec = SOURCES[name]
    if images is None:
        source = spec.open(name, root, cache)
    elif spec.open_images is None:
        raise UsageError(f"images is not supported by source {name!r}")
    else:
        source = spec.open_images(name, root, images)
    return add_proposals(source, Path(proposals)) if proposals else source

"""What every reader gives: a list of video ids, and a way to load one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from mmvm_data.core.errors import Reject
from mmvm_data.core.types import Video


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        name: key of ``mmvm_data.builders.SOURCES``.
        root: folder that the user named.
        videos: unique ids in a stable order; listing them reads an index, not the videos.
        load: id -> Video; cheap, its annotations are read later. Raises InputError when the video cannot be used.
        rejects: entries of the index that are no usable video, each with its reason.
    """

    name: str
    root: Path
    videos: Sequence[str]
    load: Callable[[str], Video]
    rejects: tuple[Reject, ...] = ()


class Open(Protocol):
    """The function of a reader.

    Args:
        name: key of SOURCES.
        root: folder of the set, or its annotation file where the reader takes one.
        cache: folder where it may keep an index between runs, or None.

    Raises:
        InputError: nothing of this layout lies there, or the set's index is broken. What is wrong with one video is
            a reject of the source, or an InputError when the video is loaded or one of its frames is read.
    """

    def __call__(self, name: str, root: Path, cache: Path | None = None) -> Source: ...


@dataclass(frozen=True)
class Spec:
    """One line of ``mmvm-data sources``.

    Attributes:
        open: the reader.
        title: the set's name as people write it.
        needs: what must lie under the root.
        page: address of the set's own page.
        licence: as published.
        prompt: whether it gives masks or boxes.
        verified: what the reader was run on: "real files", "a part of the real files" or "files made to the
            specification".
    """

    open: Open
    title: str
    needs: str
    page: str
    licence: str
    prompt: Literal["mask", "box"]
    verified: str

"""What a reader returns: an opened ``Source`` of videos, and for data sets of still images the images themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from mmvm_data.core.errors import Reject
from mmvm_data.core.types import Frame, Rle, Video

AUTO = "auto"
"""In the place of a source's name: the one whose layout the root has."""


class ImageObject(NamedTuple):
    """One annotated object of a still image.

    Attributes:
        id: unique within the image.
        category: name of the class, or None when the data set has none.
        mask: of the whole image's size, with at least one pixel.
    """

    id: str
    category: str | None
    mask: Rle


@dataclass(frozen=True)
class StillImage:
    """One still image with masks. Neither pixels nor masks are decoded yet.

    Attributes:
        frame: path relative to ``Source.root``, width and height.
        read_objects: reads the annotation; raises InputError when it is broken.
    """

    frame: Frame
    read_objects: Callable[[], list[ImageObject]]


@dataclass(frozen=True)
class Source:
    """An opened data set.

    Attributes:
        name: key of ``mmvm_data.builders.SOURCES``.
        root: folder that frame paths are relative to; the folder that the user named, or the one that holds the frames
            when the user named an annotation file.
        videos: unique ids in a stable order; listing them reads an index, not the videos.
        load: id -> Video; cheap, since annotations are read on demand. Raises InputError for an unknown id or a video
            that cannot be used.
        rejects: entries of the index that are no usable video, each with its reason.
        load_image: id -> StillImage, for sources whose videos are augmented views of still images; None for sources of
            real videos. Raises InputError as ``load`` does.
    """

    name: str
    root: Path
    videos: Sequence[str]
    load: Callable[[str], Video]
    rejects: tuple[Reject, ...] = ()
    load_image: Callable[[str], StillImage] | None = None


class SourceOpener(Protocol):
    """Signature of a reader's ``open_<set>`` function.

    Args:
        name: key of SOURCES.
        root: folder of the data set, or its annotation file where the reader accepts one.
        cache: folder in which an index may be kept between runs, or None.

    Raises:
        InputError: nothing with this layout exists at ``root``, or the index of the data set is broken. A problem with
            one video is a reject of the source, or an InputError when the video is loaded or a frame is read.
    """

    def __call__(self, name: str, root: Path, cache: Path | None = None) -> Source: ...


class ImageListOpener(Protocol):
    """Signature of a function that opens the named images of a data set without listing its folders.

    Args:
        name: key of SOURCES.
        root: folder of the data set.
        images: paths of image files relative to ``root``; they become the ids of the source.
    """

    def __call__(self, name: str, root: Path, images: Sequence[str]) -> Source: ...


@dataclass(frozen=True)
class LazyReader:
    """A reader that is imported when it opens its first data set, since a process reads one layout of forty.

    Attributes:
        name: module and function in ``mmvm_data.builders``, such as "ytvis.open_ytvis".
    """

    name: str

    def load(self) -> Any:
        """Import the module and return the function."""
        module, _, function = self.name.rpartition(".")
        return getattr(import_module(f"mmvm_data.builders.{module}"), function)

    def __call__(self, *args: Any, **kwargs: Any) -> Source:
        """Call the function."""
        source: Source = self.load()(*args, **kwargs)
        return source


@dataclass(frozen=True)
class SourceSpec:
    """One entry of the catalogue, as ``mmvm-data sources`` prints it.

    Attributes:
        open: the reader.
        title: the data set's name as its authors write it.
        layout: files and folders that must exist under the root.
        page: URL of the data set's own page, or "".
        license: as published.
        prompt: whether the annotation consists of masks or boxes.
        tested_on: what the reader was tested on: "real files", "a part of the real files" or "files made to the
            specification".
        open_images: opens a list of images instead of a folder; None where the reader does not support it.
    """

    open: SourceOpener
    title: str
    layout: str
    page: str
    license: str
    prompt: Literal["mask", "box"]
    tested_on: str
    open_images: ImageListOpener | None = None

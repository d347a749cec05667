"""Whether two sources of a recipe show the same pictures: by their files, not by what is in them.

Sources are compared where the folder of one lies in that of the other, links followed: as their roots say, or as the
files of a video of theirs say. Copies of pictures are found later, by their hashes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path

from mmvm_data.builders import Source
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import remote
from mmvm_data.io.files import real_path
from mmvm_data.io.media import IMAGE_SUFFIXES
from mmvm_data.io.read_log import ReadLog, record_reads

_TRIED = 3
"""Videos of which one can probably be loaded."""
_NOT_ANNOTATIONS = ("seqinfo.ini",)
"""Files that say of what size and how many the pictures are, whatever is annotated."""


@dataclass(frozen=True)
class SharedPictures:
    """Two sources that show the same pictures.

    Attributes:
        first, second: their numbers; the first one is the smaller.
        videos: ids of a video of each, which show them.
        annotation: a file that both read for it; None where their annotations are in different files.
    """

    first: int
    second: int
    videos: tuple[str, str]
    annotation: str | None


def find_shared_pictures(sources: list[Source], logs: list[ReadLog]) -> Iterator[SharedPictures]:
    """Yield each two sources that have a picture file, or a video file, in common.

    Args:
        sources: opened.
        logs: what opening each of them read.
    """
    # a single source has nothing to be compared with, and finding a place loads videos
    places = [_find_places(source) for source in sources] if len(sources) > 1 else []
    for first, second in combinations(range(len(sources)), 2):
        if any(_is_within(a, b) or _is_within(b, a) for a in places[first] for b in places[second]):
            videos = _find_shared_video(sources[first], sources[second])
            if videos is not None:
                pairs = zip((sources[first], sources[second]), videos, (logs[first], logs[second]), strict=True)
                own, other = (_annotation_files(source, video, log) for source, video, log in pairs)
                yield SharedPictures(first, second, videos, min(own & other, default=None))


def _find_places(source: Source) -> set[str]:
    """The root of a source, and the folder that the pictures of a video of it are in; links are followed."""
    places = {str(real_path(source.root))}
    if _is_within(min(places), str(real_path(remote.cache_dir()))):  # a video of a mirror would be fetched
        return places
    for video in islice(source.videos, _TRIED):
        frames = _load_frames(source, video)
        if frames:
            return places | {os.path.dirname(_picture_path(source.root, frames[0]))}
    return places


def _is_within(inner: str, outer: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def _find_shared_video(a: Source, b: Source) -> tuple[str, str] | None:
    """The ids of a video of each that have a picture in common; None where there is none."""
    if len(a.videos) > len(b.videos):
        swapped = _find_shared_video(b, a)
        return swapped and (swapped[1], swapped[0])
    by_place: dict[str, str] = {}
    for video in a.videos:
        for place in _video_places(a, video):
            by_place.setdefault(place, video)
    for video in b.videos:
        for place in _video_places(b, video):
            if place in by_place and _pictures(a, by_place[place]) & _pictures(b, video):
                return by_place[place], video
    return None


def _video_places(source: Source, video: str) -> set[str]:
    """Names of which videos of two sources have one in common where they have pictures in common: the first picture,
    the last one, and for videos of several files their folder."""
    frames = _load_frames(source, video)
    places = {_picture_path(source.root, frame) for frame in (*frames[:1], *frames[-1:])}
    return places if len(places) < 2 else places | {os.path.dirname(min(places))}


def _pictures(source: Source, video: str) -> set[str]:
    return {_picture_path(source.root, frame) for frame in _load_frames(source, video)}


def _load_frames(source: Source, video: str) -> tuple[Frame, ...]:
    """The frames of a video that are read from files; of a still image, the image itself."""
    try:
        if source.load_image is not None:
            return (source.load_image(video).frame,)
        loaded = source.load(video)
    except InputError:  # the build lists it among its rejects
        return ()
    return loaded.frames


def _picture_path(root: Path, frame: Frame) -> str:
    return os.path.realpath(root / frame.path)


def _annotation_files(source: Source, video: str, opening: ReadLog) -> set[str]:
    """The files that were read to open a source, and for the objects of a video, other than pictures of it."""
    pictures = _pictures(source, video)
    folders = {os.path.dirname(path) for path in pictures}
    log = ReadLog()
    log.update(opening)
    with record_reads() as reads:
        try:
            if source.load_image is not None:
                source.load_image(video).read_objects()
            else:
                loaded = source.load(video)
                for position in loaded.annotated[:1]:
                    loaded.regions(position)
        except InputError:
            pass  # what was read until then is known
    log.update(reads)
    files = {os.path.realpath(path) for path, stamp in log.files.items() if stamp is not None}
    return {
        path
        for path in files - pictures
        if os.path.basename(path) not in _NOT_ANNOTATIONS
        and not (os.path.dirname(path) in folders and path.lower().endswith(IMAGE_SUFFIXES))
    }

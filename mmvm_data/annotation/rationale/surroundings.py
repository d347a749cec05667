"""What the source knows about the neighbours of a case's objects and about their motion."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from mmvm_data.builders import open_source
from mmvm_data.builders.source import Source
from mmvm_data.cases.cues import Surroundings, Vector
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Frame, Region, Video


class SourceVideos:
    """The videos of a benchmark's sources, opened when a case asks for them; the last one is kept."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sources: dict[str, Source] = {}
        self._video: tuple[tuple[str, str], Video] | None = None

    def around(self, case: Case) -> Surroundings:
        """Neighbours in the first image, and motion between annotated frames next to the first and the last.

        Raises:
            InputError: the source does not hold the case's video or frames, or they cannot be read.
            UsageError: the source cannot be opened.
        """
        origin = case.provenance
        if origin is None:
            raise InputError(case.id, "does not say from which video it comes", field="provenance")
        video = self._load(origin.source, origin.video)
        first, last = (_position(video, frame, case.id) for frame in (origin.frames[0], origin.frames[-1]))
        tracks = {candidate.region.id for candidate in case.candidates}
        here = {region.id: region for region in video.regions(first) if region.id in tracks}
        query = case.query[0].id
        here.pop(query, None)
        return Surroundings(
            first=here,
            moving_first=_motion(video, first, {query}),
            moving_last=_motion(video, last, tracks),
        )

    def _load(self, source: str, name: str) -> Video:
        if self._video is None or self._video[0] != (source, name):
            if source not in self._sources:
                self._sources[source] = open_source(source, self._root)
            self._video = (source, name), self._sources[source].load(name)
        return self._video[1]


def _position(video: Video, frame: Frame, case: str) -> int:
    for position in video.annotated:
        if video.frames[position].index == frame.index:
            return position
    raise InputError(case, f"video {video.id!r} of the source has no annotated frame {frame.index}", field="provenance")


def _motion(video: Video, position: int, tracks: set[str]) -> dict[str, Vector]:
    """Pixels a frame from the annotated frame before to the one after; of objects that both show. Nothing moves between
    views of one instant."""
    if video.order == "views":
        return {}
    place = bisect_left(video.annotated, position)
    before = video.annotated[max(place - 1, 0)]
    after = video.annotated[min(place + 1, len(video.annotated) - 1)]
    frames = video.frames[after].index - video.frames[before].index
    if frames <= 0:
        return {}
    ends = [{r.id: r for r in video.regions(p) if r.id in tracks} for p in (before, after)]
    found = {}
    for track in ends[0].keys() & ends[1].keys():
        (x0, y0), (x1, y1) = (_center(end[track]) for end in ends)
        found[track] = ((x1 - x0) / frames, (y1 - y0) / frames)
    return found


def _center(region: Region) -> Vector:
    if region.mask is not None:
        x, y, w, h = masks.bbox(region.mask)
        return x + w / 2, y + h / 2
    assert region.box is not None  # a region has one of the two
    left, top, width, height = region.box
    return left + width / 2, top + height / 2

"""Neighbors and motion of the objects of a case, measured in the videos of its source."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from mmvm_data.builders import open_source
from mmvm_data.builders.source import Source
from mmvm_data.cases.baselines import box_center
from mmvm_data.cases.cues import Surroundings, Vector
from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Case, Frame, Video


class SourceVideos:
    """The videos of a benchmark's sources. Sources are opened on first use; the last video stays loaded.

    Args:
        root: folder that the benchmark was built from.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sources: dict[str, Source] = {}
        self._cached_video: tuple[tuple[str, str], Video] | None = None

    def measure_surroundings(self, case: Case) -> Surroundings:
        """Return the neighbors in the first image, and the motion around the first and the last image.

        Raises:
            InputError: the source does not contain the case's video or frames, or they cannot be read.
            UsageError: the source cannot be opened.
        """
        provenance = case.provenance
        if provenance is None:
            raise InputError(case.id, "has no provenance, so its video is not known", field="provenance")
        video = self._load_video(provenance.source, provenance.video)
        first, last = (_find_position(video, frame, case.id) for frame in (provenance.frames[0], provenance.frames[-1]))
        tracks = {candidate.region.id for candidate in case.candidates}
        query = case.query[0].id
        neighbors = {region.id: region for region in video.regions(first) if region.id in tracks - {query}}
        return Surroundings(
            first_regions=neighbors,
            first_motion=_measure_motion(video, first, {query}),
            last_motion=_measure_motion(video, last, tracks),
        )

    def _load_video(self, source: str, name: str) -> Video:
        if self._cached_video is None or self._cached_video[0] != (source, name):
            if source not in self._sources:
                self._sources[source] = open_source(source, self._root)
            self._cached_video = (source, name), self._sources[source].load(name)
        return self._cached_video[1]


def _find_position(video: Video, frame: Frame, case: str) -> int:
    for position in video.annotated:
        if video.frames[position].index == frame.index:
            return position
    raise InputError(case, f"video {video.id!r} of the source has no annotated frame {frame.index}", field="provenance")


def _measure_motion(video: Video, position: int, tracks: set[str]) -> dict[str, Vector]:
    """Return the motion (x, y) by track, in pixels per frame, between the annotated frames before and after a position.

    Only objects that are visible in both frames have a motion. Nothing moves between views of one instant.
    """
    if video.order == "views":
        return {}
    rank = bisect_left(video.annotated, position)
    before = video.annotated[max(rank - 1, 0)]
    after = video.annotated[min(rank + 1, len(video.annotated) - 1)]
    frames = video.frames[after].index - video.frames[before].index
    if frames <= 0:
        return {}
    regions_before, regions_after = ({r.id: r for r in video.regions(p) if r.id in tracks} for p in (before, after))
    motion = {}
    for track in regions_before.keys() & regions_after.keys():
        x0, y0 = box_center(regions_before[track])
        x1, y1 = box_center(regions_after[track])
        motion[track] = ((x1 - x0) / frames, (y1 - y0) / frames)
    return motion

"""Tracks that people drew over frames of their own clips, as ``mmvm-data ingest pull`` writes them.

``tracks/<clip>/<shot>.json`` below the root is one video: the JSON of ``mmvm_data.core.types.Video`` with its tracks,
so that masks may overlap, boxes and categories are possible, and a shot is a single file. Paths of frames are relative
to the root (``frames/<clip>/<shot>/000123.jpg``). An object that is not listed in an annotated frame is not visible
there.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from mmvm_data.builders.clips import open_clips
from mmvm_data.builders.common.folders import list_subfolders, relative_path
from mmvm_data.builders.common.frames import require_two_frames
from mmvm_data.builders.common.segmentations import parse_counts
from mmvm_data.builders.source import Source
from mmvm_data.core import masks
from mmvm_data.core.errors import InputError, Reject
from mmvm_data.core.types import Frame, Region, Video
from mmvm_data.io.files import is_utf8, list_names, path_kind, printable_name
from mmvm_data.io.media import read_bytes

CLIPS: Final = "clips"
TRACKS: Final = "tracks"
_CACHE_SIZE: Final = 8


def open_video(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the tracks of a folder that ``mmvm-data ingest`` wrote, else video files with PNG masks.

    Raises:
        InputError: see ``open_tracks`` and ``open_clips``.
    """
    is_ingest_folder = path_kind(root / CLIPS) == "folder" and list_names(root / CLIPS, (".json",))
    return open_tracks(name, root, cache) if is_ingest_folder else open_clips(name, root, cache)


def open_tracks(name: str, root: Path, cache: Path | None = None) -> Source:
    """Open the tracks of a folder that ``mmvm-data ingest`` wrote; a video's id is ``<clip>/<shot>``.

    Raises:
        InputError: nothing was pulled yet, or the folder contains no tracks.
    """
    folder = root / TRACKS
    if path_kind(folder) != "folder":
        raise InputError(root, "nothing was pulled yet: people draw in Label Studio, then mmvm-data ingest pull")
    clips, rejects = list_subfolders(name, root, folder)
    files: dict[str, Path] = {}
    for clip in clips:
        for file in list_names(folder / clip, (".json",)):
            video = f"{clip}/{Path(file).stem}"
            if is_utf8(file):
                files[video] = folder / clip / file
            else:
                path = relative_path(root, folder / clip / file)
                rejects.append(Reject(name, printable_name(video), -1, "the file's name is not UTF-8", path))
    if not files and not rejects:
        raise InputError(folder, "no file <clip>/<shot>.json exists here")

    def load(video: str) -> Video:
        if video not in files:
            raise InputError(root, f"there is no video {printable_name(video)!r}")
        return _load_video(name, root, video, files[video])

    return Source(name, root, sorted(files), load, tuple(sorted(rejects)))


def _load_video(name: str, root: Path, video: str, file: Path) -> Video:
    try:
        record = Video.model_validate_json(read_bytes(file))
    except (ValidationError, RecursionError) as error:
        if isinstance(error, RecursionError):
            raise InputError(file, "not valid JSON: nested too deeply") from error
        details = error.errors(include_url=False)[0]
        raise InputError(file, details["msg"], ".".join(map(str, details["loc"])) or None) from error
    tracks = record.tracks or {}
    return Video.lazy(
        lru_cache(_CACHE_SIZE)(partial(_check_regions, file, record.prompt, record.frames, tracks)),
        id=video,
        source=name,
        root=root,
        frames=record.frames,
        annotated=require_two_frames(file, record.annotated),
        prompt=record.prompt,
    )


def _check_regions(
    file: Path, prompt: str, frames: tuple[Frame, ...], tracks: dict[int, tuple[Region, ...]], position: int
) -> tuple[Region, ...]:
    """Return the regions of one frame, checked against its size; those with an empty mask are dropped."""
    regions = []
    for k, region in enumerate(tracks.get(position, ())):
        field = f"tracks.{position}.{k}"
        if (region.box is None) != (prompt == "mask"):
            raise InputError(file, f"a {prompt} is expected, as in prompt", field)
        if region.mask is not None:
            size = frames[position].height, frames[position].width
            if region.mask.size != size:
                reason = f"mask is of size {region.mask.size}, its frame of {size} (height, width)"
                raise InputError(file, reason, field)
            if not masks.has_pixels(parse_counts(file, f"{field}.mask.counts", region.mask.counts, size)):
                continue
        regions.append(region)
    return tuple(regions)

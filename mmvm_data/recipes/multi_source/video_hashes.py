"""Hashes of frames spread over each video, so that two copies of a video are found whose cases show other frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mmvm_data.audit.perceptual_hash import compute_hashes
from mmvm_data.builders import Source, open_source
from mmvm_data.cases.baselines import REDUCED_SIDE
from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media, process_pool, remote
from mmvm_data.recipes.multi_source.plan import Plan
from mmvm_data.recipes.multi_source.splits import VideoKey

MAX_FRAMES = 8
"""Frames of a video that are hashed, beside those of its cases."""
_BATCH = 16  # videos that are sent to a worker together


class VideoHashes(NamedTuple):
    """A video, and the hashes of some of its frames (HASH_DTYPE, as bytes); None for a blank frame."""

    video: VideoKey
    hashes: list[bytes | None]


class _SourceRef(NamedTuple):
    """What ``open_source`` needs."""

    reader: str
    root: Path | str
    proposals: Path | None


def hash_videos(
    plan: Plan,
    videos: Sequence[VideoKey],
    cache: Path | None,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Iterator[VideoHashes]:
    """Hash frames spread evenly over each video; of a still image, the image itself instead of its views.

    Args:
        plan: of the recipe.
        videos: which ones.
        cache: folder with the indices of the sources, or None.
        workers: number of processes.
        progress: called with the number of videos that are done.

    Raises:
        UsageError: a source cannot be opened any more.
        InputError: a video cannot be loaded any more, or a worker process died. Frames that cannot be read are left
            out.
    """
    refs = {source.name: _SourceRef(source.reader, source.root, source.proposals) for source in plan.sources}
    iterator = iter(videos)
    batches = iter(lambda: list(islice(iterator, _BATCH)), [])
    done = 0
    for batch, hashed in process_pool.map_ordered(batches, _VideoHasher, (refs, cache), _hash_batch, workers):
        if isinstance(hashed, process_pool.WorkerDied):
            raise InputError(refs[batch[0].source].root, f"frames of {len(batch)} videos cannot be hashed: {hashed}")
        yield from hashed
        done += len(batch)
        if progress:
            progress(done)


class _VideoHasher:
    """Hashes videos in one process; each source is opened when its first video comes."""

    def __init__(self, refs: dict[str, _SourceRef], cache: Path | None) -> None:
        self._refs = refs
        self._cache = cache
        self._sources: dict[str, Source] = {}

    def hash_video(self, key: VideoKey) -> VideoHashes:
        if key.source not in self._sources:
            self._sources[key.source] = self._open_source(key.source)
        return VideoHashes(key, list(iter_frame_hashes(self._sources[key.source], key.video)))

    def _open_source(self, name: str) -> Source:
        reader, root, proposals = self._refs[name]
        if isinstance(root, str):
            root = remote.open_mirror(root, refresh=False)
        try:
            return open_source(reader, root, self._cache, proposals)
        except UsageError as error:
            raise UsageError(f"source {name!r} of the recipe: {error}") from error


def _hash_batch(hasher: _VideoHasher, batch: Sequence[VideoKey]) -> list[VideoHashes]:
    return [hasher.hash_video(key) for key in batch]


def iter_frame_hashes(source: Source, video_id: str) -> Iterator[bytes | None]:
    """Yield the hashes of frames spread evenly over a video, see ``VideoHashes``.

    Raises:
        InputError: the video cannot be loaded. Frames that cannot be read are left out.
    """
    if source.load_image is not None:
        root, frames = source.root, [source.load_image(video_id).frame]
    else:
        video = source.load(video_id)
        if video.is_computed:  # sheets of crops: frames of no file
            return
        count = min(MAX_FRAMES, len(video.frames))
        root = video.root
        frames = [video.frames[k * (len(video.frames) - 1) // max(1, count - 1)] for k in range(count)]
    for frame in frames:
        with suppress(InputError):  # the build has listed it among its rejects, where it needed it
            hashed = compute_hashes(media.load_reduced_frame(root, frame, REDUCED_SIDE))
            yield None if hashed is None else hashed.tobytes()

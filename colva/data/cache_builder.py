"""Fills the object cache: every object of the mixture's cases goes through expert and adapter once.

Workers read images and place them on the expert's canvas; the expert embeds them in batches. Progress is recorded
source by source along with the parts of the cache, so an interrupted build resumes, and a finished one costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from colva.data.main_process import map_in_workers
from colva.data.object_cache import ObjectCache, object_key
from colva.data.record_reader import RecordReader
from colva.data.sft import list_regions, load_clean_image
from colva.data.video_cases import VideoRecords
from colva.processing.tiling import expert_canvas
from mmvm_data.core import masks as rle_masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Frame, Region
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write
from mmvm_data.io.json_files import read_json_object

Embedder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Canvases uint8 `[i, 3, s, s]`, token masks `[n, k]` bool, each object's canvas `[n]` ascending -> `[n, d]`."""
_OBJECTS_PER_PART = 8192


_WAITING = 32
"""Canvases that wait for more objects of their image."""


@dataclass(frozen=True)
class Canvas:
    """An image with objects that are not cached yet.

    Attributes:
        image: digest of the image's file.
        pixels: uint8 `[3, s, s]`.
        token_masks: bool `[n, k]`, the expert's tokens that each object covers.
        keys: of the objects.
    """

    image: bytes
    pixels: Tensor
    token_masks: Tensor
    keys: tuple[bytes, ...]


@dataclass(frozen=True)
class CanvasSpec:
    """How images reach the expert.

    Attributes:
        side: of the canvas, in pixels.
        stride: of the expert's tokens, in pixels.
        threshold: share of a token that an object must cover.
        fill_empty: see `Geometry.token_mask`.
        published: see `expert_canvas`.
    """

    side: int
    stride: int
    threshold: float
    fill_empty: bool
    published: bool = False


def is_cache_filled(cache: ObjectCache, readers: Sequence[RecordReader]) -> bool:
    """Whether every record of every source was processed."""
    return all(_count_done(cache.folder, reader) == len(reader) for reader in _select_case_readers(readers))


def fill_object_cache(
    cache: ObjectCache,
    readers: Sequence[RecordReader],
    spec: CanvasSpec,
    embed: Embedder,
    num_workers: int,
    batch_size: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, count: None,
    objects_per_part: int = _OBJECTS_PER_PART,
) -> None:
    """Embed all objects that are not cached yet. Records that cannot be used are skipped: training reports them.

    Args:
        cache: is appended to.
        readers: the sources of the mixture; those without cases have no objects.
        spec: see `CanvasSpec`.
        embed: expert and adapter.
        num_workers: processes that read images; 0 reads in this process.
        batch_size: canvases that the expert embeds at once.
        on_progress: called now and then with the records done and the number of records of a source.
        objects_per_part: objects that are embedded before a part is written.

    Raises:
        OutputError: the cache cannot be written to.
    """
    for reader in _select_case_readers(readers):
        start = _count_done(cache.folder, reader)
        if start == len(reader):
            continue
        queue = _EmbeddingQueue()
        task = _ReadTask(reader, spec, cache)
        try:
            numbers = range(start, len(reader))
            for number, canvases in zip(numbers, map_in_workers(task, numbers, num_workers), strict=True):
                queue.add(canvases)
                queue.embed(embed, batch_size)
                if len(queue.keys) >= objects_per_part:
                    queue.embed(embed, batch_size, include_rest=True)
                    queue.flush(cache)
                    _save_progress(cache.folder, reader, number + 1)
                    on_progress(number + 1, len(reader))
            queue.embed(embed, batch_size, include_rest=True)
            queue.flush(cache)
            _save_progress(cache.folder, reader, len(reader))
            on_progress(len(reader), len(reader))
        except OSError as error:
            raise OutputError(cache.folder, error) from error


def embed_first_objects(
    readers: Sequence[RecordReader], spec: CanvasSpec, embed: Embedder, num_records: int, batch_size: int = 8
) -> Tensor:
    """Embeddings `[n, d]` of the objects in the first records of each source; see `fill_object_cache`."""
    queue = _EmbeddingQueue()
    for reader in _select_case_readers(readers):
        for number in range(min(num_records, len(reader))):
            queue.add(_ReadTask(reader, spec, None)(number))
    queue.embed(embed, batch_size, include_rest=True)
    return torch.cat(queue.rows) if queue.rows else torch.zeros(0, 1)


@dataclass
class _EmbeddingQueue:
    """Canvases that are not embedded yet, and embeddings that are not written yet.

    Cases of a video follow each other and share its frames, so a canvas waits for more of its objects: the expert is
    what takes the time.
    """

    canvases: dict[bytes, Canvas] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def add(self, canvases: Sequence[Canvas]) -> None:
        """Queue the objects that are not queued already."""
        for canvas in canvases:
            new = [k for k, key in enumerate(canvas.keys) if key not in self.seen]
            if not new:
                continue
            keys = tuple(canvas.keys[k] for k in new)
            self.seen |= set(keys)
            masks = canvas.token_masks[new]
            waiting = self.canvases.get(canvas.image)
            if waiting is not None:
                masks, keys = torch.cat([waiting.token_masks, masks]), (*waiting.keys, *keys)
            self.canvases[canvas.image] = Canvas(canvas.image, canvas.pixels, masks, keys)

    def embed(self, embed: Embedder, batch_size: int, include_rest: bool = False) -> None:
        """Embed batches of the oldest canvases beyond those that wait; with `include_rest` all of them."""
        while self.canvases and (include_rest or len(self.canvases) >= _WAITING + batch_size):
            batch = [self.canvases.pop(image) for image in list(self.canvases)[:batch_size]]
            counts = torch.tensor([len(canvas.keys) for canvas in batch])
            images = torch.repeat_interleave(torch.arange(len(batch)), counts)
            pixels = torch.stack([canvas.pixels for canvas in batch])
            embeddings = embed(pixels, torch.cat([canvas.token_masks for canvas in batch]), images)
            self.rows.append(embeddings.detach().float().cpu())
            self.keys += [key for canvas in batch for key in canvas.keys]

    def flush(self, cache: ObjectCache) -> None:
        """Write the embeddings to the cache."""
        if self.keys:
            cache.append(self.keys, torch.cat(self.rows))
        self.keys, self.rows, self.seen = [], [], set()


@dataclass(frozen=True)
class _ReadTask:
    """Reads the canvases of a record; runs in workers."""

    reader: RecordReader
    spec: CanvasSpec
    cache: ObjectCache | None

    def __call__(self, number: int) -> list[Canvas]:
        try:
            return list(self._read_canvases(number))
        except (InputError, ValueError):  # reported when training reaches the record
            return []

    def _read_canvases(self, number: int) -> Iterator[Canvas]:
        root = self.reader.root
        assert root is not None
        for frame, regions in self._list_objects(number):
            bgr, digest = load_clean_image(root, frame)
            size = (bgr.shape[0], bgr.shape[1])
            rles = [rle_masks.region_mask(region, *size) for region in regions]
            keys = [object_key(digest, rle) for rle in rles]
            missing = list(range(len(keys))) if self.cache is None else self.cache.missing(keys)
            if not missing:
                continue
            pixels, geometry = expert_canvas(
                media.bgr_to_rgb(bgr), self.spec.side, self.spec.stride, self.spec.published
            )
            bitmaps = torch.stack([torch.from_numpy(rle_masks.decode(rles[k])) for k in missing])
            token_masks = geometry.token_mask(bitmaps, self.spec.threshold, self.spec.fill_empty)
            yield Canvas(digest, pixels, token_masks, tuple(keys[k] for k in missing))

    def _list_objects(self, number: int) -> Iterable[tuple[Frame, Sequence[Region]]]:
        """The images of a record with their objects; of videos all objects that a case may show."""
        if isinstance(self.reader.records, VideoRecords):
            return self.reader.records.list_objects(number)
        case = self.reader.read_case(number)
        return [(frame, list_regions(case, position)) for position, frame in enumerate(case.frames)]


def _select_case_readers(readers: Sequence[RecordReader]) -> list[RecordReader]:
    return [reader for reader in readers if reader.has_cases]


def _progress_file(folder: Path, reader: RecordReader) -> Path:
    root = str(None if reader.root is None else reader.root.absolute())
    content = f"{reader.records.stamp} {reader.source.kind} {root}"
    digest = hashlib.blake2b(content.encode("utf-8", "surrogateescape"), digest_size=8)
    return folder / f"done-{digest.hexdigest()}.json"


def _count_done(folder: Path, reader: RecordReader) -> int:
    """Number of records of a source, from the first on, whose objects are cached."""
    try:
        count = read_json_object(_progress_file(folder, reader))["records"]
    except (InputError, KeyError):
        return 0
    return count if isinstance(count, int) and 0 <= count <= len(reader) else 0


def _save_progress(folder: Path, reader: RecordReader, records: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(_progress_file(folder, reader)) as handle:
        json.dump({"records": records}, handle)

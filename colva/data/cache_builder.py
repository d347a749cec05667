"""Fills the object cache: every object of the mixture's cases goes through expert and adapter once.

Workers read images and place them on the expert's canvas, several records at a time, so that an image of many cases is
decoded once; meanwhile the expert embeds those that were read before, in batches. Progress is recorded source by source
along with the parts of the cache, so an interrupted build resumes, and a finished one costs nothing.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from colva.data.main_process import map_in_workers
from colva.data.object_cache import ObjectCache, image_digest, object_key
from colva.data.pseudo_video import compute_token_masks
from colva.data.record_reader import RecordReader
from colva.data.sft import list_regions, load_clean_image
from colva.data.video_cases import VideoRecords
from colva.model.token_grid import Geometry
from colva.processing.tiling import expert_canvas
from mmvm_data.core import masks as rle_masks
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Frame, Region, Rle
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, safe_join
from mmvm_data.io.json_files import read_json_object

Embedder = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Canvases uint8 `[i, 3, s, s]`, token masks `[n, k]` bool, each object's canvas `[n]` ascending -> `[n, d]`."""
_OBJECTS_PER_PART = 8192
_RECORDS_PER_TASK = 8
_SENT_KEYS = 1 << 16
"""Objects that a worker remembers to have read."""
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


@dataclass(frozen=True)
class FillStats:
    """What filling a cache took.

    Attributes:
        images: canvases that the expert embedded.
        objects: objects that were added.
        seconds: from the first image to the last part.
        waiting_seconds: of these, waiting for images to be read.
    """

    images: int = 0
    objects: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0

    @property
    def images_per_second(self) -> float:
        """Images embedded a second; 0 for none."""
        return self.images / self.seconds if self.seconds else 0.0

    @property
    def waiting_share(self) -> float:
        """Share of the time, in [0, 1], in which the expert had nothing to embed."""
        return self.waiting_seconds / self.seconds if self.seconds else 0.0


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
) -> FillStats:
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
    queue, num_before = _EmbeddingQueue(), len(cache)
    started, waiting = time.perf_counter(), 0.0
    for reader in _select_case_readers(readers):
        start = _count_done(cache.folder, reader)
        if start == len(reader):
            continue
        firsts = range(start, len(reader), _RECORDS_PER_TASK)
        tasks = map_in_workers(_ReadTask(reader, spec, cache), firsts, num_workers, prefetch=1)
        try:
            for first in firsts:
                asked = time.perf_counter()
                canvases = next(tasks)
                waiting += time.perf_counter() - asked
                queue.add(canvases, cache)
                queue.embed(embed, batch_size)
                if len(queue.keys) >= objects_per_part:
                    done = min(first + _RECORDS_PER_TASK, len(reader))
                    queue.embed(embed, batch_size, include_rest=True)
                    queue.flush(cache)
                    _save_progress(cache.folder, reader, done)
                    on_progress(done, len(reader))
            queue.embed(embed, batch_size, include_rest=True)
            queue.flush(cache)
            _save_progress(cache.folder, reader, len(reader))
            on_progress(len(reader), len(reader))
        except OSError as error:
            raise OutputError(cache.folder, error) from error
    return FillStats(queue.num_images, len(cache) - num_before, time.perf_counter() - started, waiting)


def embed_first_objects(
    readers: Sequence[RecordReader], spec: CanvasSpec, embed: Embedder, num_records: int, batch_size: int = 8
) -> Tensor:
    """Embeddings `[n, d]` of the objects in the first records of each source; see `fill_object_cache`."""
    queue = _EmbeddingQueue()
    for reader in _select_case_readers(readers):
        queue.add(_ReadTask(reader, spec, None, num_records)(0))
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
    num_images: int = 0

    def add(self, canvases: Sequence[Canvas], cache: ObjectCache | None = None) -> None:
        """Queue the objects that are neither queued nor in the cache."""
        for canvas in canvases:
            missing = range(len(canvas.keys)) if cache is None else cache.missing(canvas.keys)
            new = [k for k in missing if canvas.keys[k] not in self.seen]
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
            self.num_images += len(batch)
            self.rows.append(embeddings.detach().float().cpu())
            self.keys += [key for canvas in batch for key in canvas.keys]

    def flush(self, cache: ObjectCache) -> None:
        """Write the embeddings to the cache."""
        if self.keys:
            cache.append(self.keys, torch.cat(self.rows))
        self.keys, self.rows, self.seen = [], [], set()


@dataclass
class _NewObjects:
    """The objects of an image that were not read before.

    Attributes:
        frame: the image.
        rles: their masks, by key.
        bgr: its pixels, if they had to be decoded for its digest.
    """

    frame: Frame
    rles: dict[bytes, Rle] = field(default_factory=dict)
    bgr: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class _ReadTask:
    """Reads the canvases of several records, each image once; runs in workers.

    Attributes:
        reader: of the records.
        spec: see `CanvasSpec`.
        cache: as it was when the worker started; what it holds is left out.
        num_records: of a task.
        sent: keys that this worker read already.
    """

    reader: RecordReader
    spec: CanvasSpec
    cache: ObjectCache | None
    num_records: int = _RECORDS_PER_TASK
    sent: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def __call__(self, first: int) -> list[Canvas]:
        images: dict[bytes, _NewObjects] = {}
        for number in range(first, min(first + self.num_records, len(self.reader))):
            try:
                for frame, regions in self._list_objects(number):
                    self._collect_objects(images, frame, regions)
            except (InputError, ValueError):  # reported when training reaches the record
                continue
        canvases = []
        for digest, objects in images.items():
            try:
                canvases.append(self._read_canvas(digest, objects))
            except (InputError, ValueError):
                continue
        return canvases

    def _collect_objects(self, images: dict[bytes, _NewObjects], frame: Frame, regions: Sequence[Region]) -> None:
        """Add the objects of an image that are neither cached nor read already."""
        size = (frame.height, frame.width)
        rles = [rle_masks.region_mask(region, *size) for region in regions]
        digest, bgr = self._hash_image(frame)
        keys = [object_key(digest, rle) for rle in rles]
        for k in range(len(keys)) if self.cache is None else self.cache.missing(keys):
            if keys[k] in self.sent or rles[k].size != size:
                continue
            images.setdefault(digest, _NewObjects(frame, bgr=bgr)).rles[keys[k]] = rles[k]
            self.sent[keys[k]] = None
        while len(self.sent) > _SENT_KEYS:
            self.sent.popitem(last=False)

    def _hash_image(self, frame: Frame) -> tuple[bytes, NDArray[np.uint8] | None]:
        """The digest of an image, see `load_clean_image`, and its pixels where it is no JPEG. A JPEG is not decoded."""
        root = self.reader.root
        assert root is not None
        if frame.video_frame is None:
            data = media.read_image_bytes(safe_join(root, frame.path, frame.path))
            if media.is_jpeg(data):
                return image_digest(data), None
        bgr, digest = load_clean_image(root, frame)
        return digest, bgr

    def _read_canvas(self, digest: bytes, objects: _NewObjects) -> Canvas:
        assert self.reader.root is not None
        bgr = load_clean_image(self.reader.root, objects.frame)[0] if objects.bgr is None else objects.bgr
        pixels, geometry = expert_canvas(media.bgr_to_rgb(bgr), self.spec.side, self.spec.stride, self.spec.published)
        token_masks = _mask_tokens(list(objects.rles.values()), geometry, self.spec)
        return Canvas(digest, pixels, token_masks, tuple(objects.rles))

    def _list_objects(self, number: int) -> Iterable[tuple[Frame, Sequence[Region]]]:
        """The images of a record with their objects; of videos all objects that a case may show."""
        if isinstance(self.reader.records, VideoRecords):
            return self.reader.records.list_objects(number)
        case = self.reader.read_case(number)
        return [(frame, list_regions(case, position)) for position, frame in enumerate(case.frames)]


def _mask_tokens(rles: Sequence[Rle], geometry: Geometry, spec: CanvasSpec) -> Tensor:
    """`Geometry.token_mask` of masks, from their crops where it allows that: bool `[n, tokens]`."""
    if spec.published:
        bitmaps = torch.stack([torch.from_numpy(rle_masks.decode(rle)) for rle in rles])
        return geometry.token_mask(bitmaps, spec.threshold, spec.fill_empty)
    crops = [rle_masks.crop(rle) for rle in rles]
    tokens = compute_token_masks(None, crops, geometry.size[1], geometry.grids, spec.threshold)
    if spec.fill_empty:
        for k in (~tokens.any(dim=1)).nonzero()[:, 0].tolist():
            bitmap = torch.from_numpy(rle_masks.decode(rles[k]))
            tokens[k] = geometry.token_mask(bitmap[None], spec.threshold, fill_empty=True)[0]
    return tokens


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

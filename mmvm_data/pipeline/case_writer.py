"""Decodes the frames of a video, draws the images of its cases and writes their files; where cores are free, threads do
it beside the sampling."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from mmvm_data.cases import render
from mmvm_data.cases.sampling import CaseDraft
from mmvm_data.cases.visibility import VisibleObject
from mmvm_data.core import masks, polygons
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.types import Case, Rle, Video
from mmvm_data.formats import annotation_files, tsv
from mmvm_data.formats.drawing import encode_jpeg
from mmvm_data.io import files, media

_CACHED_FRAME_BYTES = 64 << 20  # of one video
_CACHED_OUTLINES = 256  # of one video
_WAITING_IMAGES = 6  # whose outlines are known, and which are not yet written


class FrameCache:
    """The clean pixels of a video's frames and the outlines of their objects; those used last are cached.

    Args:
        video: the video.
        pool: decodes frames ahead; None: frames are decoded when they are used.
    """

    def __init__(self, video: Video, pool: ThreadPoolExecutor | None = None) -> None:
        self._video = video
        self._pool = pool
        self._ahead: dict[int, tuple[Future[media.Pixels], Callable[[], media.Pixels]]] = {}
        self._pixels: OrderedDict[int, media.Pixels] = OrderedDict()
        self._originals: dict[int, bytes] = {}
        self._reduced: dict[int, NDArray[np.uint8]] = {}
        self._outlines: OrderedDict[tuple[int, str], polygons.Outline] = OrderedDict()
        self._crops: dict[Rle, masks.MaskCrop] = {}

    def prefetch(self, positions: Iterable[int]) -> None:
        """Read the files of frames that are used next, and have them decoded beside what the caller does.

        An error of one is raised by what uses the frame. Frames of video files and computed ones are left alone.
        """
        if self._pool is None or self._video.is_computed:
            return
        for position in positions:
            frame = self._video.frames[position]
            if position in self._pixels or position in self._ahead or frame.video_frame is not None:
                continue
            try:
                path = files.safe_join(self._video.root, frame.path, frame.path)
                decode = partial(media.decode_frame, path, media.read_bytes(path), frame)
            except InputError:
                continue
            self._ahead[position] = self._pool.submit(decode), decode

    def bgr(self, position: int) -> NDArray[np.uint8]:
        """The frame at a position, uint8 [h, w, 3], BGR."""
        return self.pixels(position).bgr

    def pixels(self, position: int) -> media.Pixels:
        """The frame at a position, decoded or rendered."""
        if position in self._pixels:
            self._pixels.move_to_end(position)
            return self._pixels[position]
        pixels = self._load(position)
        while len(self._pixels) >= max(2, _CACHED_FRAME_BYTES // pixels.bgr.nbytes):
            dropped, _ = self._pixels.popitem(last=False)
            self._originals.pop(dropped, None)
            self._reduced.pop(dropped, None)
        self._pixels[position] = pixels
        return pixels

    def _load(self, position: int) -> media.Pixels:
        if position in self._ahead:
            decoded, decode = self._ahead.pop(position)
            # a thread that has not begun would have to be waited for
            return decode() if decoded.cancel() else decoded.result()
        rendered = self._video.render_frame(position)
        if rendered is None:
            return media.load_frame(self._video.root, self._video.frames[position])
        return media.Pixels(rendered, None)

    def original(self, position: int) -> bytes | None:
        """The bytes of the clean image of a frame, where they are known: of a JPEG, or once it was encoded here."""
        return self.pixels(position).jpeg or self._originals.get(position)

    def reduced(self, position: int, side: int, quality: int) -> NDArray[np.uint8]:
        """What ``media.load_reduced_frame`` returns of the clean image that is written for the frame at a position.

        Args:
            position: of the frame.
            side: minimum of the shorter side in pixels.
            quality: with which the image is encoded, where its source is no JPEG.
        """
        pixels, frame = self.pixels(position), self._video.frames[position]
        step = media.reduction_step(frame, side)
        if step == 1 and pixels.jpeg:
            return pixels.bgr
        if position not in self._reduced:
            data = self.original(position)
            if data is None:
                data = self._originals[position] = encode_jpeg(pixels.bgr, quality)
            self._reduced[position] = media.decode_reduced_jpeg(Path(frame.path), data, frame, step)
        return self._reduced[position]

    def crop(self, rle: Rle) -> masks.MaskCrop:
        """``masks.crop``, which the next call of ``outlines`` does not do again."""
        if rle not in self._crops:
            self._crops[rle] = masks.crop(rle)
        return self._crops[rle]

    def outlines(self, objects: Sequence[tuple[int, VisibleObject]]) -> list[polygons.Outline]:
        """The outlines of objects, each given with the position of its frame."""
        keys = [(position, visible.region.id) for position, visible in objects]
        missing = {
            key: visible.rle for key, (_, visible) in zip(keys, objects, strict=True) if key not in self._outlines
        }
        traced = masks.trace_outlines(list(missing.values()), self.crop)
        self._crops.clear()
        self._outlines.update(zip(missing, traced, strict=True))
        for key in keys:
            self._outlines.move_to_end(key)
        outlines = [self._outlines[key] for key in keys]
        while len(self._outlines) > _CACHED_OUTLINES:
            self._outlines.popitem(last=False)
        return outlines


class CaseWriter:
    """Writes the cases of one video. After ``finish`` all of them are on their way to disk; an exception in its block
    ends the work of its threads.

    Args:
        quality: JPEG quality of drawn images, and of originals whose source is no JPEG.
        pool: of threads that encode and write, and draw where they would idle, while the caller prepares the next
            case; None, or where too many images wait: the caller does it. What is written does not depend on it.
    """

    def __init__(self, quality: int, pool: ThreadPoolExecutor | None) -> None:
        self._quality = quality
        self._pool = pool
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.cancel()

    def finish(self) -> None:
        """Wait until all is written.

        Raises:
            OutputError: the disk is full or read-only.
        """
        while self._waiting:
            self._waiting.popleft().result()

    def cancel(self) -> None:
        """Write nothing more; the folders may be removed then."""
        for image in self._waiting:
            image.cancel()
        wait(self._waiting)
        self._waiting.clear()

    def write(self, folder: Path, case: Case, draft: CaseDraft, frames: FrameCache) -> None:
        """Draw a case and write its files into a folder, which is created if it is missing.

        Raises:
            OutputError: the disk is full or read-only; for what a thread writes, at a later call or by ``finish``.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(error.filename or folder, error) from error
        query, *candidates = frames.outlines(
            [(draft.first_position, draft.query), *((draft.last_position, seen) for seen in draft.candidates)]
        )
        contours = [candidate.contours for candidate in candidates]
        colors = [color[::-1] for color in render.distinct_colors(len(candidates) + 1)]
        marks: tuple[Callable[..., None], ...] = (
            partial(render.mark_query, contours=query.contours, color=render.COLORS["cyan"][::-1]),
            partial(
                render.mark_candidates,
                contours_of_each=contours,
                ids=range(1, len(contours) + 1),
                colors=colors,
            ),
        )
        outlines: tuple[annotation_files.Outlines, ...] = (
            [query.polygons],
            [candidate.polygons for candidate in candidates],
        )
        positions = (draft.first_position, draft.last_position)
        names = tsv.drawn_names(len(positions))
        for k, (name, position, mark) in enumerate(zip(names, positions, marks, strict=True)):
            pixels = frames.pixels(position)
            annotation = annotation_files.describe_objects(case, k, outlines[k])
            original = frames.original(position)
            if self._pool is None:
                original = original or encode_jpeg(pixels.bgr, self._quality)
                kept_pixels: list[render.SavedPatch] = []
                mark(pixels.bgr, saved=kept_pixels)
                self._write_image(folder, name, original, pixels.bgr, annotation)
                render.restore(pixels.bgr, kept_pixels)
                continue
            write = partial(self._write_image, folder, name, original or pixels.bgr)
            waiting = self._count_waiting()
            if not waiting:
                self._submit(self._draw_image, pixels.bgr, mark, write, annotation)
                continue
            # drawing is many short calls, of which each would wait for Python's lock in a thread
            drawn = pixels.bgr.copy()
            mark(drawn)
            if waiting < _WAITING_IMAGES:
                self._submit(write, drawn, annotation)
            else:
                write(drawn, annotation)

    def _submit(self, call: Callable[..., None], *arguments: object) -> None:
        assert self._pool is not None
        self._waiting.append(self._pool.submit(call, *arguments))

    def _count_waiting(self) -> int:
        """How many images the threads have yet to write."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft().result()
        return len(self._waiting)

    @staticmethod
    def _draw_image(
        clean: NDArray[np.uint8],
        mark: Callable[[NDArray[np.uint8]], None],
        write: Callable[[NDArray[np.uint8], bytes], None],
        annotation: bytes,
    ) -> None:
        """Draw on a copy, since further cases may use the frame, and write the files of the image."""
        drawn = clean.copy()
        mark(drawn)
        write(drawn, annotation)

    def _write_image(
        self, folder: Path, name: str, original: bytes | NDArray[np.uint8], drawn: NDArray[np.uint8], annotation: bytes
    ) -> None:
        """Write the three files of an image; it calls nothing that keeps state: threads run it."""
        if not isinstance(original, bytes):
            original = encode_jpeg(original, self._quality)
        coded = encode_jpeg(drawn, self._quality)
        try:
            files.write_file(f"{folder}/{name}", coded)
            files.write_file(f"{folder}/{tsv.original_name(name)}", original)
            files.write_file(f"{folder}/{tsv.annotation_name(name)}", annotation)
        except OSError as error:
            raise OutputError(error.filename or folder, error) from error

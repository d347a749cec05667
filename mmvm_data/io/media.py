"""Pixels: image files and single frames of video files, checked, and never decoded twice.

A cut file is an error here. libjpeg on its own fills the missing rows with grey and goes on, so a JPEG must also reach
its end marker. Damage inside the data that leaves the end marker in place cannot be told from content.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import remote
from mmvm_data.io.files import path_kind, safe_join
from mmvm_data.io.video_decoders import DecodeError, VideoDecoder, open_decoder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
IMAGE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for broken files (SyntaxError is its own, of the format's readers)."""

_OPEN_VIDEOS = 2
_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_SMALLER = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_JPEG = b"\xff\xd8\xff"
# a marker of JPEG's compressed data that ends it: not a stuffed zero, not a restart, not a fill byte (ITU T.81, B.1.1)
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)

_videos: OrderedDict[str, VideoDecoder] = OrderedDict()
_inherited: list[VideoDecoder] = []


class Pixels(NamedTuple):
    """One frame.

    Attributes:
        bgr: uint8 [h, w, 3], blue first, rows as they are stored (an EXIF orientation is not applied, since masks
            are drawn on the stored rows).
        jpeg: the file's bytes when the frame is a JPEG file, else None.
    """

    bgr: np.ndarray
    jpeg: bytes | None


class VideoInfo(NamedTuple):
    """Number of frames, width and height in pixels, frames a second (0.0 when the file does not say)."""

    frames: int
    width: int
    height: int
    fps: float


def load_frame(root: Path, frame: Frame) -> Pixels:
    """The pixels of a frame, and its bytes when it is a JPEG file; the file is read once and decoded once.

    Args:
        root: folder that ``frame.path`` is relative to.
        frame: an image file, or a frame of a video file.

    Raises:
        InputError: the file is missing, cut or not an image, or its size is not the frame's.
    """
    path = safe_join(root, frame.path, frame.path)
    if frame.video_frame is not None:
        bgr, jpeg = _video_frame(path, frame.video_frame), None
    else:
        data = read_bytes(path)
        is_jpeg = data.startswith(_JPEG)
        if is_jpeg and not _jpeg_is_whole(data):
            raise InputError(path, "JPEG is cut off: it ends before its end marker")
        bgr, jpeg = _decode(path, data), data if is_jpeg else None
    height, width = bgr.shape[:2]
    if (width, height) != (frame.width, frame.height):
        raise InputError(path, f"image is {width} x {height}, the frame is {frame.width} x {frame.height}")
    return Pixels(bgr, jpeg)


def load_reduced_frame(root: Path, frame: Frame, side: int) -> np.ndarray:
    """A frame at 1/8, 1/4, 1/2 or all of its size, the smallest whose shorter side has ``side`` pixels or more.

    JPEG files are decoded at that size, which skips most of the work; others lose all but every k-th row and column.

    Args:
        root: folder that ``frame.path`` is relative to.
        frame: an image file, or a frame of a video file.
        side: pixels.

    Returns:
        uint8 [ceil(h / k), ceil(w / k), 3], blue first.

    Raises:
        InputError: as ``load``.
    """
    short = min(frame.width, frame.height)
    step = next((k for k in _SMALLER if short >= k * side), 1)
    path = safe_join(root, frame.path, frame.path)
    data = read_bytes(path) if step > 1 and frame.video_frame is None else b""
    if not data.startswith(_JPEG):
        return np.ascontiguousarray(load_frame(root, frame).bgr[::step, ::step])
    if not _jpeg_is_whole(data):
        raise InputError(path, "JPEG is cut off: it ends before its end marker")
    bgr = _decode(path, data, _SMALLER[step] | cv2.IMREAD_IGNORE_ORIENTATION)
    height, width = bgr.shape[:2]
    if (height, width) != (-(-frame.height // step), -(-frame.width // step)):
        found = f"image at 1/{step} is {width} x {height}, the frame is {frame.width} x {frame.height}"
        raise InputError(path, found)
    return bgr


def read_frame_bgr(root: Path, frame: Frame) -> np.ndarray:
    """The pixels alone, uint8 [h, w, 3], blue first; see ``load``."""
    return load_frame(root, frame).bgr


def bgr_to_rgb(bgr: np.ndarray) -> np.ndarray:
    """The same pixels ``[h, w, 3]`` with red first, as an array of their own."""
    return np.ascontiguousarray(bgr[:, :, ::-1])


def read_image_rgb(path: Path) -> np.ndarray:
    """An image file by itself, RGB uint8 [h, w, 3].

    Raises:
        InputError: as in ``load``.
    """
    width, height = read_image_size(path)
    return bgr_to_rgb(read_frame_bgr(path.parent, Frame(path=path.name, index=0, width=width, height=height)))


def read_jpeg_bytes(root: Path, frame: Frame) -> bytes | None:
    """The bytes of a frame that is a JPEG file, checked as in ``load``; None for all other frames."""
    return load_frame(root, frame).jpeg


def read_image_size(path: Path) -> tuple[int, int]:
    """Width and height of an image file, from its header alone.

    Raises:
        InputError: the file is missing or not an image.
    """
    remote.ensure_local(path)
    try:
        with Image.open(path) as image:
            return image.size
    except IMAGE_ERRORS as error:
        raise InputError(path, f"not a readable image: {_reason(error)}") from error


def read_video_info(path: Path) -> VideoInfo:
    """Length, size and rate of a video file; its first frame is decoded, nothing else.

    Raises:
        InputError: the file is missing, or has no frames.
    """
    reader = _reader(path)
    height, width = _video_frame(path, 0).shape[:2]
    return VideoInfo(len(reader), width, height, reader.fps if 0 < reader.fps < 100_000 else 0.0)


def iter_small_frames(path: Path, long_side: int) -> Iterator[tuple[float | None, np.ndarray]]:
    """Every frame of a video file in order, decoded once, made small by the decoder.

    Args:
        path: video file.
        long_side: pixels of the longer side; smaller videos stay as they are.

    Yields:
        Seconds at which the frame is shown, from the first frame on (from the file's time stamps, so that a variable
        rate is followed; None when it has none), and uint8 [h, w, 3], blue first.

    Raises:
        InputError: the file cannot be opened, or one of its frames cannot be decoded.
    """
    info = read_video_info(path)
    scale = min(1.0, long_side / max(info.width, info.height))
    reader = _open(path, (max(1, round(info.width * scale)), max(1, round(info.height * scale))))
    times = _times(reader)
    for index in range(len(reader)):
        try:
            yield times[index], cv2.cvtColor(reader.decode_rgb(index), cv2.COLOR_RGB2BGR)
        except DecodeError as error:
            raise InputError(path, "frame cannot be decoded", field=f"frame {index}") from error


def _times(reader: VideoDecoder) -> list[float | None]:
    """Start of each frame; None for all when the file's time stamps do not ascend."""
    starts = reader.start_times()
    if not np.isfinite(starts).all() or (np.diff(starts) <= 0).any():
        return [None] * len(reader)
    return [round(float(start - starts[0]), 6) for start in starts]


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    remote.ensure_local(path)
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(path, f"file cannot be read: {_reason(error)}") from error


def _decode(path: Path, data: bytes, flags: int = _COLOUR) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise InputError(path, f"image cannot be decoded: {error.err or error.code}") from error
    if image is None:
        reason = "image cannot be decoded: cut off, damaged or of an unknown format" if data else "file is empty"
        raise InputError(path, reason)
    return image


def _jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG's end marker follows its compressed data; anything may lie behind it (cameras append to files)."""
    if data.endswith(b"\xff\xd9"):
        return True
    at = 2
    while found := _MARKER.search(data, at):
        marker = found.group()[1]
        if marker == 0xD9:
            return True
        # every other marker starts a segment of a stated length; a thumbnail's end marker inside it is stepped over
        at = found.end()
        if at + 2 > len(data):
            return False
        at += int.from_bytes(data[at : at + 2], "big")
    return False


def _reader(path: Path) -> VideoDecoder:
    """The decoder of a file; the two used last stay open."""
    key = str(path)
    if key in _videos:
        _videos.move_to_end(key)
        return _videos[key]
    _videos[key] = reader = _open(path)
    while len(_videos) > _OPEN_VIDEOS:
        _videos.popitem(last=False)
    return reader


def _open(path: Path, size: tuple[int, int] | None = None) -> VideoDecoder:
    if path_kind(path) != "file":
        raise InputError(path, "video file is missing")
    remote.ensure_local(path)
    return open_decoder(path, size)


def _video_frame(path: Path, index: int) -> np.ndarray:
    reader = _reader(path)
    if not 0 <= index < len(reader):
        raise InputError(path, f"there is no frame {index}, the video has {len(reader)}", field=f"frame {index}")
    try:
        rgb = reader.decode_rgb(index)
    except DecodeError as error:
        _videos.pop(str(path), None)
        raise InputError(path, "frame cannot be decoded", field=f"frame {index}") from error
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _forget_after_fork() -> None:
    """A child must not share the parent's open files, and closing them would wait for threads it does not have."""
    _inherited.extend(_videos.values())
    _videos.clear()


def _reason(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


os.register_at_fork(after_in_child=_forget_after_fork)

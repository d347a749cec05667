"""Read and check image files and single frames of video files.

A truncated file is an error. libjpeg fills missing rows with gray and continues, so a JPEG must also contain its end
marker. Damage within the data that leaves the end marker in place cannot be distinguished from content.
"""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import remote
from mmvm_data.io.files import open_regular, read_regular, safe_join
from mmvm_data.io.image_header import check_file_pixels, read_decodable_size, read_header_size
from mmvm_data.io.orientation import TIFF_STARTS, remove_orientation

if TYPE_CHECKING:
    from mmvm_data.io.video_decoders import VideoDecoder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts")

_MAX_OPEN_VIDEOS = 2
_COLOR_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
_REDUCED_FLAGS = {8: cv2.IMREAD_REDUCED_COLOR_8, 4: cv2.IMREAD_REDUCED_COLOR_4, 2: cv2.IMREAD_REDUCED_COLOR_2}
_TIFF_WIDTH, _TIFF_LENGTH = 256, 257  # numbers of tags
_JPEG_START = b"\xff\xd8\xff"
# a marker that ends JPEG's compressed data: not a stuffed zero, a restart or a fill byte (ITU T.81, B.1.1)
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)

_open_decoders: OrderedDict[str, VideoDecoder] = OrderedDict()
_inherited_decoders: list[VideoDecoder] = []


class Pixels(NamedTuple):
    """The pixels of one frame.

    Attributes:
        bgr: uint8 [h, w, 3], BGR, rows as they are stored (EXIF orientation is not applied, since masks refer to the
            stored rows).
        jpeg: bytes of the file, without its orientation tag, when the frame is a JPEG file, else None.
    """

    bgr: NDArray[np.uint8]
    jpeg: bytes | None


class VideoInfo(NamedTuple):
    """Number of frames, width and height in pixels, frames per second (0.0 when the file does not specify it)."""

    frames: int
    width: int
    height: int
    fps: float


def load_frame(root: Path, frame: Frame) -> Pixels:
    """Return the pixels of a frame, and its bytes when it is a JPEG file. The file is read and decoded once.

    Args:
        root: folder that ``frame.path`` is relative to.
        frame: an image file, or a frame of a video file.

    Raises:
        InputError: the file is missing, truncated or not an image, or its size is not the frame's.
    """
    path = safe_join(root, frame.path, frame.path)
    if frame.video_frame is None:
        return decode_frame(path, read_bytes(path), frame)
    bgr = _read_video_frame(path, frame.video_frame)
    _check_size(path, bgr, frame)
    return Pixels(bgr, None)


def decode_frame(path: Path, data: bytes, frame: Frame) -> Pixels:
    """Return what ``load_frame`` does of the content of an image file. Threads may call it.

    Args:
        path: of the file, for messages.
        data: its bytes.
        frame: what it shows.

    Raises:
        InputError: as ``load_frame``.
    """
    data, bgr = _decode_file(path, data, frame)
    return Pixels(bgr, data if is_jpeg(data) else None)


def read_image(root: Path, frame: Frame) -> tuple[bytes, NDArray[np.uint8]]:
    """Return the bytes of an image file, without its orientation tag, and its pixels, as in ``load_frame``.

    The file is read and decoded once.

    Args:
        root: folder that ``frame.path`` is relative to.
        frame: an image file, no frame of a video file.

    Raises:
        InputError: as ``load_frame``.
    """
    path = safe_join(root, frame.path, frame.path)
    return _decode_file(path, read_bytes(path), frame)


def read_checked_bytes(path: Path, size: tuple[int, int]) -> bytes:
    """Return the bytes of an image file as ``read_image`` does, with the same checks, mostly without its pixels.

    Of most JPEGs only the header and its tables are tried (see ``image_header.read_decodable_size``).

    Args:
        path: an image file.
        size: width and height that it has to have.

    Raises:
        InputError: as ``load_frame``.
    """
    data = read_bytes(path)
    if is_jpeg(data) and _is_complete_jpeg(data) and read_decodable_size(data) == size:
        check_file_pixels(path, size)
        return remove_orientation(data)
    return _decode_file(path, data, Frame(path=path.name, index=0, width=size[0], height=size[1]))[0]


def load_reduced_frame(root: Path, frame: Frame, side: int) -> NDArray[np.uint8]:
    """Return a frame at 1/8, 1/4, 1/2 or all of its size: the smallest whose shorter side has at least ``side`` pixels.

    JPEG files are decoded at that size, which skips most of the work; of others every k-th row and column is kept.

    Args:
        root: folder that ``frame.path`` is relative to.
        frame: an image file, or a frame of a video file.
        side: minimum of the shorter side in pixels.

    Returns:
        uint8 [ceil(h / k), ceil(w / k), 3], BGR.

    Raises:
        InputError: as ``load_frame``.
    """
    step = reduction_step(frame, side)
    path = safe_join(root, frame.path, frame.path)
    data = read_bytes(path) if step > 1 and frame.video_frame is None else b""
    if not is_jpeg(data):
        return np.ascontiguousarray(load_frame(root, frame).bgr[::step, ::step])
    return decode_reduced_jpeg(path, data, frame, step)


def reduction_step(frame: Frame, side: int) -> int:
    """Return the k of ``load_reduced_frame``, which returns a frame at 1/k of its size."""
    short = min(frame.width, frame.height)
    return next((k for k in _REDUCED_FLAGS if short >= k * side), 1)


def decode_reduced_jpeg(path: Path, data: bytes, frame: Frame, step: int) -> NDArray[np.uint8]:
    """Return the pixels of a JPEG file's content at 1/8, 1/4, 1/2 or all of its size.

    Args:
        path: of the file, for messages.
        data: its bytes.
        frame: what it shows.
        step: 8, 4, 2 or 1.

    Returns:
        uint8 [ceil(h / step), ceil(w / step), 3], BGR.

    Raises:
        InputError: it is truncated, or its size is not the frame's.
    """
    if not _is_complete_jpeg(data):
        raise InputError(path, "JPEG is cut off: it ends before its end marker")
    bgr = decode_image(path, data, _REDUCED_FLAGS.get(step, cv2.IMREAD_COLOR) | cv2.IMREAD_IGNORE_ORIENTATION)
    height, width = bgr.shape[:2]
    if (height, width) != (-(-frame.height // step), -(-frame.width // step)):
        sizes = f"image at 1/{step} is {width} x {height}, the frame is {frame.width} x {frame.height}"
        raise InputError(path, sizes)
    return bgr


def read_frame_bgr(root: Path, frame: Frame) -> NDArray[np.uint8]:
    """Return the pixels of a frame: uint8 [h, w, 3], BGR; see ``load_frame``."""
    return load_frame(root, frame).bgr


def bgr_to_rgb(bgr: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of ``[h, w, 3]`` pixels with red first."""
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)  # a tenth of the time of a copy by NumPy


def read_image_rgb(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image file: uint8 [h, w, 3], RGB.

    Raises:
        InputError: as ``load_frame``.
    """
    width, height = read_image_size(path)
    return bgr_to_rgb(read_frame_bgr(path.parent, Frame(path=path.name, index=0, width=width, height=height)))


def read_jpeg_bytes(root: Path, frame: Frame) -> bytes | None:
    """Return the bytes of a frame that is a JPEG file, checked as in ``load_frame``; None for all other frames."""
    return load_frame(root, frame).jpeg


def read_image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, from its header.

    Raises:
        InputError: the file is missing, not an image, or has more pixels than the limit.
    """
    from PIL import Image

    from mmvm_data.io.pillow import IMAGE_ERRORS

    remote.ensure_local(path)
    try:
        with open_regular(path) as file, Image.open(file) as image:
            size: tuple[int, int] = image.size
            if image.format == "TIFF":  # Pillow swaps the sides of those that ask for a quarter turn
                tags: Any = getattr(image, "tag_v2", {})
                size = int(tags[_TIFF_WIDTH]), int(tags[_TIFF_LENGTH])
    except IMAGE_ERRORS as error:
        raise InputError(path, f"not a readable image: {_error_text(error)}") from error
    check_file_pixels(path, size)
    return size


def read_video_info(path: Path, cache: Path | None = None) -> VideoInfo:
    """Return length, size and frame rate of a video file, from its index.

    Args:
        path: video file.
        cache: folder that keeps the index for the next process; None: no such folder.

    Raises:
        InputError: the file is missing, has no frames, or its frames cannot be numbered.
    """
    from mmvm_data.io.video_index import get_index  # what reads videos is imported where there are any
    from mmvm_data.io.video_reader import known_fps, require_video

    require_video(path)
    index = get_index(path, cache)
    check_file_pixels(path, (index.width, index.height), "video")
    return VideoInfo(len(index), index.width, index.height, known_fps(index.fps))


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        InputError: the file is missing or cannot be read.
    """
    remote.ensure_local(path)
    try:
        return read_regular(path)
    except OSError as error:
        raise InputError(path, f"file cannot be read: {_error_text(error)}") from error


def read_image_bytes(path: Path) -> bytes:
    """Return the bytes of an image file without its orientation tag, as it is copied or sent.

    Raises:
        InputError: as ``read_bytes``.
    """
    return remove_orientation(read_bytes(path))


def is_jpeg(data: bytes) -> bool:
    """Return whether the content of an image file is a JPEG."""
    return data.startswith(_JPEG_START)


def has_orientation(path: Path) -> bool:
    """Return whether an image file asks its viewers for a rotation, which its masks do not follow.

    Raises:
        InputError: as ``read_bytes``.
    """
    data = read_bytes(path)
    return remove_orientation(data) is not data


def decode_image(path: Path, data: bytes, flags: int = _COLOR_FLAGS) -> NDArray[np.uint8]:
    """Return the pixels of an image file's content: uint8 [h, w, 3], BGR.

    Raises:
        InputError: it cannot be decoded, or has more pixels than the limit; the message names ``path``.
    """
    check_file_pixels(path, read_header_size(data))
    if data.startswith(TIFF_STARTS):  # OpenCV rotates these whatever the flags, and fails
        data = remove_orientation(data)
    try:
        image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error as error:
        raise InputError(path, f"image cannot be decoded: {error.err or error.code}") from error
    if image is None:
        reason = "image cannot be decoded: cut off, damaged or of an unknown format" if data else "file is empty"
        raise InputError(path, reason)
    return np.asarray(image, np.uint8)


def _decode_file(path: Path, data: bytes, frame: Frame) -> tuple[bytes, NDArray[np.uint8]]:
    if is_jpeg(data) and not _is_complete_jpeg(data):
        raise InputError(path, "JPEG is cut off: it ends before its end marker")
    bgr = decode_image(path, data)
    _check_size(path, bgr, frame)
    return remove_orientation(data), bgr


def _check_size(path: Path, bgr: NDArray[np.uint8], frame: Frame) -> None:
    height, width = bgr.shape[:2]
    if (width, height) != (frame.width, frame.height):
        reason = f"image is {width} x {height}, the frame is {frame.width} x {frame.height}"
        if frame.video_frame is None and (height, width) == (frame.width, frame.height) and has_orientation(path):
            reason += "; its orientation tag asks for a rotation, but pixels are used as they are stored"
        raise InputError(path, reason)


def _is_complete_jpeg(data: bytes) -> bool:
    """Return whether a JPEG has its end marker after the compressed data; cameras append further data to files."""
    if data.endswith(b"\xff\xd9"):
        return True
    position = 2
    while match := _JPEG_MARKER.search(data, position):
        marker = match.group()[1]
        if marker == 0xD9:
            return True
        # every other marker starts a segment with its length; this skips the end marker of a thumbnail within it
        position = match.end()
        if position + 2 > len(data):
            return False
        position += int.from_bytes(data[position : position + 2], "big")
    return False


def _get_decoder(path: Path) -> VideoDecoder:
    """Return the decoder of a file; the two most recent ones stay open."""
    key = str(path)
    if key in _open_decoders:
        _open_decoders.move_to_end(key)
        return _open_decoders[key]
    from mmvm_data.io.video_decoders import open_decoder
    from mmvm_data.io.video_reader import require_video

    require_video(path)
    _open_decoders[key] = decoder = open_decoder(path)
    while len(_open_decoders) > _MAX_OPEN_VIDEOS:
        _open_decoders.popitem(last=False)
    return decoder


def _read_video_frame(path: Path, index: int) -> NDArray[np.uint8]:
    from mmvm_data.io.video_stream import DecodeError

    decoder = _get_decoder(path)
    if not 0 <= index < len(decoder):
        raise InputError(path, f"there is no frame {index}, the video has {len(decoder)}", field=f"frame {index}")
    try:
        rgb = decoder.decode_rgb(index)
    except DecodeError as error:
        _open_decoders.pop(str(path), None)
        raise InputError(path, "frame cannot be decoded", field=f"frame {index}") from error
    return _rgb_to_bgr(rgb)


def _rgb_to_bgr(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)


def _reset_after_fork() -> None:
    """Drop the parent's decoders in a child process without closing them, which would wait for missing threads."""
    _inherited_decoders.extend(_open_decoders.values())
    _open_decoders.clear()


def _error_text(error: Exception) -> str:
    text = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(text.split())


os.register_at_fork(after_in_child=_reset_after_fork)

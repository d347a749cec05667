"""Video files through PyAV: opening, decoding in order, checksums of decoded frames.

Frames are RGB as FFmpeg's swscale converts them, rows as they are stored: rotation metadata is not applied, since masks
refer to the stored rows.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.io.files import open_regular, path_kind

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.plane import VideoPlane
    from av.video.stream import VideoStream

_HEADER_BYTES = 1 << 20
# where MP4 and MOV, AVI and Matroska name the codec of their video
_CODEC_NAMES = (rb"vmhd.*?stsd.{12}([ -~]{4})", rb"vids.*?strf.{20}([ -~]{4})", rb"(V_[A-Z0-9][A-Z0-9/_]+)")


class DecodeError(Exception):
    """A frame cannot be decoded."""


def open_stream(path: Path) -> tuple[InputContainer, VideoStream]:
    """Open a local video file, and return the container and its first video stream with a decoder of one thread.

    Raises:
        InputError: the file cannot be opened, has no video, or its codec is unknown.
    """
    import av
    from av.error import FFmpegError

    if path_kind(path) == "other":
        raise InputError(path, "is not a regular file")
    # PyAV 19 keeps tags that are not UTF-8 by itself and has no such argument
    options: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    try:
        container = cast("InputContainer", av.open(str(path), **options))
    except (FFmpegError, OSError) as error:
        raise InputError(path, "video cannot be opened: cut off, damaged or of an unknown format") from error
    if not container.streams.video:
        raise InputError(path, "file has no video stream")
    stream = container.streams.video[0]
    if cast("Any", stream).codec_context is None:  # PyAV's types do not say that it can be
        raise InputError(path, f"video codec {_find_codec_name(path)} is unknown to the installed FFmpeg")
    # one thread: workers share the cores already, and each thread holds frames of its own
    stream.codec_context.thread_count = 1
    return container, stream


def iter_decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield the frames from the container's current position on, in presentation order.

    Packets that cannot be decoded show no frame at the start (key frame missing) and at the end (file cut off).

    Raises:
        DecodeError: packets between two frames cannot be decoded.
    """
    from av.error import FFmpegError

    has_frame = False
    failure: Exception | None = None
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                failure = error if has_frame else None
                continue
            for frame in frames:
                if failure is not None:
                    raise DecodeError(str(failure)) from failure
                has_frame = True
                yield frame
    except (FFmpegError, OSError) as error:
        raise DecodeError(str(error)) from error


def to_rgb(frame: VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Return the pixels of a decoded frame, scaled to (width, height) if ``size`` is set: uint8 [h, w, 3], RGB."""
    scaled: dict[str, Any] = {"width": size[0], "height": size[1]} if size else {}
    # one thread: PyAV keeps the converter, and a forked child would wait for threads that it does not have
    return cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24", threads=1, **scaled))


def frame_checksum(frame: VideoFrame) -> int:
    """Return a CRC-32 of the decoded pixels, without the padding of their rows."""
    components = frame.format.components
    if len(frame.planes) != len(components):  # packed or half-packed: rows are not the components' own
        return zlib.crc32(to_rgb(frame).tobytes())
    value = 0
    for plane, component in zip(frame.planes, components, strict=True):
        value = zlib.crc32(_plane_rows(plane, (component.bits + 7) // 8), value)
    return value


def _plane_rows(plane: VideoPlane, sample_bytes: int) -> bytes:
    rows = np.frombuffer(cast("Any", plane), np.uint8)[: plane.height * plane.line_size]
    return rows.reshape(plane.height, plane.line_size)[:, : plane.width * sample_bytes].tobytes()


def _find_codec_name(path: Path) -> str:
    """Return the codec's name as the file's header spells it, for a message; FFmpeg does not pass it on."""
    with open_regular(path) as file:
        head = file.read(_HEADER_BYTES)
        file.seek(max(len(head), file.seek(0, 2) - _HEADER_BYTES))
        data = head + file.read()
    for pattern in _CODEC_NAMES:
        if match := re.search(pattern, data, re.DOTALL):
            return repr(match.group(1).decode("ascii"))
    return "without a name"

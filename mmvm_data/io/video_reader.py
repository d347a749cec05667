"""Video files read in one pass from the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.io import remote
from mmvm_data.io.files import path_kind
from mmvm_data.io.read_log import note_path
from mmvm_data.io.video_stream import DecodeError, iter_decoded, open_stream, to_rgb

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_MAX_FPS = 100_000


class StreamInfo(NamedTuple):
    """Frames per second (0.0 when the file does not specify it), and the number of frames as its header states it (0
    when it does not)."""

    fps: float
    frames: int


class StreamedFrame:
    """A frame of ``iter_video_frames``; its pixels are converted on request.

    Attributes:
        index: position in presentation order.
        time: seconds after the first frame.
        width, height: pixels.
    """

    def __init__(self, index: int, time: float, frame: VideoFrame) -> None:
        self.index, self.time = index, time
        self.width, self.height = frame.width, frame.height
        self._frame = frame

    def bgr(self) -> NDArray[np.uint8]:
        """Return the pixels: uint8 [h, w, 3], BGR."""
        return _to_bgr(self._frame)

    def small_bgr(self, long_side: int) -> NDArray[np.uint8]:
        """Return the frame scaled down to at most ``long_side`` pixels on its longer side: uint8 [h, w, 3], BGR."""
        scale = min(1.0, long_side / max(self.width, self.height))
        return _to_bgr(self._frame, (max(1, round(self.width * scale)), max(1, round(self.height * scale))))


def read_stream_info(path: Path) -> StreamInfo:
    """Return what the header of a video file states.

    Raises:
        InputError: the file is missing or cannot be opened.
    """
    require_video(path)
    container, stream = open_stream(path)
    with container:
        return StreamInfo(known_fps(float(stream.average_rate or 0)), stream.frames)


def iter_video_frames(path: Path, default_fps: float) -> Iterator[StreamedFrame]:
    """Yield every frame of a video file in one pass from its start.

    Times come from the file's time stamps, so variable frame rates are supported. A frame whose time stamp is missing
    or not after the one before starts one frame's duration later.

    Args:
        path: video file.
        default_fps: frames per second of a file that does not state them.

    Raises:
        InputError: the file cannot be opened, one of its frames cannot be decoded, or their size changes.
    """
    step = 1 / (read_stream_info(path).fps or default_fps)
    container, stream = open_stream(path)
    index, start, time, size = -1, 0.0, -step, (0, 0)
    with container:
        try:
            for index, frame in enumerate(iter_decoded(container, stream)):
                if index and (frame.width, frame.height) != size:
                    reason = f"frame is {frame.width} x {frame.height}, the first one is {size[0]} x {size[1]}"
                    raise InputError(path, reason, field=f"frame {index}")
                stamp = None if frame.time is None else float(frame.time)
                if not index:
                    start, size = stamp or 0.0, (frame.width, frame.height)
                elapsed = 0.0 if stamp is None else round(stamp - start, 6)
                time = elapsed if elapsed > time else round(time + step, 6)
                yield StreamedFrame(index, time, frame)
        except DecodeError as error:
            raise InputError(path, "frame cannot be decoded", field=f"frame {index + 1}") from error
    if index < 0:
        raise InputError(path, "video has no frames")


def require_video(path: Path) -> None:
    """Fetch a video file if it is at a URL.

    Raises:
        InputError: the file is missing or cannot be fetched.
    """
    if path_kind(path) != "file":
        raise InputError(path, "video file is missing")
    remote.ensure_local(path)
    note_path(path)  # decoders open it by its name


def known_fps(fps: float) -> float:
    """Return a frame rate, or 0.0 for a value that only says that it is unknown."""
    return fps if 0 < fps < _MAX_FPS else 0.0


def _to_bgr(frame: VideoFrame, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(to_rgb(frame, size), cv2.COLOR_RGB2BGR), np.uint8)

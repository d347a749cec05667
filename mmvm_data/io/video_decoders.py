"""Decoders of video files behind one interface: decord where it is installed, PyAV elsewhere.

Both give the same frames: RGB as FFmpeg's swscale converts it, rows as they are stored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError, UsageError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

DECODER_VARIABLE = "MMVM_VIDEO_DECODER"
"""Environment variable that chooses a decoder: ``decord`` or ``pyav``."""


class VideoDecoder(Protocol):
    """Random access to the frames of one open video file."""

    fps: float
    """Average frames a second; 0.0 when the file does not say."""

    def __len__(self) -> int: ...

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        """The frame at ``index`` in 0..len-1 in presentation order: uint8 [h, w, 3], RGB.

        Raises:
            DecodeError: the frame cannot be decoded.
        """
        ...

    def start_times(self) -> NDArray[np.float64]:
        """Start of each frame in seconds, float64 [len]; NaN where the file has no time stamp."""
        ...


class DecodeError(Exception):
    """A frame cannot be decoded."""


def open_decoder(path: Path, size: tuple[int, int] | None = None) -> VideoDecoder:
    """Open a local video file.

    Args:
        path: an existing file.
        size: (width, height) in pixels that frames are scaled to; None: as they are.

    Raises:
        InputError: the file cannot be opened, or has no frames.
        UsageError: ``MMVM_VIDEO_DECODER`` names an unknown decoder or one that is not installed.
    """
    decoder = _DECODERS[_decoder_name()](path, size)
    if len(decoder) == 0:
        raise InputError(path, "video has no frames")
    return decoder


def _decoder_name() -> str:
    name = os.environ.get(DECODER_VARIABLE) or ("decord" if find_spec("decord") else "pyav")
    if name not in _DECODERS:
        raise UsageError(f"{DECODER_VARIABLE} must be {' or '.join(map(repr, _DECODERS))}, got {name!r}")
    if name == "decord" and not find_spec("decord"):
        raise UsageError(f"{DECODER_VARIABLE}=decord: decord is not installed; unset it to decode with PyAV")
    return name


class DecordDecoder:
    """decord's VideoReader; the fastest random access, for the platforms that it has wheels for."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        import decord
        from decord._ffi.base import DECORDError

        self._errors = (RuntimeError, DECORDError)
        # the decoder's remarks on damaged data would hide ours
        decord.logging.set_level(decord.logging.QUIET)
        scaled = {"width": size[0], "height": size[1]} if size else {}
        try:
            # one thread: workers share the cores already, and each thread holds frames of its own
            self._reader = decord.VideoReader(str(path), num_threads=1, **scaled)
        except self._errors as error:
            raise InputError(path, "video cannot be opened: cut off, damaged or of an unknown format") from error
        self.fps = float(self._reader.get_avg_fps()) if len(self._reader) else 0.0

    def __len__(self) -> int:
        return len(self._reader)

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        try:
            rgb = self._reader[index].asnumpy()
        except self._errors as error:
            raise DecodeError(str(error)) from error
        height, width = rgb.shape[:2]
        if rgb.shape[2] != 3:  # decord 0.6 counts the padding of short rows as channels (seen at widths up to 72)
            rgb = np.ascontiguousarray(rgb.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)
        return cast("NDArray[np.uint8]", rgb)

    def start_times(self) -> NDArray[np.float64]:
        count = len(self._reader)
        stamps = np.asarray(self._reader.get_frame_timestamp(list(range(count))), np.float64)
        return stamps.reshape(count, -1)[:, 0]


class PyAVDecoder:
    """PyAV: an index of presentation time stamps, a seek to the key frame before, then decoding forward."""

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        import av
        from av.error import FFmpegError

        self._path = path
        self._size = size
        self._error: type[Exception] = FFmpegError
        self._frames: Iterator[VideoFrame] | None = None
        self._next = 0
        try:
            self._container: InputContainer = av.open(str(path))
            if not self._container.streams.video:
                raise InputError(path, "file has no video stream")
            self._stream: VideoStream = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1
            packets = [packet for packet in self._container.demux(self._stream) if packet.size]
        except (FFmpegError, OSError) as error:
            raise InputError(path, "video cannot be opened: cut off, damaged or of an unknown format") from error
        stamps = [packet.pts for packet in packets if not packet.is_discard]
        self._count = len(stamps)
        known = sorted(stamp for stamp in stamps if stamp is not None)
        # without a time stamp for each frame, frames are counted from the start
        self._stamps = known if len(known) == self._count and len(set(known)) == self._count else None
        rate = self._stream.average_rate
        self.fps = float(rate) if rate else 0.0

    def __len__(self) -> int:
        return self._count

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        try:
            if index != self._next or self._frames is None:
                self._seek(index)
            frame = self._read(index)
        except (self._error, OSError, StopIteration) as error:
            self._frames = None
            raise DecodeError(str(error) or type(error).__name__) from error
        self._next = index + 1
        scaled: dict[str, Any] = {"width": self._size[0], "height": self._size[1]} if self._size else {}
        return cast("NDArray[np.uint8]", frame.to_ndarray(format="rgb24", **scaled))

    def start_times(self) -> NDArray[np.float64]:
        if self._stamps is None or self._stream.time_base is None:
            return np.full(self._count, np.nan)
        return np.array(self._stamps, np.float64) * float(self._stream.time_base)

    def _seek(self, index: int) -> None:
        """Stand before the frame: at the key frame before it, or at the start where frames have to be counted."""
        start = 0 if self._stamps is None else self._stamps[index]
        self._container.seek(start, stream=self._stream, backward=True)
        self._frames = self._container.decode(self._stream)
        if self._stamps is None:
            for _ in range(index):
                next(self._frames)

    def _read(self, index: int) -> VideoFrame:
        assert self._frames is not None
        if self._stamps is None:
            return next(self._frames)
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= self._stamps[index]:
                if frame.pts == self._stamps[index]:
                    return frame
                break
        raise StopIteration


_DECODERS: dict[str, type[DecordDecoder] | type[PyAVDecoder]] = {"decord": DecordDecoder, "pyav": PyAVDecoder}

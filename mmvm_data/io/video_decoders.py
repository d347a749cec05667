"""Random access to the frames of a video file: decord where its answer is proven for the file, PyAV elsewhere.

Which frame is which is decided by the file's index (``video_index``), so both give the same frames in any order of
access.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io.video_index import VideoIndex, get_index
from mmvm_data.io.video_stream import DecodeError, frame_checksum, iter_decoded, open_stream, to_rgb

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

DECODER_VARIABLE = "MMVM_VIDEO_DECODER"
"""Environment variable that chooses a decoder: ``decord`` or ``pyav``."""

_FROM_START = -1


class VideoDecoder(Protocol):
    """Random access to the frames of one open video file."""

    def __len__(self) -> int: ...

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        """The frame at ``index`` in 0..len-1 in presentation order: uint8 [h, w, 3], RGB.

        Raises:
            DecodeError: the frame cannot be decoded.
        """
        ...


def open_decoder(path: Path, cache: Path | None = None) -> VideoDecoder:
    """Open a local video file.

    Args:
        path: an existing file.
        cache: folder for the file's index; see ``get_index``.

    Raises:
        InputError: the file cannot be opened, or its frames cannot be numbered.
        UsageError: ``MMVM_VIDEO_DECODER`` names an unknown decoder or one that is not installed.
    """
    name = _decoder_name()
    index = get_index(path, cache)
    # decord applies rotation metadata, and rounds the colors of deeper samples otherwise
    if name == "decord" and not index.problem and not index.rotation and index.depth == 8:
        decoder = _open_proven_decord(path, index)
        if decoder is not None:
            return decoder
    return PyAVDecoder(path, index)


def _decoder_name() -> str:
    name = os.environ.get(DECODER_VARIABLE) or ("decord" if find_spec("decord") else "pyav")
    if name not in ("decord", "pyav"):
        raise UsageError(f"{DECODER_VARIABLE} must be 'decord' or 'pyav', got {name!r}")
    if name == "decord" and not find_spec("decord"):
        raise UsageError(f"{DECODER_VARIABLE}=decord: decord is not installed; unset it to decode with PyAV")
    return name


def _open_proven_decord(path: Path, index: VideoIndex) -> VideoDecoder | None:
    """Return decord for a file that it reads as the index does; None for another, or one that it cannot open."""
    try:
        decoder = DecordDecoder(path)
    except InputError:
        return None
    return FallbackDecoder(path, index, decoder) if decoder.agrees_with(index) else None


class FallbackDecoder:
    """decord until it fails, and PyAV from then on: decord reads ahead, so one bad frame makes others fail as well."""

    def __init__(self, path: Path, index: VideoIndex, decoder: DecordDecoder) -> None:
        self._path, self._index = path, index
        self.current: VideoDecoder = decoder

    def __len__(self) -> int:
        return len(self._index)

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        if isinstance(self.current, DecordDecoder):
            try:
                return self.current.decode_rgb(index)
            except DecodeError:
                self.current = PyAVDecoder(self._path, self._index)
        return self.current.decode_rgb(index)


class DecordDecoder:
    """decord's VideoReader; the fastest random access, for the platforms that it has wheels for.

    It counts frames from a key frame on, in the order of the packets. That is right where every key frame is closed,
    which the index knows, and where decord has found the same frames, which ``agrees_with`` compares.
    """

    def __init__(self, path: Path) -> None:
        import decord
        from decord._ffi.base import DECORDError

        self._errors = (RuntimeError, DECORDError)
        # the decoder's remarks on damaged data would hide ours
        decord.logging.set_level(decord.logging.QUIET)
        try:
            # one thread: workers share the cores already, and each thread holds frames of its own
            self._reader = decord.VideoReader(str(path), num_threads=1)
        except self._errors as error:
            raise InputError(path, "video cannot be opened: cut off, damaged or of an unknown format") from error

    def __len__(self) -> int:
        return len(self._reader)

    def agrees_with(self, index: VideoIndex) -> bool:
        """Return whether number and time stamps of the frames are those of the index."""
        if len(self) != len(index):
            return False
        starts = np.asarray(self._reader.get_frame_timestamp(np.arange(len(self))), np.float64)
        starts = starts.reshape(len(self), -1)[:, 0]
        expected = index.timestamps * index.time_base
        expected = expected - expected[0]
        shortest = np.diff(expected).min(initial=1.0)
        # decord's time stamps are float32
        return bool((np.abs(starts - starts[0] - expected) <= shortest / 4 + 1e-6 * expected).all())

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        try:
            rgb = self._reader[index].asnumpy()
        except self._errors as error:
            raise DecodeError(str(error)) from error
        height, width = rgb.shape[:2]
        if rgb.shape[2] != 3:  # decord 0.6 counts the padding of short rows as channels (seen at widths up to 72)
            rgb = np.ascontiguousarray(rgb.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)
        return cast("NDArray[np.uint8]", rgb)


class PyAVDecoder:
    """PyAV: a seek to the key frame before, then decoding up to the frame's time stamp.

    Where the index has checksums and the decoded frame does not have the one of the index, decoding starts at earlier
    key frames, in the end at the start of the file.
    """

    def __init__(self, path: Path, index: VideoIndex | None = None) -> None:
        self._path = path
        self._index = get_index(path) if index is None else index
        self._frames: Iterator[VideoFrame] | None = None
        self._next = 0
        self._container: InputContainer
        self._stream: VideoStream
        self._container, self._stream = open_stream(path)

    def __len__(self) -> int:
        return len(self._index)

    def decode_rgb(self, index: int) -> NDArray[np.uint8]:
        cause: DecodeError | None = None
        if self._can_continue(index):
            try:
                if (frame := self._advance_to(index)) is not None:
                    return to_rgb(frame)
            except DecodeError as error:
                cause = error
        for key in self._entry_keys(index):
            try:
                self._enter(key)
                if (frame := self._advance_to(index)) is not None:
                    return to_rgb(frame)
            except DecodeError as error:
                cause = error
        raise DecodeError(str(cause) if cause else "the file does not show it") from cause

    def _can_continue(self, index: int) -> bool:
        """Return whether the next frames of the decoder lead to the frame at least as fast as a seek does."""
        if self._frames is None or index < self._next:
            return False
        if index == self._next or not len(self._index.keys):
            return True
        return self._index.key_position(index) == self._index.key_position(self._next)

    def _entry_keys(self, index: int) -> list[int]:
        """Return the positions in the index's keys to decode from, in the order of trying."""
        key = self._index.key_position(index) if len(self._index.keys) else _FROM_START
        return [*(k for k in (key, key - 1) if k >= 0), _FROM_START]

    def _enter(self, key: int) -> None:
        from av.error import FFmpegError

        self._frames, self._next = None, 0
        try:
            if key == _FROM_START:
                self._container.close()
                self._container, self._stream = open_stream(self._path)
            else:
                self._container.seek(int(self._index.keys[key, 1]), stream=self._stream, backward=True)
        except (FFmpegError, OSError, InputError) as error:
            raise DecodeError(str(error)) from error
        self._frames = iter_decoded(self._container, self._stream)

    def _advance_to(self, index: int) -> VideoFrame | None:
        """Return the frame, and stand behind it; None when what is decoded is not the frame of the index."""
        frames, self._frames = self._frames, None
        assert frames is not None
        frame = self._find_counted(frames, index) if not len(self._index.keys) else self._find_stamped(frames, index)
        checksums = self._index.checksums
        if frame is None or (len(checksums) and frame_checksum(frame) != checksums[index]):
            return None
        self._frames, self._next = frames, index + 1
        return frame

    def _find_counted(self, frames: Iterator[VideoFrame], index: int) -> VideoFrame | None:
        for position, frame in enumerate(frames, start=self._next):
            if position == index:
                return frame
        return None

    def _find_stamped(self, frames: Iterator[VideoFrame], index: int) -> VideoFrame | None:
        target = int(self._index.timestamps[index])
        for frame in frames:
            if frame.pts is not None and frame.pts >= target:
                return frame if frame.pts == target else None
        return None

"""A clip -> shots, and of each shot the frames that differ enough to be worth drawing on.

Shots end where PySceneDetect's AdaptiveDetector finds a cut: a frame that differs from the one before by at least 15
(mean of hue, saturation and value) and at least ``threshold`` times as much as the four frames around it do, so that
a fast pan is not a cut. Of a shot the first frame is picked, then each frame in which at least ``min_change`` of the
pixels differ from the frame picked last: by more than 25 of 255 gray levels, at 256 pixels on the longer side, after
a 5 x 5 blur against noise. Of more than ``max_frames`` frames, that many evenly spaced ones remain, the first and the
last among them.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmvm_data.annotation.tracks.layout import FRAMES, Clip, Shot, SkippedShot, clip_path, read_clip
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Frame
from mmvm_data.io.files import atomic_write, file_sha256, fsync_path, is_utf8, printable_name, real_path
from mmvm_data.io.folder_lock import lock_folder
from mmvm_data.io.video_reader import StreamedFrame, iter_video_frames, read_stream_info

_ANALYSIS_SIZE: Final = 256  # pixels on the longer side
_GRAY_LEVELS: Final = 25
_MIN_CUT_DISTANCE: Final = 0.25  # seconds between two cuts; closer ones are one flash
_DEFAULT_FPS: Final = 30.0  # of a file that states none


@options
class CutOptions:
    """How clips are cut.

    Attributes:
        threshold: how many times as much as its neighbors a frame differs at a cut; a lower one cuts more.
        min_shot: seconds; shorter shots are left out.
        min_change: share of pixels that differ from the frame picked last.
        min_step: seconds between two picked frames, at least.
        max_frames: of a shot.
        quality: of the JPEGs.
    """

    threshold: Annotated[float, Field(gt=1)] = 3.0
    min_shot: Annotated[float, Field(ge=0)] = 1.0
    min_change: Annotated[float, Field(ge=0, le=1)] = 0.1
    min_step: Annotated[float, Field(ge=0)] = 0.25
    max_frames: Annotated[int, Field(ge=2)] = 16
    quality: Annotated[int, Field(ge=1, le=100)] = 95


@dataclass
class CutResult:
    """What cutting did.

    Attributes:
        clips: those that are in the folder now, in the order in which they were given.
        unchanged: how many of them were there before.
        problems: clip, and why it was left out.
    """

    clips: list[Clip] = field(default_factory=list)
    unchanged: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def cut_clips(
    clips: Sequence[Path],
    directory: Path,
    options: CutOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> CutResult:
    """Cut clips and write their frames; a clip that was cut before with these options is left as it is.

    The record of a clip is written last, so that a call that was killed cuts it again. The same clip with the same
    options gives the same bytes.

    Args:
        clips: video files.
        directory: where ``clips/<name>.json`` and ``frames/<name>/shot000/<number>.jpg`` go; created when missing.
        options: how.
        progress: called with (name of the clip, frames read, frames in all).

    Raises:
        UsageError: another process is cutting into ``directory``.
        OutputError: ``directory`` cannot be written.
    """
    options = options or CutOptions()
    result = CutResult()
    paths: dict[str, Path] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(error.filename or directory, error) from error
    with lock_folder(directory, "mmvm-data ingest cut", wait_seconds=0):
        for path in clips:
            try:
                name = _clip_name(path)
                if real_path(paths.setdefault(name, path)) != real_path(path):
                    raise InputError(path, f"{paths[name]} has the same name; rename one")
                clip, is_new = _cut_clip(path, name, directory, options, progress)
            except InputError as error:
                result.problems.append((printable_name(path), str(error)))
                continue
            except OSError as error:
                raise OutputError(error.filename or directory, error) from error
            result.clips.append(clip)
            result.unchanged += not is_new
    return result


def _clip_name(path: Path) -> str:
    if not is_utf8(path.name):
        raise InputError(printable_name(path), "the file's name is not UTF-8")
    if path.stem.startswith("."):
        raise InputError(path, "hidden files are not cut; rename it")
    return path.stem


def _cut_clip(
    path: Path,
    name: str,
    directory: Path,
    options: CutOptions,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Clip, bool]:
    """The record of a clip, and whether it was cut by this call."""
    info = read_stream_info(path)
    digest = file_sha256(path).hex()
    record = clip_path(directory, name)
    if record.exists():
        earlier = read_clip(record)
        if earlier.sha256 != digest:
            raise InputError(path, f"another clip of this name was cut into {directory} before; rename it")
        if earlier.options != asdict(options):
            raise InputError(path, f"was cut with other options before ({record}); choose another output folder")
        return earlier, False
    fps = info.fps or _DEFAULT_FPS

    def frames() -> Iterator[StreamedFrame]:
        for frame in iter_video_frames(path, _DEFAULT_FPS):
            yield frame
            if progress:
                progress(name, frame.index + 1, max(info.frames, frame.index + 1))

    final = directory / FRAMES / name
    staging = final.with_name(f".{name}.partial")
    for leftover in (final, staging):  # of a call that was stopped
        if leftover.exists():
            shutil.rmtree(leftover)
    try:
        writer = _FrameWriter(path, staging, options)
        shots: list[Shot] = []
        skipped: list[SkippedShot] = []
        for shot in _detect_shots(frames(), fps, options, writer):
            seconds = shot.end - shot.start + 1 / fps
            if seconds < options.min_shot:
                skipped.append(SkippedShot(first=shot.first, last=shot.last, reason=f"lasts {seconds:.2f} s"))
                writer.discard(shot.picked)
            elif len(shot.picked) < 2:
                skipped.append(SkippedShot(first=shot.first, last=shot.last, reason="nothing changes enough"))
                writer.discard(shot.picked)
            else:
                folder = f"shot{len(shots):03d}"
                writer.keep(shot.picked, folder)
                kept = tuple(
                    Frame(
                        path=f"{FRAMES}/{name}/{folder}/{frame.number:06d}.jpg",
                        index=frame.number,
                        width=frame.width,
                        height=frame.height,
                        time=frame.time,
                    )
                    for frame in shot.picked
                )
                shots.append(Shot(first=shot.first, last=shot.last, frames=kept))
        if shot.last == 0:
            raise InputError(path, "the clip has one frame; two are needed")
        if shots:
            os.replace(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    clip = Clip(name=name, sha256=digest, options=asdict(options), shots=tuple(shots), left_out=tuple(skipped))
    record.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(record) as out:
        out.write(clip.model_dump_json(indent=1) + "\n")
    return clip, True


class _PickedFrame(NamedTuple):
    """A frame whose picture the writer holds."""

    number: int
    time: float
    width: int
    height: int


class _DetectedShot(NamedTuple):
    """Numbers and times in seconds of the first and the last frame, and the frames that are picked of it."""

    first: int
    last: int
    start: float
    end: float
    picked: list[_PickedFrame]


class _FrameWriter:
    """Writes frames as they are picked, since a clip is read once, and sorts them into shots later.

    ``staging`` holds the frames of the current shot, and a folder for each earlier one.
    """

    def __init__(self, path: Path, staging: Path, options: CutOptions) -> None:
        self._path, self._staging, self._quality = path, staging, options.quality
        staging.mkdir(parents=True)

    def add(self, frame: StreamedFrame) -> _PickedFrame:
        """Write a frame."""
        is_encoded, data = cv2.imencode(".jpg", frame.bgr(), [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not is_encoded:
            raise InputError(self._path, "frame cannot be written as JPEG", field=f"frame {frame.index}")
        self._file(frame.index).write_bytes(data.tobytes())
        return _PickedFrame(frame.index, frame.time, frame.width, frame.height)

    def discard(self, frames: Iterable[_PickedFrame]) -> None:
        """Delete frames of the current shot."""
        for frame in frames:
            self._file(frame.number).unlink()

    def keep(self, frames: Iterable[_PickedFrame], folder: str) -> None:
        """Move frames of the current shot to the shot's folder."""
        (self._staging / folder).mkdir()
        for frame in frames:
            fsync_path(self._file(frame.number))
            os.replace(self._file(frame.number), self._staging / folder / self._file(frame.number).name)

    def _file(self, number: int) -> Path:
        return self._staging / f"{number:06d}.jpg"


def _detect_shots(
    frames: Iterable[StreamedFrame], fps: float, options: CutOptions, writer: _FrameWriter
) -> Iterator[_DetectedShot]:
    """Yield the shots of a clip.

    Args:
        frames: every frame of the clip, in order; at least one.
        fps: frames a second, for the detector.
        options: how.
        writer: takes the picked frames.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=options.threshold, min_scene_len=max(1, round(_MIN_CUT_DISTANCE * fps)), luma_only=False
    )
    cuts: set[int] = set()
    waiting: deque[tuple[StreamedFrame, NDArray[np.uint8]]] = deque()  # the detector finds a cut some frames later
    picker = _FramePicker(options, writer)
    first = last = (0, 0.0)

    def finish_shot() -> _DetectedShot:
        return _DetectedShot(first[0], last[0], first[1], last[1], picker.finish_shot())

    def advance() -> Iterator[_DetectedShot]:
        nonlocal first, last
        frame, gray = waiting.popleft()
        if frame.index in cuts:
            yield finish_shot()
            first = (frame.index, frame.time)
        picker.add_frame(frame, gray)
        last = (frame.index, frame.time)

    for frame in frames:
        small = frame.small_bgr(_ANALYSIS_SIZE)
        cuts.update(cut.frame_num for cut in detector.process_frame(FrameTimecode(frame.index, fps), small))
        gray = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (5, 5), 0)
        waiting.append((frame, gray.astype(np.uint8, copy=False)))
        if len(waiting) > detector.event_buffer_length:
            yield from advance()
    while waiting:
        yield from advance()
    yield finish_shot()


class _FramePicker:
    """Picks frames of one shot after the other."""

    def __init__(self, options: CutOptions, writer: _FrameWriter) -> None:
        self._options = options
        self._writer = writer
        self._picked: list[_PickedFrame] = []
        self._time = 0.0
        self._gray: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def add_frame(self, frame: StreamedFrame, gray: NDArray[np.uint8]) -> None:
        """Pick a frame if it differs enough from the one picked last."""
        if self._picked and (
            frame.time - self._time < self._options.min_step - 1e-9
            or np.mean(cv2.absdiff(gray, self._gray) > _GRAY_LEVELS) < self._options.min_change
        ):
            return
        self._picked.append(self._writer.add(frame))
        self._time, self._gray = frame.time, gray

    def finish_shot(self) -> list[_PickedFrame]:
        """Return the frames that were picked since the last call, thinned to ``max_frames``."""
        picked, self._picked = self._picked, []
        limit = self._options.max_frames
        if len(picked) > limit:
            kept = {round(k * (len(picked) - 1) / (limit - 1)) for k in range(limit)}
            self._writer.discard(frame for k, frame in enumerate(picked) if k not in kept)
            picked = [frame for k, frame in enumerate(picked) if k in kept]
        return picked

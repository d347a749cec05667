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
from typing import Annotated, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mmvm_data.annotation.tracks.layout import FRAMES, Clip, Shot, SkippedShot, clip_path, read_clip
from mmvm_data.core.errors import InputError, OutputError
from mmvm_data.core.options import options
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, file_sha256, is_utf8, printable_name

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
        OutputError: ``directory`` cannot be written.
    """
    options = options or CutOptions()
    result = CutResult()
    paths: dict[str, Path] = {}
    for path in clips:
        try:
            name = _clip_name(path)
            if paths.setdefault(name, path).resolve() != path.resolve():
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
    info = media.read_video_info(path)
    digest = file_sha256(path).hex()
    record = clip_path(directory, name)
    if record.exists():
        earlier = read_clip(record)
        if earlier.sha256 != digest:
            raise InputError(path, f"another clip of this name was cut into {directory} before; rename it")
        if earlier.options != asdict(options):
            raise InputError(path, f"was cut with other options before ({record}); choose another output folder")
        return earlier, False
    if info.frames < 2:
        raise InputError(path, "the clip has one frame; two are needed")
    fps = info.fps or _DEFAULT_FPS
    shots: list[Shot] = []
    skipped: list[SkippedShot] = []
    times: list[float] = []

    def timed_frames() -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
        for number, (time, small) in enumerate(media.iter_small_frames(path, _ANALYSIS_SIZE)):
            times.append(number / fps if time is None else time)
            yield number, times[-1], small
            if progress:
                progress(name, number + 1, info.frames)

    for first, last, picked in _detect_shots(timed_frames(), fps, options):
        seconds = times[last] - times[first] + 1 / fps
        if seconds < options.min_shot:
            skipped.append(SkippedShot(first=first, last=last, reason=f"lasts {seconds:.2f} s"))
        elif len(picked) < 2:
            skipped.append(SkippedShot(first=first, last=last, reason="nothing changes enough"))
        else:
            folder = f"{FRAMES}/{name}/shot{len(shots):03d}"
            frames = tuple(
                Frame(path=f"{folder}/{n:06d}.jpg", index=n, width=info.width, height=info.height, time=times[n])
                for n in picked
            )
            shots.append(Shot(first=first, last=last, frames=frames))
    clip = Clip(name=name, sha256=digest, options=asdict(options), shots=tuple(shots), left_out=tuple(skipped))
    _write_clip(path, clip, directory, options.quality)
    return clip, True


def _detect_shots(
    frames: Iterable[tuple[int, float, NDArray[np.uint8]]], fps: float, options: CutOptions
) -> Iterator[tuple[int, int, list[int]]]:
    """First and last frame of each shot, and the frames that are picked of it.

    Args:
        frames: number, time in seconds and small picture (blue first) of every frame of a clip.
        fps: frames a second, for the detector.
        options: how.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=options.threshold, min_scene_len=max(1, round(_MIN_CUT_DISTANCE * fps)), luma_only=False
    )
    cuts: set[int] = set()
    waiting: deque[tuple[int, float, NDArray[np.uint8]]] = deque()  # the detector finds a cut some frames later
    picker = _FramePicker(options)
    first = last = 0

    def advance() -> Iterator[tuple[int, int, list[int]]]:
        nonlocal first, last
        number, time, gray = waiting.popleft()
        if number in cuts:
            yield first, last, picker.finish_shot()
            first = number
        picker.add_frame(number, time, gray)
        last = number

    for number, time, small in frames:
        cuts.update(cut.frame_num for cut in detector.process_frame(FrameTimecode(number, fps), small))
        gray = cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (5, 5), 0)
        waiting.append((number, time, gray.astype(np.uint8, copy=False)))
        if len(waiting) > detector.event_buffer_length:
            yield from advance()
    while waiting:
        yield from advance()
    yield first, last, picker.finish_shot()


class _FramePicker:
    """Picks frames of one shot after the other."""

    def __init__(self, options: CutOptions) -> None:
        self._options = options
        self._picked: list[int] = []
        self._time = 0.0
        self._gray: NDArray[np.uint8] = np.zeros(0, np.uint8)

    def add_frame(self, number: int, time: float, gray: NDArray[np.uint8]) -> None:
        """Pick a frame if it differs enough from the one picked last."""
        if self._picked and (
            time - self._time < self._options.min_step - 1e-9
            or np.mean(cv2.absdiff(gray, self._gray) > _GRAY_LEVELS) < self._options.min_change
        ):
            return
        self._picked.append(number)
        self._time, self._gray = time, gray

    def finish_shot(self) -> list[int]:
        """The frames that were picked since the last call, thinned to ``max_frames``."""
        picked, self._picked = self._picked, []
        limit = self._options.max_frames
        if len(picked) > limit:
            picked = [picked[round(k * (len(picked) - 1) / (limit - 1))] for k in range(limit)]
        return picked


def _write_clip(path: Path, clip: Clip, directory: Path, quality: int) -> None:
    """Write the frames, then the record."""
    folder = directory / FRAMES / clip.name
    if folder.exists():  # left by a call that was stopped
        shutil.rmtree(folder)
    for shot in clip.shots:
        os.makedirs((directory / shot.frames[0].path).parent)
        for frame in shot.frames:
            source = Frame(
                path=path.name, index=frame.index, width=frame.width, height=frame.height, video_frame=frame.index
            )
            pixels = media.read_frame_bgr(path.parent, source)
            is_encoded, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not is_encoded:
                raise InputError(path, "frame cannot be written as JPEG", field=f"frame {frame.index}")
            with atomic_write(directory / frame.path, "wb") as out:
                out.write(data.tobytes())
    record = clip_path(directory, clip.name)
    record.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(record) as out:
        out.write(clip.model_dump_json(indent=1) + "\n")

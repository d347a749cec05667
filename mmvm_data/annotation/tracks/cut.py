"""A clip -> shots, and of each shot the frames that differ enough to be worth drawing on.

Shots end where PySceneDetect's AdaptiveDetector sees a cut: a frame that differs from the one before by at least 15
(mean of hue, saturation and value) and at least ``threshold`` times as much as the four frames around it do,
so that a fast pan is no cut. In a shot the first frame is taken, then each frame in which at least ``min_change`` of
the pixels differ from the frame taken last: by more than 25 of 255 grey levels, at 256 pixels on the longer side,
blurred over 5 x 5 pixels against noise. Of more than ``max_frames``, so many evenly spaced ones stay, the first and
the last among them.
"""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from mmvm_data.annotation.tracks.layout import FRAMES, Clip, LeftOut, Shot, clip_file, read_clip
from mmvm_data.core.errors import InputError, OutputError, UsageError
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write, file_sha256, is_utf8, printable_name

_SMALL: Final = 256
_LEVELS: Final = 25
_LEAST_CUT: Final = 0.25  # seconds between two cuts; closer ones are one flash
_USUAL_RATE: Final = 30.0  # of a file that states none


@dataclass(frozen=True)
class CutOptions:
    """How clips are cut.

    Attributes:
        threshold: how many times as much as its neighbours a frame differs at a cut, above 1; a lower one cuts more.
        min_shot: seconds; shorter shots are left out.
        min_change: share of pixels that differ from the frame taken last, 0..1.
        min_step: seconds between two frames that are taken, at least.
        max_frames: of a shot, 2 or more.
        quality: of the JPEGs, 1..100.
    """

    threshold: float = 3.0
    min_shot: float = 1.0
    min_change: float = 0.1
    min_step: float = 0.25
    max_frames: int = 16
    quality: int = 95

    def __post_init__(self) -> None:
        for name, good, wanted in (
            ("threshold", self.threshold > 1, "above 1"),
            ("min_shot", self.min_shot >= 0, "0 or more"),
            ("min_change", 0 <= self.min_change <= 1, "0 to 1"),
            ("min_step", self.min_step >= 0, "0 or more"),
            ("max_frames", self.max_frames >= 2, "2 or more"),
            ("quality", 1 <= self.quality <= 100, "1 to 100"),
        ):
            if not good:
                raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: expected {wanted}")


@dataclass
class Cut:
    """What cutting did.

    Attributes:
        clips: those that are there now, in the order they were given.
        same: how many of them were there before.
        problems: clip, and why it was left out.
    """

    clips: list[Clip] = field(default_factory=list)
    same: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def cut(
    clips: Sequence[Path],
    directory: Path,
    options: CutOptions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Cut:
    """Cut clips and write their frames; one that was cut before with these options is left as it is.

    The record of a clip is written last, so that a call that was killed is repeated. The same clip with the same
    options gives the same bytes.

    Args:
        clips: video files.
        directory: where ``clips/<name>.json`` and ``frames/<name>/shot000/<number>.jpg`` go; made when missing.
        options: how.
        progress: called with (name of the clip, frames seen, frames in all).

    Raises:
        OutputError: ``directory`` cannot be written.
    """
    options = options or CutOptions()
    result = Cut()
    seen: dict[str, Path] = {}
    for path in clips:
        try:
            name = _name(path)
            if seen.setdefault(name, path).resolve() != path.resolve():
                raise InputError(path, f"{seen[name]} has the same name; rename one")
            clip, made = _one(path, name, directory, options, progress)
        except InputError as error:
            result.problems.append((printable_name(path), str(error)))
            continue
        except OSError as error:
            raise OutputError(error.filename or directory, error) from error
        result.clips.append(clip)
        result.same += not made
    return result


def _name(path: Path) -> str:
    if not is_utf8(path.name):
        raise InputError(printable_name(path), "the file's name is not UTF-8")
    if path.stem.startswith("."):
        raise InputError(path, "hidden files are no clips; rename it")
    return path.stem


def _one(
    path: Path,
    name: str,
    directory: Path,
    options: CutOptions,
    progress: Callable[[str, int, int], None] | None,
) -> tuple[Clip, bool]:
    """The record of a clip, and whether it was made now."""
    info = media.read_video_info(path)
    digest = file_sha256(path).hex()
    record = clip_file(directory, name)
    if record.exists():
        there = read_clip(record)
        if there.sha256 != digest:
            raise InputError(path, f"another clip of this name was cut into {directory} before; rename it")
        if there.options != asdict(options):
            raise InputError(path, f"was cut with other options before ({record}); give another --out")
        return there, False
    if info.frames < 2:
        raise InputError(path, "the clip has one frame; two are needed")
    rate = info.fps or _USUAL_RATE
    seen = ((number, time, small) for number, (time, small) in enumerate(media.iter_small_frames(path, _SMALL)))
    shots: list[Shot] = []
    left_out: list[LeftOut] = []
    times: list[float] = []

    def told() -> Iterable[tuple[int, float, np.ndarray]]:
        for number, time, small in seen:
            times.append(number / rate if time is None else time)
            yield number, times[-1], small
            if progress:
                progress(name, number + 1, info.frames)

    for first, last, picked in _shots(told(), rate, options):
        seconds = times[last] - times[first] + 1 / rate
        if seconds < options.min_shot:
            left_out.append(LeftOut(first=first, last=last, reason=f"lasts {seconds:.2f} s"))
        elif len(picked) < 2:
            left_out.append(LeftOut(first=first, last=last, reason="nothing changes enough"))
        else:
            where = f"{FRAMES}/{name}/shot{len(shots):03d}"
            frames = tuple(
                Frame(path=f"{where}/{n:06d}.jpg", index=n, width=info.width, height=info.height, time=times[n])
                for n in picked
            )
            shots.append(Shot(first=first, last=last, frames=frames))
    clip = Clip(name=name, sha256=digest, options=asdict(options), shots=tuple(shots), left_out=tuple(left_out))
    _write(path, clip, directory, options.quality)
    return clip, True


def _shots(
    frames: Iterable[tuple[int, float, np.ndarray]], rate: float, options: CutOptions
) -> Iterable[tuple[int, int, list[int]]]:
    """First and last frame of each shot, and the frames that are taken of it."""
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=options.threshold, min_scene_len=max(1, round(_LEAST_CUT * rate)), luma_only=False
    )
    cuts: set[int] = set()
    waiting: deque[tuple[int, float, np.ndarray]] = deque()  # a cut is told some frames late
    picker = _Picker(options)
    first = last = 0

    def take() -> Iterable[tuple[int, int, list[int]]]:
        nonlocal first, last
        number, time, grey = waiting.popleft()
        if number in cuts:
            yield first, last, picker.end()
            first = number
        picker.see(number, time, grey)
        last = number

    for number, time, small in frames:
        cuts.update(found.frame_num for found in detector.process_frame(FrameTimecode(number, rate), small))
        waiting.append((number, time, cv2.GaussianBlur(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), (5, 5), 0)))
        if len(waiting) > detector.event_buffer_length:
            yield from take()
    while waiting:
        yield from take()
    yield first, last, picker.end()


class _Picker:
    """Takes frames of one shot after the other."""

    def __init__(self, options: CutOptions) -> None:
        self._options = options
        self._taken: list[int] = []
        self._time, self._grey = 0.0, np.zeros(0, np.uint8)

    def see(self, number: int, time: float, grey: np.ndarray) -> None:
        if self._taken and (
            time - self._time < self._options.min_step - 1e-9
            or np.mean(cv2.absdiff(grey, self._grey) > _LEVELS) < self._options.min_change
        ):
            return
        self._taken.append(number)
        self._time, self._grey = time, grey

    def end(self) -> list[int]:
        taken, self._taken = self._taken, []
        most = self._options.max_frames
        if len(taken) > most:
            taken = [taken[round(k * (len(taken) - 1) / (most - 1))] for k in range(most)]
        return taken


def _write(path: Path, clip: Clip, directory: Path, quality: int) -> None:
    """The frames, then the record."""
    place = directory / FRAMES / clip.name
    if place.exists():  # left by a call that was stopped
        shutil.rmtree(place)
    for shot in clip.shots:
        os.makedirs((directory / shot.frames[0].path).parent)
        for frame in shot.frames:
            there = Frame(
                path=path.name, index=frame.index, width=frame.width, height=frame.height, video_frame=frame.index
            )
            pixels = media.read_frame_bgr(path.parent, there)
            done, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not done:
                raise InputError(path, "frame cannot be written as JPEG", field=f"frame {frame.index}")
            with atomic_write(directory / frame.path, "wb") as out:
                out.write(data.tobytes())
    record = clip_file(directory, clip.name)
    record.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(record) as out:
        out.write(clip.model_dump_json(indent=1) + "\n")

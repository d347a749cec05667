"""A shot on Label Studio's own timeline (labelstud.io/tags/video): boxes at keyframes, which the editor interpolates.

The pictures of a shot become the frames of an MP4 file, frames/<clip>/shot000.mp4, so that the first picture is frame
1 of the editor. What the editor shows between keyframes is read back as one box for each picture.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np

from mmvm_data.annotation.labelstudio.shapes import Result, check_results
from mmvm_data.annotation.tracks.layout import Shot
from mmvm_data.core.errors import OutputError
from mmvm_data.io import media
from mmvm_data.io.files import atomic_write

RATE: Final = 4
"""Pictures shown in a second. It is written into the label config too."""

SHAPE_TYPE: Final = "videorectangle"
_SIDES: Final = ("x", "y", "width", "height", "rotation")


def video_path(shot: Shot) -> str:
    """Where the video of a shot lies, relative to the folder: beside the folder of its pictures."""
    return str(Path(shot.frames[0].path).parent.with_suffix(".mp4").as_posix())


def write_video(directory: Path, shot: Shot) -> None:
    """Write the pictures of a shot as a video unless it is there; pictures of a cut clip never change.

    H.264, each frame a key frame, so that the editor can jump to any of them. Odd sides lose a pixel, since the
    format needs even ones; the editor's coordinates are shares of the sides.

    Raises:
        InputError: a picture cannot be read.
        OutputError: the folder cannot be written.
    """
    path = directory / video_path(shot)
    if path.exists():
        return
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "18", "bf": "0"})
        stream.width, stream.height = (side // 2 * 2 for side in (shot.frames[0].width, shot.frames[0].height))
        stream.pix_fmt, stream.gop_size, stream.thread_count = "yuv420p", 1, 1
        for number, frame in enumerate(shot.frames):
            image = media.read_frame_bgr(directory, frame)
            image = cv2.resize(image, (stream.width, stream.height), interpolation=cv2.INTER_AREA).astype(np.uint8)
            shown = av.VideoFrame.from_ndarray(image, format="bgr24")
            shown.pts, shown.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(shown))
        container.mux(stream.encode(None))
    try:
        with atomic_write(path, "wb") as out:
            out.write(buffer.getvalue())
    except OSError as error:
        raise OutputError(path, error) from error


def expand_keyframes(results: Any, shot: Shot) -> list[Result]:
    """The results of an annotation, with a rectangle in each picture in place of boxes of a timeline.

    As the editor shows them (1.23): nothing before the first keyframe; between two keyframes each side moves evenly;
    after the last one it stays. Where a keyframe ends the box, it is shown there and not again until a keyframe that
    does not.

    Raises:
        ValueError: a box is broken; one line.
    """
    expanded: list[Result] = []
    for result in check_results(results):
        if result.get("type") != SHAPE_TYPE:
            expanded.append(result)
            continue
        common = {key: value for key, value in result.items() if key not in ("type", "value")}
        common |= {"original_width": shot.frames[0].width, "original_height": shot.frames[0].height}
        keyframes = _read_keyframes(result)
        for position in range(len(shot.frames)):
            box = _box_at(keyframes, position + 1)
            if box is not None:
                expanded.append(common | {"type": "rectangle", "item_index": position, "value": box})
        expanded.append(common | {"type": "labels", "value": {"labels": result["value"].get("labels")}})
    return expanded


def _read_keyframes(result: Result) -> list[dict[str, Any]]:
    sequence = result["value"].get("sequence")
    if not isinstance(sequence, list) or not sequence:
        raise ValueError("a box of the timeline has no keyframes")
    keyframes = []
    for keyframe in sequence:
        try:
            read = {side: float(keyframe.get(side) or 0) for side in _SIDES} | {"frame": int(keyframe["frame"])}
            read["enabled"] = bool(keyframe.get("enabled", True))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("a keyframe of a box has no frame, x, y, width and height") from error
        keyframes.append(read)
    return sorted(keyframes, key=lambda keyframe: int(keyframe["frame"]))


def _box_at(keyframes: Sequence[Mapping[str, Any]], frame: int) -> dict[str, float] | None:
    """Sides in per cent at a frame, from 1 on; None where the box is not shown."""
    before = max((k for k in keyframes if k["frame"] <= frame), key=lambda k: int(k["frame"]), default=None)
    if before is None or (not before["enabled"] and before["frame"] != frame):
        return None
    after = min((k for k in keyframes if k["frame"] > frame), key=lambda k: int(k["frame"]), default=None)
    if after is None or before["frame"] == frame:
        return {side: before[side] for side in _SIDES}
    share = (frame - before["frame"]) / (after["frame"] - before["frame"])
    return {side: before[side] + share * (after[side] - before[side]) for side in _SIDES}

"""Random access to video frames, and memory of a long clip; prints one JSON object.

1. Speed: 16 of 300 frames of a 720p H.264 clip, in random order, from a file that no process has seen to pixels, over
   ``decord.VideoReader`` alone; at most 1.5. The clip is one that decord reads right. Beside it: with the index kept
   on disk, by PyAV, and PyAV decoding from the start up to the last of the frames.
2. Memory: peak resident memory of a process that indexes an MPEG-2 clip of two hours (160 x 120, which is decoded once
   for its index), reads 16 of its frames and then all of them in one pass, over that for a sixtieth of it; at
   most 1.15. The index takes 20 bytes a frame, twice that while it is made.

The sides are timed in turn in one process; the file is in the page cache for all of them. decord uses one thread, as
the workers of a build do.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
from common import emit, machine, peak_mb, seconds
from numpy.typing import NDArray

from mmvm_data.io import media, video_index
from mmvm_data.io.video_decoders import DECODER_VARIABLE, DecordDecoder
from mmvm_data.io.video_reader import iter_video_frames

FRAMES, PICKED, SPEED_LIMIT, MEMORY_LIMIT = 300, 16, 1.5, 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--minutes", type=int, default=120, help="length of the long clip")
    parser.add_argument("--out", type=Path, help="write the JSON here too")
    parser.add_argument("--child", type=Path, metavar="CLIP", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(read_clip(arguments.child))
        return
    with tempfile.TemporaryDirectory(prefix="mmvm-bench-") as scratch:
        emit(measure(Path(scratch), arguments.runs, arguments.minutes), arguments.out)


def measure(scratch: Path, runs: int, minutes: int) -> dict[str, Any]:
    """Return all results, with the limits beside the values; times in seconds, medians over ``runs``."""
    facts = machine()
    clip = write_clip(scratch / "clip.mp4", "libx264", (1280, 720), FRAMES)
    numbers = random.Random(0).sample(range(FRAMES), PICKED)
    cache = scratch / "cache"
    sides: dict[str, Callable[[], object]] = {
        "decord": lambda: read_by_decord(clip, numbers),
        "first_use": lambda: read_by_media(clip, numbers, None, "decord"),
        "index_on_disk": lambda: read_by_media(clip, numbers, cache, "decord"),
        "pyav_first_use": lambda: read_by_media(clip, numbers, None, "pyav"),
        "pyav_sequential": lambda: read_in_order(clip, numbers),
    }
    expected = read_in_order(clip, numbers)
    for side, read in sides.items():
        if not all(np.array_equal(a, b) for a, b in zip(read(), expected, strict=True)):  # type: ignore[call-overload]
            raise SystemExit(f"{side}: other frames than a sequential decode")
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(runs):
        for side, read in sides.items():
            times[side].append(seconds(read))
    middle = {side: statistics.median(values) for side, values in times.items()}
    ratio = middle["first_use"] / middle["decord"]
    sizes = {"short": minutes * 30, "long": minutes * 60 * 30}
    peaks = {
        name: child(write_clip(scratch / f"{name}.ts", "mpeg2video", (160, 120), frames))
        for name, frames in sizes.items()
    }
    growth = peaks["long"] / peaks["short"]
    return {
        "machine": facts,
        "runs": runs,
        "speed": {
            "frames": FRAMES,
            "picked": PICKED,
            "seconds": {side: round(value, 4) for side, value in middle.items()},
            "ratio_to_decord": round(ratio, 3),
            "ratio_with_index_on_disk": round(middle["index_on_disk"] / middle["decord"], 3),
            "ratio_of_pyav": round(middle["pyav_first_use"] / middle["decord"], 3),
            "limit": SPEED_LIMIT,
            "within": ratio <= SPEED_LIMIT,
        },
        "memory": {
            "frames": sizes,
            "peak_mb": {name: round(value, 1) for name, value in peaks.items()},
            "ratio": round(growth, 3),
            "limit": MEMORY_LIMIT,
            "within": growth <= MEMORY_LIMIT,
        },
    }


def read_by_decord(clip: Path, numbers: list[int]) -> list[NDArray[np.uint8]]:
    """Frames as RGB, by decord alone."""
    decoder = DecordDecoder(clip)
    return [decoder.decode_rgb(n) for n in numbers]


def read_by_media(clip: Path, numbers: list[int], cache: Path | None, decoder: str) -> list[NDArray[np.uint8]]:
    """Frames as RGB, as a build reads them, in a process that does not know the file."""
    os.environ[DECODER_VARIABLE] = decoder
    video_index._indices.clear()
    video_index._cache_folders.clear()
    media._open_decoders.clear()
    media.read_video_info(clip, cache)
    return [media._get_decoder(clip).decode_rgb(n) for n in numbers]


def read_in_order(clip: Path, numbers: list[int]) -> list[NDArray[np.uint8]]:
    """Frames as RGB, by PyAV from the start of the file."""
    shown: dict[int, NDArray[np.uint8]] = {}
    with av.open(str(clip)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            if n in numbers:
                shown[n] = frame.to_ndarray(format="rgb24")
            if len(shown) == len(numbers):
                break
    return [shown[n] for n in numbers]


def read_clip(clip: Path) -> float:
    """Index a clip, read 16 frames and then all of them, and return this process's peak memory in MB."""
    count = media.read_video_info(clip).frames
    for n in random.Random(0).sample(range(count), PICKED):
        media._read_video_frame(clip, n)
    for frame in iter_video_frames(clip, 30):
        frame.small_bgr(64)
    return peak_mb()


def child(clip: Path) -> float:
    """Return what ``read_clip`` returns in a process of its own."""
    command = [sys.executable, __file__, "--child", str(clip)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write_clip(path: Path, codec: str, size: tuple[int, int], frames: int) -> Path:
    """Write a clip of a moving pattern at 30 frames a second; x264 decides on key frames itself."""
    width, height = size
    rng = np.random.default_rng(0)
    ground = np.kron(rng.integers(0, 255, (height // 20, width // 10, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        if codec == "libx264":
            stream.options = {"preset": "veryfast", "g": "60"}
        for n in range(frames):
            image = np.ascontiguousarray(ground[:, n * 2 % width : n * 2 % width + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()

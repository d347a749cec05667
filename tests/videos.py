"""Videos whose frames carry their number as a barcode, in many containers and codecs, written by ffmpeg.

The top sixth of a frame holds ten blocks of equal width; block b is white when bit b (lowest first) of the number is
set, else black. Below it a pattern moves, so that codecs predict from frame to frame.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

WIDTH, HEIGHT, BITS = 160, 120, 10
LENGTH = 75
_X264 = "-c:v libx264 -preset veryfast -pix_fmt yuv420p -g 24 -bf 3"
_X265 = "-c:v libx265 -preset ultrafast -pix_fmt yuv420p -x265-params log-level=error:keyint=24:min-keyint=24:bframes=3"


class VideoSpec(NamedTuple):
    """How a video is made.

    Attributes:
        name: of the file.
        arguments: for ffmpeg, after the frames.
        remux: arguments of a second ffmpeg that copies the encoded stream; None: no second one.
        numbers: barcodes of the frames that it shows; None: those of a sequential decode, which ascend.
        damage: changes the file's bytes.
    """

    name: str
    arguments: str
    remux: str | None = None
    numbers: tuple[int, ...] | None = tuple(range(LENGTH))
    damage: Callable[[bytes], bytes] | None = None


def _without_start(data: bytes) -> bytes:
    """A transport stream that was tuned into: whole packets from a quarter of the file on."""
    return data[len(data) // 4 // 188 * 188 :]


VIDEOS = (
    VideoSpec("h264.mp4", _X264),
    VideoSpec("h264.mov", _X264),
    VideoSpec("h264.mkv", _X264),
    VideoSpec("h264.avi", _X264),
    VideoSpec("h264.ts", _X264),
    VideoSpec("h264_fragments.mp4", f"{_X264} -movflags frag_keyframe+empty_moov"),
    VideoSpec("h264_open_gop.mp4", f"{_X264} -x264-params open-gop=1"),
    VideoSpec("h264_intra_refresh.mp4", f"{_X264} -x264-params intra-refresh=1"),
    VideoSpec("h264_intra_refresh.ts", f"{_X264} -x264-params intra-refresh=1"),
    VideoSpec("h264_interlaced.ts", f"{_X264} -flags +ildct+ilme -x264-params tff=1"),
    VideoSpec("h264_variable_rate.mp4", f"{_X264} -vf select=gt(mod(n\\,5)\\,1) -vsync vfr", numbers=None),
    VideoSpec("h264_edit_list.mp4", _X264, "-ss 1.05 -i {} -c copy", numbers=tuple(range(32, LENGTH))),
    VideoSpec("h264_cut.mkv", _X264, "-ss 1.05 -i {} -c copy", numbers=tuple(range(24, LENGTH))),
    VideoSpec("h264_negative_start.mkv", _X264, "-i {} -c copy -output_ts_offset -0.7 -avoid_negative_ts disabled"),
    VideoSpec("h264_no_first_key.mkv", _X264, "-i {} -c copy -bsf:v noise=drop=lt(n\\,6)", numbers=None),
    VideoSpec("h264_no_first_key.ts", _X264, numbers=None, damage=_without_start),
    VideoSpec("h264_rotated.mp4", _X264, "-i {} -c copy -metadata:s:v rotate=90"),
    VideoSpec("hevc_open_gop.mp4", _X265),
    VideoSpec("hevc_closed.mkv", f"{_X265}:open-gop=0"),
    VideoSpec("hevc_closed.mp4", f"{_X265}:open-gop=0 -tag:v hvc1"),
    VideoSpec("hevc_leading_frames.mp4", f"{_X265}:open-gop=0:radl=2"),
    VideoSpec("hevc.ts", _X265),
    VideoSpec("vp9.webm", "-c:v libvpx-vp9 -g 24 -cpu-used 5 -deadline realtime -auto-alt-ref 1 -lag-in-frames 16"),
    VideoSpec("vp8.webm", "-c:v libvpx -g 24 -auto-alt-ref 1 -lag-in-frames 16 -b:v 500k"),
    VideoSpec("av1.mp4", "-c:v libaom-av1 -cpu-used 8 -usage realtime -g 24"),
    VideoSpec("av1.mkv", "-c:v libaom-av1 -cpu-used 8 -g 24 -lag-in-frames 16"),
    VideoSpec("mpeg2.mpg", "-c:v mpeg2video -q:v 3 -g 15 -bf 2"),
    VideoSpec("mpeg2.ts", "-c:v mpeg2video -q:v 3 -g 15 -bf 2"),
    VideoSpec("mpeg2.mkv", "-c:v mpeg2video -q:v 3 -g 15 -bf 2"),
    VideoSpec("mpeg1.mpg", "-c:v mpeg1video -q:v 3 -g 15 -bf 2"),
    VideoSpec("mpeg4.avi", "-c:v mpeg4 -q:v 3 -g 24 -bf 2"),
    VideoSpec("mpeg4.ts", "-c:v mpeg4 -q:v 3 -g 24 -bf 2"),
    VideoSpec("mpeg4.mp4", "-c:v mpeg4 -q:v 3 -g 24 -bf 2"),
    VideoSpec("mpeg4_simple.mp4", "-c:v mpeg4 -q:v 3 -g 24"),
    VideoSpec("mjpeg.avi", "-c:v mjpeg -pix_fmt yuvj420p -q:v 3"),
    VideoSpec("mjpeg.mov", "-c:v mjpeg -pix_fmt yuvj422p -q:v 3"),
    VideoSpec("prores.mov", "-c:v prores_ks"),
    VideoSpec("ffv1.mkv", "-c:v ffv1 -pix_fmt yuv444p -g 10"),
)


def require_ffmpeg() -> str:
    """Path of the program; without it the test is skipped, and fails in CI."""
    program = shutil.which("ffmpeg")
    if program is None:
        message = "ffmpeg is missing: apt-get install ffmpeg"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return program


def write_video(folder: Path, spec: VideoSpec, length: int = LENGTH) -> Path:
    """Write a video into a folder, and return its path."""
    program = [require_ffmpeg(), "-hide_banner", "-loglevel", "error", "-y"]
    path = folder / spec.name
    encoded = path if spec.remux is None else folder / f"encoded_{path.stem}.mp4"
    raw = f"-f rawvideo -pix_fmt rgb24 -s {WIDTH}x{HEIGHT} -r 30 -i -".split()
    frames = b"".join(draw_frame(n).tobytes() for n in range(length))
    subprocess.run([*program, *raw, *spec.arguments.split(), str(encoded)], input=frames, check=True)
    if spec.remux is not None:
        arguments = [word.format(encoded) for word in spec.remux.split()]
        subprocess.run([*program, *arguments, str(path)], check=True)
        encoded.unlink()
    if spec.damage is not None:
        path.write_bytes(spec.damage(path.read_bytes()))
    return path


def draw_frame(number: int) -> NDArray[np.uint8]:
    """The frame of a number: uint8 [HEIGHT, WIDTH, 3], RGB."""
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (12, 32, 3), dtype=np.uint8), (2 * WIDTH, HEIGHT))
    frame = np.roll(ground, -2 * number, axis=1)[:, :WIDTH].copy()
    cv2.circle(frame, (20 + 3 * number % 120, 70 + number % 30), 15, (250, 240, 30), -1)
    for bit in range(BITS):
        x = WIDTH * bit // BITS
        frame[: HEIGHT // 6, x : WIDTH * (bit + 1) // BITS] = 255 * (number >> bit & 1)
    return frame


def read_barcode(image: NDArray[np.uint8]) -> int:
    """The number in the barcode of a frame, of any size and order of colors."""
    height, width = image.shape[:2]
    strip = image[: height // 6].astype(float).mean(axis=2)[height // 24 : height // 8]
    block = width / BITS
    thirds = [strip[:, round(block * (b + 1 / 3)) : round(block * (b + 2 / 3))].mean() for b in range(BITS)]
    return sum(1 << bit for bit, value in enumerate(thirds) if value > 128)


def decode_all(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame of a sequential decode by PyAV: uint8 [h, w, 3], RGB."""
    import av

    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

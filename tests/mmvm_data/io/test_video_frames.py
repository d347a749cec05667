"""Frame N of a video is the N-th frame that a sequential decode shows, in any order of access."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import media
from mmvm_data.io.video_decoders import DECODER_VARIABLE, DecordDecoder
from mmvm_data.io.video_reader import iter_video_frames
from tests.videos import VIDEOS, VideoSpec, decode_all, read_barcode, write_video

SHARED_CLIPS = ("h264.avi", "cut_editlist.mp4", "hevc_open.mp4", "mpg_default.mpg", "av1.mp4", "h264_b.mp4")
DECORD_READS = (
    *(
        "h264.mp4",
        "h264.mov",
        "h264.mkv",
        "h264_cut.mkv",
        "h264_fragments.mp4",
        "h264_variable_rate.mp4",
        "hevc_closed.mkv",
    ),
    *("hevc_closed.mp4", "vp9.webm", "mjpeg.mov", "ffv1.mkv"),
)


def check_every_frame(path: Path, expected: list[NDArray[np.uint8]]) -> None:
    """Compare ascending, descending and random access, each from a newly opened file, and one pass."""
    count = len(expected)
    info = media.read_video_info(path)
    assert (info.frames, info.height, info.width) == (count, *expected[0].shape[:2])
    orders = (range(count), range(count - 1, -1, -1), random.Random(path.name).sample(range(count), count))
    for order in orders:
        media._open_decoders.clear()
        for n in order:
            frame = Frame(path=path.name, index=n, width=info.width, height=info.height, video_frame=n)
            shown = media.bgr_to_rgb(media.load_frame(path.parent, frame).bgr)
            assert np.array_equal(shown, expected[n]), f"frame {n} is {read_barcode(shown)}"
    streamed = [media.bgr_to_rgb(frame.bgr()) for frame in iter_video_frames(path, 30)]
    assert len(streamed) == count
    assert all(np.array_equal(a, b) for a, b in zip(streamed, expected, strict=True))
    with pytest.raises(InputError, match=f"there is no frame {count}, the video has {count}"):
        media.load_frame(path.parent, frame.model_copy(update={"video_frame": count}))


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("name", SHARED_CLIPS)
def test_published_clips(cases: Path, monkeypatch: pytest.MonkeyPatch, name: str, decoder: str) -> None:
    monkeypatch.setenv(DECODER_VARIABLE, decoder)
    path = cases / "video_wrong_frames" / name
    expected = decode_all(path)
    numbers = [read_barcode(frame) for frame in expected]
    assert numbers == list(range(numbers[0], numbers[0] + len(expected)))
    check_every_frame(path, expected)


@pytest.mark.parametrize("decoder", ["decord", "pyav"])
@pytest.mark.parametrize("spec", VIDEOS, ids=lambda spec: spec.name)
def test_generated_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: VideoSpec, decoder: str) -> None:
    monkeypatch.setenv(DECODER_VARIABLE, decoder)
    path = write_video(tmp_path, spec)
    expected = decode_all(path)
    numbers = [read_barcode(frame) for frame in expected]
    assert len(numbers) > 20
    assert numbers == sorted(set(numbers) if spec.numbers is None else spec.numbers)
    check_every_frame(path, expected)
    # decord answers where the index needs no decoding, and nowhere else
    is_decord = isinstance(getattr(media._get_decoder(path), "current", None), DecordDecoder)
    assert is_decord == (decoder == "decord" and spec.name in DECORD_READS)

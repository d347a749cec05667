"""decord and PyAV give the same frames behind the same functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media
from mmvm_data.io.video_decoders import DECODER_VARIABLE, DecordDecoder, PyAVDecoder, open_decoder
from mmvm_data.io.video_index import get_index
from mmvm_data.io.video_reader import iter_video_frames, read_stream_info

CLIPS = ("davis2017_schoolgirls_240p/schoolgirls.mp4", "sam2_bedroom_video/bedroom.mp4")


@pytest.mark.parametrize("clip", CLIPS)
def test_both_decoders_give_equal_frames(realdata: Path, clip: str) -> None:
    decord, pyav = DecordDecoder(realdata / clip), PyAVDecoder(realdata / clip)
    assert decord.agrees_with(get_index(realdata / clip))
    assert len(decord) == len(pyav)
    last = len(decord) - 1
    for index in (0, 1, 2, last, 40, 41, 7, last - 1, 0):  # forward, backward and again
        np.testing.assert_array_equal(decord.decode_rgb(index), pyav.decode_rgb(index))


def test_media_reads_through_either(realdata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = {}
    for name, kind in (("decord", DecordDecoder), ("pyav", PyAVDecoder)):
        monkeypatch.setenv(DECODER_VARIABLE, name)
        media._open_decoders.clear()
        frames[name] = media._read_video_frame(realdata / CLIPS[1], 33)
        (decoder,) = media._open_decoders.values()
        assert isinstance(getattr(decoder, "current", decoder), kind)
    media._open_decoders.clear()
    np.testing.assert_array_equal(frames["decord"], frames["pyav"])


def test_one_pass_gives_the_frames_of_random_access_and_their_times(realdata: Path) -> None:
    path = realdata / CLIPS[0]
    assert read_stream_info(path) == (24.0, 80)
    for frame in iter_video_frames(path, 30):
        assert frame.time == pytest.approx(frame.index / 24, abs=1e-4)
        if frame.index % 13 == 0:
            np.testing.assert_array_equal(frame.bgr(), media._read_video_frame(path, frame.index))
            assert frame.small_bgr(100).shape == (56, 100, 3)
    assert frame.index == 79


def test_broken_files_and_unknown_decoders_are_refused(
    realdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "noise.mp4").write_bytes(b"no video" * 100)
    (tmp_path / "cut.mp4").write_bytes((realdata / CLIPS[1]).read_bytes()[:50_000])
    for kind in (DecordDecoder, PyAVDecoder):
        for name in ("noise.mp4", "cut.mp4"):
            with pytest.raises(InputError, match="cannot be opened"):
                kind(tmp_path / name)
    monkeypatch.setenv(DECODER_VARIABLE, "gstreamer")
    with pytest.raises(UsageError, match="must be 'decord' or 'pyav', got 'gstreamer'"):
        open_decoder(realdata / CLIPS[0])

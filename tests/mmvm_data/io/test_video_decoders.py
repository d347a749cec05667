"""decord and PyAV give the same frames behind the same functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmvm_data.core.errors import InputError, UsageError
from mmvm_data.io import media
from mmvm_data.io.video_decoders import DECODER_VARIABLE, DecordDecoder, PyAVDecoder, open_decoder

CLIPS = ("davis2017_schoolgirls_240p/schoolgirls.mp4", "sam2_bedroom_video/bedroom.mp4")


@pytest.mark.parametrize("clip", CLIPS)
def test_both_decoders_give_equal_frames(realdata: Path, clip: str) -> None:
    decord, pyav = DecordDecoder(realdata / clip), PyAVDecoder(realdata / clip)
    assert len(decord) == len(pyav)
    assert decord.fps == pytest.approx(pyav.fps)
    last = len(decord) - 1
    for index in (0, 1, 2, last, 40, 41, 7, last - 1, 0):  # forward, backward and again
        np.testing.assert_array_equal(decord.decode_rgb(index), pyav.decode_rgb(index))
    np.testing.assert_allclose(np.diff(decord.start_times()), np.diff(pyav.start_times()), atol=1e-4)


def test_scaled_frames_are_close(realdata: Path) -> None:
    size = (160, 90)
    decord, pyav = (kind(realdata / CLIPS[1], size) for kind in (DecordDecoder, PyAVDecoder))
    first, second = decord.decode_rgb(3), pyav.decode_rgb(3)
    assert first.shape == second.shape == (90, 160, 3)
    assert np.abs(first.astype(int) - second.astype(int)).mean() < 2


def test_media_reads_through_either(realdata: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, times = {}, {}
    for name in ("decord", "pyav"):
        monkeypatch.setenv(DECODER_VARIABLE, name)
        media._open_decoders.clear()
        info[name] = media.read_video_info(realdata / CLIPS[0])
        times[name] = [time for time, _ in media.iter_small_frames(realdata / CLIPS[0], 64)]
    media._open_decoders.clear()
    assert info["decord"] == info["pyav"]
    assert times["decord"] == pytest.approx(times["pyav"], abs=1e-4)


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

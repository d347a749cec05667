"""``build --source video`` and ``ingest`` show the frames that they name, of files that seeks go wrong in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmvm_data.annotation.tracks.cut import CutOptions, cut_clips
from mmvm_data.cases.sampling_options import SamplingOptions
from mmvm_data.formats.build_files import read_cases
from mmvm_data.io import media, video_index
from mmvm_data.pipeline import build
from mmvm_data.pipeline.options import BuildOptions
from tests.videos import HEIGHT, VIDEOS, WIDTH, VideoSpec, decode_all, read_barcode, write_video
from tests.worlds import tree

BUILT_TWICE = ("h264.avi", "h264_edit_list.mp4", "hevc_open_gop.mp4", "mpeg2.mpg", "h264.ts", "h264_rotated.mp4")


@pytest.mark.parametrize("spec", VIDEOS, ids=lambda spec: spec.name)
def test_builds_and_ingest_show_the_frames_that_they_name(tmp_path: Path, spec: VideoSpec) -> None:
    clip = write_video(tmp_path, spec)
    numbers = [read_barcode(frame) for frame in decode_all(clip)]
    folder = tmp_path / f"{clip.stem}_masks"
    folder.mkdir()
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, x in enumerate((10, 60, 110), start=1):
        labels[30:90, x : x + 40] = value
    for n in range(0, len(numbers), 3):
        picture = Image.fromarray(labels, "P")
        picture.putpalette(range(256))
        picture.save(folder / f"{n:05d}.png")
    options = BuildOptions(sampling=SamplingOptions(cases_per_video=12, min_sharpness=0, min_area=100, none_share=0))
    for out in ("one", "two")[: 1 + (spec.name in BUILT_TWICE)]:
        video_index._indices.clear()
        media._open_decoders.clear()
        build.build("video", tmp_path, tmp_path / out, options)
        assert len(list((tmp_path / f".{out}.index").glob("*.video"))) == 1
        assert tree(tmp_path / "one") == tree(tmp_path / out)
    checked = 0
    for case in read_cases(tmp_path / "one"):
        assert case.provenance is not None
        for written, origin in zip(case.frames, case.provenance.frames, strict=True):
            assert read_barcode(media.read_frame_bgr(tmp_path / "one", written)) == numbers[origin.index]
            assert not media.has_orientation(tmp_path / "one" / written.path)
            checked += 1
    assert checked >= 20

    done = cut_clips([clip], tmp_path / "clips", CutOptions(min_step=0, min_change=0, max_frames=200, min_shot=0))
    pictures = [frame for shot in done.clips[0].shots for frame in shot.frames]
    assert [frame.index for frame in pictures] == list(range(len(numbers)))
    assert [read_barcode(media.read_frame_bgr(tmp_path / "clips", frame)) for frame in pictures] == numbers
    for frame in pictures:
        assert (frame.width, frame.height) == (WIDTH, HEIGHT)
        assert not media.has_orientation(tmp_path / "clips" / frame.path)

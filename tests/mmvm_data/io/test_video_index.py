"""The index of a video: when it is kept, when it is made again, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmvm_data.core.errors import InputError
from mmvm_data.core.types import Frame
from mmvm_data.io import media, video_index
from mmvm_data.io.video_index import VideoIndex, get_index
from mmvm_data.io.video_reader import iter_video_frames
from tests.videos import HEIGHT, VIDEOS, WIDTH, decode_all, read_barcode, write_video


def write(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return write_video(folder, next(spec for spec in VIDEOS if spec.name == name))


def load(path: Path, n: int) -> int:
    frame = Frame(path=path.name, index=n, width=WIDTH, height=HEIGHT, video_frame=n)
    return read_barcode(media.load_frame(path.parent, frame).bgr)


def assert_same(a: VideoIndex, b: VideoIndex) -> None:
    for field in VideoIndex.__dataclass_fields__:
        assert np.array_equal(getattr(a, field), getattr(b, field)), field


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were indexed; the memory of the process is empty."""
    calls: list[Path] = []
    real = video_index.build_index

    def counted(path: Path) -> VideoIndex:
        calls.append(path)
        return real(path)

    monkeypatch.setattr(video_index, "build_index", counted)
    video_index._indices.clear()
    return calls


def test_an_index_is_kept_in_memory_and_on_disk(tmp_path: Path, builds: list[Path]) -> None:
    path, cache = write(tmp_path, "mpeg2.mpg"), tmp_path / "cache"
    first = get_index(path, cache)
    assert (len(first), len(first.checksums), first.problem) == (75, 75, "container mpeg")
    assert get_index(path) is first
    video_index._indices.clear()
    assert_same(get_index(path), first)  # the folder named before
    assert builds == [path]
    (file,) = cache.iterdir()
    for damaged in (b"", file.read_bytes()[:-1], file.read_bytes()[:60] + b"x" + file.read_bytes()[61:]):
        file.write_bytes(damaged)
        video_index._indices.clear()
        assert_same(get_index(path, cache), first)
    assert len(builds) == 4


def test_another_content_is_indexed_again(tmp_path: Path, builds: list[Path]) -> None:
    path, cache = write(tmp_path, "mpeg2.mpg"), tmp_path / "cache"
    get_index(path, cache)
    before = os.stat(path)
    other = write(tmp_path / "other", "mpeg1.mpg").read_bytes()
    path.write_bytes(other[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and time: the first bytes tell
    get_index(path, cache)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    get_index(path, cache)
    assert len(builds) == 3


def test_a_folder_that_cannot_be_written_costs_time_only(tmp_path: Path, builds: list[Path]) -> None:
    path = write(tmp_path, "mpeg2.mpg")
    (tmp_path / "file").write_bytes(b"")
    assert len(get_index(path, tmp_path / "file" / "cache")) == 75


def test_exact_files_are_not_decoded(tmp_path: Path) -> None:
    for name in ("h264.mp4", "h264.mkv", "vp9.webm", "mjpeg.mov", "av1.mp4"):
        index = get_index(write(tmp_path, name))
        assert (len(index), len(index.checksums), index.problem) == (75, 0, "")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("h264.avi", "container avi"),
        ("h264.ts", "container mpegts"),
        ("h264_intra_refresh.mp4", "a key frame needs frames before it"),
        ("hevc_open_gop.mp4", "a key frame needs frames before it"),
        ("hevc_leading_frames.mp4", "frames are shown before the key frame that they follow"),
        ("h264_edit_list.mp4", "an edit list hides frames"),
        ("h264_negative_start.mkv", "time stamps are missing or negative"),
        ("h264_no_first_key.mkv", "the first frame is no key frame"),
        ("mpeg2.mkv", "codec mpeg2video"),
    ],
)
def test_other_files_are_decoded_once_and_say_why(tmp_path: Path, name: str, problem: str) -> None:
    index = get_index(write(tmp_path, name))
    assert index.problem == problem
    assert len(index.checksums) == len(index) > 20


def test_wrong_seeks_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames stay right when every seek leads into the middle of a group of pictures."""
    path = write(tmp_path, "mpeg4.ts")  # its decoder shows gray where references are missing
    expected = decode_all(path)
    index = get_index(path)
    keys = np.stack((index.timestamps[::5], index.timestamps[::5]), axis=1)
    key = os.path.abspath(path)
    known = video_index._indices[key]
    monkeypatch.setitem(video_index._indices, key, (known[0], video_index.replace(index, keys=keys)))
    for n in (70, 3, 44, 45, 20):
        frame = Frame(path=path.name, index=n, width=WIDTH, height=HEIGHT, video_frame=n)
        assert np.array_equal(media.bgr_to_rgb(media.load_frame(tmp_path, frame).bgr), expected[n])


def break_frame(path: Path, number: int) -> None:
    """Overwrite the start of a frame in a file of JPEG frames, which keeps its place and size."""
    data = bytearray(path.read_bytes())
    start = -1
    for _ in range(number + 1):
        start = data.index(b"\xff\xd8\xff", start + 1)
    data[start : start + 400] = b"\0" * 400
    path.write_bytes(data)


def test_a_broken_frame_keeps_its_number(tmp_path: Path) -> None:
    path = write(tmp_path, "mjpeg.mov")
    break_frame(path, 20)
    assert [load(path, n) for n in (19, 21, 74)] == [19, 21, 74]
    with pytest.raises(InputError, match="frame cannot be decoded") as caught:
        load(path, 20)
    assert caught.value.field == "frame 20"


def test_a_file_whose_frames_cannot_be_numbered_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "mjpeg.avi")
    break_frame(path, 20)
    reason = "video cannot be indexed: frames after frame 19 cannot be decoded"
    with pytest.raises(InputError, match=reason) as caught:
        media.read_video_info(path)
    assert "mjpeg.avi" in str(caught.value)
    with pytest.raises(InputError, match="frame cannot be decoded"):
        list(iter_video_frames(path, 30))


def test_a_broken_end_shortens_the_video(tmp_path: Path) -> None:
    path = write(tmp_path, "mpeg2.ts")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    expected = decode_all(path)
    assert 20 < len(expected) < 75
    assert media.read_video_info(path).frames == len(expected)
    assert load(path, len(expected) - 2) == read_barcode(expected[-2])


@pytest.mark.parametrize(
    ("name", "old", "new", "codec"),
    [
        ("mjpeg.mov", b"jpeg", b"zzzz", "'zzzz'"),
        ("mjpeg.avi", b"MJPG", b"ZZZZ", "'ZZZZ'"),
        ("vp9.webm", b"V_VP9", b"V_ZZ9", "'V_ZZ9'"),
    ],
)
def test_an_unknown_codec_is_named(tmp_path: Path, name: str, old: bytes, new: bytes, codec: str) -> None:
    path = write(tmp_path, name)
    path.write_bytes(path.read_bytes().replace(old, new))
    call: Any
    for call in (media.read_video_info, lambda p: list(iter_video_frames(p, 30))):
        with pytest.raises(InputError, match=f"video codec {codec}.* is unknown to the installed FFmpeg"):
            call(path)


def test_rotation_metadata_leaves_the_pixels_as_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "h264_rotated.mp4")
    assert abs(get_index(path).rotation) == 90
    for decoder in ("decord", "pyav"):
        monkeypatch.setenv("MMVM_VIDEO_DECODER", decoder)
        media._open_decoders.clear()
        assert media.read_video_info(path)[:3] == (75, WIDTH, HEIGHT)
        assert load(path, 41) == 41


def test_tags_that_are_not_utf_8_are_no_obstacle(tmp_path: Path) -> None:
    path = write(tmp_path, "h264.mkv")
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xe9\xff\xf0v"))
    assert media.read_video_info(path)[:3] == (75, WIDTH, HEIGHT)
    assert load(path, 41) == 41
